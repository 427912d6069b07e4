package replay_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestStory_idsInSubjectAndCapitals: the files of a recording, whose event has the
// ids in its subject alone, belong to the call, and a GUID is the same in capitals.
func TestStory_idsInSubjectAndCapitals(t *testing.T) {
	const leg, correlation, server = "0e1f2a3b-abcd-4ef0-8333-44445555abcd", "9a9b9c9d-abcd-4111-8222-3333abcdef55", "c2VydmVyQ2FsbA/+="
	s := newStream(t)
	data := func(correlation string) string {
		return fmt.Sprintf(`"serverCallId":%q,"correlationId":%q`, server, correlation)
	}
	s.tell("CallConnected", strings.ToUpper(leg), 0, `"correlationId":"`+strings.ToUpper(correlation)+`"`)
	s.tell("CallConnected", "leg-2", time.Second, `"correlationId":"`+correlation+`"`)
	s.tell("CallDisconnected", leg, 2*time.Second, data(correlation))
	s.tell("CallConnected", "other", 2*time.Second, `"serverCallId":"YW5vdGhlcg"`)
	subject := "/recording/call/" + strings.ToUpper(correlation) + "/serverCallId/" + server + "/recordingId/cmVj/b3Jk="
	m := nats.NewMsg(schemas.Subject("acs", "contoso", &schemas.Inbound{
		Type: "RecordingFileStatusUpdated", Grid: &schemas.GridEvent{CorrelationID: schemas.SubjectIDs(subject).CorrelationID},
	}))
	m.Data = fmt.Appendf(nil, `{"id":"r-1","topic":"/t","eventType":"Microsoft.Communication.RecordingFileStatusUpdated","eventTime":%q,"subject":%q,"data":{"recordingId":"cmVj/b3Jk="}}`,
		s.began.Add(time.Minute).Format("2006-01-02t15:04:05"), subject) // small t, no offset: UTC
	if _, err := s.js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}

	story, err := s.reader().Story(t.Context(), leg, s.began.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, step := range story.Steps {
		got = append(got, fmt.Sprintf("%d %s %s", step.Message.Sequence, step.Type, step.Leg.ID))
	}
	want := []string{"1 CallConnected " + leg, "2 CallConnected leg-2", "3 CallDisconnected " + leg, "5 RecordingFileStatusUpdated " + correlation}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if last := story.Steps[len(story.Steps)-1]; !last.Made.Equal(s.began.Add(time.Minute).Truncate(time.Second)) {
		t.Errorf("made at %v", last.Made)
	}
	calls, err := s.reader().Calls(t.Context(), replay.Selection{})
	if err != nil || len(calls) != 2 || calls[0].Events != 4 {
		t.Errorf("%d calls, error %v, want two, the first with four events", len(calls), err)
	}
}
