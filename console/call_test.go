package console_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/schemas"
)

// TestCall draws what is unusual: an event that is stored twice, one that failed, a
// participant on hold, a gap in the rosters.
func TestCall(t *testing.T) {
	t.Parallel()
	c, js := newConsole(t)
	began := time.Now().Add(-time.Minute).UTC().Truncate(time.Second)
	roster := func(number int, people ...string) string {
		return fmt.Sprintf(`,"sequenceNumber":%d,"participants":[%s]`, number, strings.Join(people, ","))
	}
	alice := `{"identifier":{"rawId":"4:+15550100123","kind":"phoneNumber","phoneNumber":{"value":"+15550100123"}},"isMuted":false,"isOnHold":%t}`
	for i, e := range []struct{ id, kind, data string }{
		{"1", "CallConnected", ""},
		{"1", "CallConnected", ""},
		{"2", "ParticipantsUpdated", roster(0, fmt.Sprintf(alice, false))},
		{"3", "ParticipantsUpdated", roster(3, fmt.Sprintf(alice, true))},
		{"4", "PlayStarted", `,"operationContext":"menu"`},
		{"5", "PlayFailed", `,"operationContext":"menu","resultInformation":{"code":400,"subCode":8535,"message":"+15550100123"}`},
		{"6", "CallDisconnected", ""},
	} {
		at := began.Add(time.Duration(i) * time.Second)
		m := nats.NewMsg(schemas.WithSlot("acs.contoso." + e.kind + ".c-1"))
		m.Data = fmt.Appendf(nil, `{"id":%q,"source":"calling/callConnections/c-1","type":"Microsoft.Communication.%s","time":%q,"specversion":"1.0","data":{"callConnectionId":"c-1"%s}}`,
			e.id, e.kind, at.Format(time.RFC3339), e.data)
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	status, page := request{path: "/calls/c-1"}.page(t, c)
	// The legend has a person too.
	for want, times := range map[string]int{
		`class="mark again"`: 1, `class="mark failed"`: 1, `class="mark event"`: 5, `class="person"`: 2, `class="person hold"`: 1,
		`class="operation failed"`: 1, "Play 1s": 1, "PlayFailed 400/8535 the audio file&#39;s format is wrong</text>": 1,
		"rosters of leg A: 1 to 2": 1, "is stored twice": 1, "4:&#43;***23": 5, "15550100123": 0, `href="/events/6"`: 3,
	} {
		if n := strings.Count(page, want); n != times || status != http.StatusOK {
			t.Errorf("%d: %s is there %d times, want %d", status, want, n, times)
		}
	}
	if status, page := (request{path: "/calls/none"}).page(t, c); status != http.StatusNotFound || !strings.Contains(page, "7 messages from") {
		t.Errorf("an unknown call: %d\n%s", status, page)
	}
	if status, _ := (request{path: "/calls?id=%20c-1%20"}).page(t, c); status != http.StatusSeeOther {
		t.Errorf("the search for an id: %d", status)
	}
	if status, page := (request{path: "/calls"}).page(t, c); status != http.StatusOK || !strings.Contains(page, `href="/calls/c-1"`) || !strings.Contains(page, "<strong class=\"failed\">1 failed") {
		t.Errorf("the list: %d\n%s", status, page)
	}
}

// TestCall_again loads a page once more: events without a call in their subjects, as that of
// a recording's file, are still there.
func TestCall_again(t *testing.T) {
	t.Parallel()
	c, js := newConsole(t)
	for subject, event := range map[string]string{
		"acs.contoso.RecordingStateChanged.c-1": `{"id":"1","source":"calling/callConnections/c-1","type":"Microsoft.Communication.RecordingStateChanged","specversion":"1.0",` +
			`"data":{"callConnectionId":"c-1","recordingId":"recording-1","state":"active"}}`,
		"acs.contoso.RecordingFileStatusUpdated._": `{"id":"2","source":"/subscriptions/x","subject":"/recording/call/x/recordingId/recording-1","type":"Microsoft.Communication.RecordingFileStatusUpdated","specversion":"1.0",` +
			`"data":{"recordingStorageInfo":{"recordingChunks":[]}}}`,
	} {
		m := nats.NewMsg(schemas.WithSlot(subject))
		m.Data = []byte(event)
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 2 {
		if status, page := (request{path: "/calls/c-1"}).page(t, c); status != http.StatusOK || !strings.Contains(page, ">RecordingFileStatusUpdated</a>") {
			t.Errorf("load %d: %d, the event is not on the page", n+1, status)
		}
	}
}
