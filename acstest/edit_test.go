package acstest_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/acstest"
)

func TestSet(t *testing.T) {
	const event = `{"id":"1","data":{"b":1,"a":{"list":[{"x":true},2]}},"time":"t"}`
	for _, test := range []struct{ path, value, want string }{
		{"id", "2", `{"id":"2","data":{"b":1,"a":{"list":[{"x":true},2]}},"time":"t"}`},
		{"data", "[1.0]", `{"id":"1","data":[1.0],"time":"t"}`},
		{"time", "two words", `{"id":"1","data":{"b":1,"a":{"list":[{"x":true},2]}},"time":"two words"}`},
		{"data.b", "null", `{"id":"1","data":{"b":null,"a":{"list":[{"x":true},2]}},"time":"t"}`},
		{"data.a.list.0.x", "false", `{"id":"1","data":{"b":1,"a":{"list":[{"x":false},2]}},"time":"t"}`},
		{"data.a.list.1", "", `{"id":"1","data":{"b":1,"a":{"list":[{"x":true},""]}},"time":"t"}`},
		{"data.c.d", `{"e":[]}`, `{"id":"1","data":{"b":1,"a":{"list":[{"x":true},2]},"c":{"d":{"e":[]}}},"time":"t"}`},
	} {
		got, err := acstest.Set(json.RawMessage(event), test.path, test.value)
		if err != nil || string(got) != test.want {
			t.Errorf("%s=%s: got %s, error %v\nwant %s", test.path, test.value, got, err, test.want)
		}
	}
	for path, want := range map[string]string{
		"":              "set : a name is empty",
		"data.":         "set data.: a name is empty",
		"id.x":          "set id.x: x would be a member of something that has none",
		"data.a.list.2": "set data.a.list.2: a list of 2 has no element 2, the first is 0",
		"data.a.list.x": "a list of 2 has no element x",
	} {
		if _, err := acstest.Set(json.RawMessage(event), path, "1"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", path, err, want)
		}
	}
}

func TestParseBody(t *testing.T) {
	for body, want := range map[string]int{` {"a":1} `: 1, `[{"a":1},{}]`: 2, `[]`: 0} {
		if got, err := acstest.ParseBody([]byte(body)); err != nil || len(got) != want {
			t.Errorf("%s: got %d events, error %v", body, len(got), err)
		}
	}
	for _, body := range []string{"", `"x"`, `{"a":`, `{}{}`} {
		if _, err := acstest.ParseBody([]byte(body)); err == nil {
			t.Errorf("%q: no error", body)
		}
	}
}

// TestDeliverAs: what was edited is posted byte for byte, on the call that it
// was made for.
func TestDeliverAs(t *testing.T) {
	const event = `{"id":"1","source":"s","type":"Microsoft.Communication.CallMoved","own":true}`
	b := &bridge{}
	caller, err := acstest.NewCaller(acstest.CallerOptions{Target: target, Signer: newIssuer(t), Transport: b})
	if err != nil {
		t.Fatal(err)
	}
	defer caller.Close()
	delivery, err := acstest.NewCall().DeliverAs([]json.RawMessage{json.RawMessage(event)})
	if err != nil {
		t.Fatal(err)
	}
	if answer := caller.Send(t.Context(), delivery); answer.Status != 200 || answer.Type != "CallMoved" {
		t.Errorf("status %d of a %s, error %v", answer.Status, answer.Type, answer.Err)
	}
	if got, want := string(b.posts[0].body), "["+event+"]"; got != want {
		t.Errorf("posted %s, want %s", got, want)
	}
	for _, events := range [][]json.RawMessage{nil, {json.RawMessage(`{"id":1}`)}, {json.RawMessage(`[]`)}} {
		if _, err := acstest.NewCall().DeliverAs(events); err == nil {
			t.Errorf("%s: no error", events)
		}
	}
}

func TestNewCallOf(t *testing.T) {
	call := acstest.NewCallOf("c-42")
	for name, want := range map[string]bool{"CallConnected": true, "RecordingStateChanged": false} {
		event, err := call.NewEvent(name)
		if err != nil {
			t.Fatal(err)
		}
		var data struct{ CallConnectionID string }
		if err := json.Unmarshal(event.Data, &data); err != nil {
			t.Fatal(err)
		}
		if got := data.CallConnectionID == "c-42"; got != want || strings.HasSuffix(event.Source, "/c-42") != want {
			t.Errorf("%s is of %q, source %s", name, data.CallConnectionID, event.Source)
		}
	}
}
