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

// add stores an event of a call: its type, its leg, when it was made, and the
// rest of its data.
func (s *stream) add(kind, leg string, at time.Duration, data string) {
	s.t.Helper()
	s.stored++
	s.repeat(kind, leg, at, data)
}

// repeat stores the last event once more.
func (s *stream) repeat(kind, leg string, at time.Duration, data string) {
	s.t.Helper()
	if data != "" {
		data = "," + data
	}
	m := nats.NewMsg(schemas.Subject("acs", "contoso", &schemas.Inbound{Type: kind, CallConnectionID: leg}))
	m.Data = fmt.Appendf(nil, `{"id":"e-%d","source":"calling/callConnections/%s","type":"Microsoft.Communication.%s","time":%q,"data":{"callConnectionId":%q%s}}`,
		s.stored, leg, kind, s.began.Add(at).Format(time.RFC3339Nano), leg, data)
	if _, err := s.js.PublishMsg(s.t.Context(), m); err != nil {
		s.t.Fatal(err)
	}
}

const (
	ids       = `"serverCallId":"c2VydmVyQ2FsbA/+=","correlationId":"00000000-corr-1"`
	escaped   = `"serverCallId":"c2VydmVyQ2FsbA\/\u002B=","correlationId":"00000000-corr-2"`
	secondIDs = `"correlationId":"00000000-corr-2"`
	well      = `,"resultInformation":{"code":200,"subCode":0}`
	hangup    = `,"resultInformation":{"code":200,"subCode":7000}`
)

// addCall stores a call of two legs and a recorder with many findings, among others.
func addCall(s *stream) {
	ms := time.Millisecond
	s.add("CallConnected", "other", -40*ms, `"serverCallId":"YW5vdGhlcg","correlationId":"00000000-corr-9"`)
	s.add("ParticipantsUpdated", "leg-1", 10*ms, ids+`,"sequenceNumber":0,"participants":[]`)
	s.add("CallConnected", "leg-1", 0, ids+well)
	s.repeat("CallConnected", "leg-1", 0, ids+well)
	s.add("CallConnected", "leg-1", 94*ms, ids+well)
	s.add("PlayStarted", "leg-1", 100*ms, ids+well+`,"operationContext":"greeting"`)
	s.add("PlayStarted", "leg-1", 150*ms, ids+well+`,"operationContext":"never-ends"`)
	s.add("PlayFailed", "leg-1", 400*ms, ids+`,"operationContext":"greeting","resultInformation":{"code":400,"subCode":8535}`)
	s.add("RecordingStateChanged", "recorder", 500*ms, escaped+`,"recordingId":"r-1","state":"active"`)
	s.add("CallConnected", "leg-2", 600*ms, secondIDs+well)
	s.add("PlayCompleted", "other", 700*ms, `"serverCallId":"YW5vdGhlcg"`)
	s.add("ParticipantsUpdated", "leg-1", 800*ms, ids+`,"sequenceNumber":4,"participants":[]`)
	s.add("ParticipantsUpdated", "leg-1", 850*ms, ids+`,"sequenceNumber":2,"participants":[]`)
	s.add("RecordingStateChanged", "recorder", 900*ms, escaped+`,"recordingId":"r-1","state":"inactive"`)
	s.add("CallDisconnected", "leg-1", time.Second, ids+hangup)
	s.add("CallDisconnected", "leg-2", 1100*ms, secondIDs+hangup)
}

var wantSteps = []string{
	"2 +10ms A ParticipantsUpdated",
	"3 +0s A CallConnected made before the event above it, 10ms earlier",
	"4 +0s A CallConnected again",
	"5 +94ms A CallConnected",
	"6 +100ms A PlayStarted",
	"7 +150ms A PlayStarted",
	"8 +400ms A PlayFailed took 300ms",
	"9 +500ms B RecordingStateChanged",
	"10 +600ms C CallConnected",
	"12 +800ms A ParticipantsUpdated",
	"13 +850ms A ParticipantsUpdated",
	"14 +900ms B RecordingStateChanged took 400ms",
	"15 +1s A CallDisconnected took 1s",
	"16 +1.1s C CallDisconnected took 500ms",
}

var wantFindings = []string{
	"twice CallConnected is stored twice, with the same id: sequences 3 and 4",
	"twice leg A has two CallConnected with different ids: sequences 3 and 5",
	"failed PlayFailed: 400/8535 (the audio file's format is wrong)",
	"missing Play of sequence 7 has no end",
	"missing rosters of leg A: 1, 3 (ACS leaves some out)",
}

// describe writes a story as text.
func describe(s *replay.Story) (steps, findings []string) {
	for _, step := range s.Steps {
		line := fmt.Sprintf("%d +%v %s %s", step.Message.Sequence, step.At.Sub(s.First()), step.Leg.Name, step.Type)
		if step.Took > 0 {
			line += fmt.Sprint(" took ", step.Took)
		}
		steps = append(steps, strings.TrimSpace(line+" "+step.Note))
	}
	for _, f := range s.Findings {
		findings = append(findings, string(f.Kind)+" "+f.Text)
	}
	return steps, findings
}

// TestStory finds the same story by each of its legs.
func TestStory(t *testing.T) {
	s := newStream(t)
	addCall(s)
	for _, leg := range []string{"leg-1", "leg-2", "recorder"} {
		story, err := s.reader().Story(t.Context(), leg, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		steps, findings := describe(story)
		if diff := cmp.Diff(wantSteps, steps); diff != "" {
			t.Errorf("asked for %s, steps (-want +got):\n%s", leg, diff)
		}
		if diff := cmp.Diff(wantFindings, findings); diff != "" {
			t.Errorf("asked for %s, findings (-want +got):\n%s", leg, diff)
		}
		if len(story.Legs) != 3 || !story.Legs[1].Recording || story.Legs[0].Recording || story.Legs[2].End == nil {
			t.Errorf("legs %+v", story.Legs)
		}
	}
	story, err := s.reader().Story(t.Context(), "none", time.Now())
	if err != nil || len(story.Steps) != 0 {
		t.Errorf("a call that is not there: %v, %v", story, err)
	}
}

// TestStory_incomingCall, though it comes by Event Grid, in either of
// its schemas, and has no connection.
func TestStory_incomingCall(t *testing.T) {
	for name, incoming := range map[string]string{
		"CloudEvents": `{"id":"g-1","source":"/subscriptions/x","type":"Microsoft.Communication.IncomingCall","time":%q,"data":{%s}}`,
		"Event Grid":  `{"id":"g-1","topic":"/subscriptions/x","eventType":"Microsoft.Communication.IncomingCall","eventTime":%q,"data":{%s}}`,
	} {
		s := newStream(t)
		at := s.began.Format(time.RFC3339Nano)
		m := nats.NewMsg("acs.contoso.IncomingCall.5.00000000-corr-1")
		m.Data = fmt.Appendf(nil, incoming, at, ids)
		m.Header = nats.Header{"ce-id": {"g-1"}, "ce-source": {"/subscriptions/x"}, "ce-type": {"Microsoft.Communication.IncomingCall"}, "ce-time": {at}}
		if _, err := s.js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		s.add("CallConnected", "leg-1", time.Second, ids+well)
		s.add("CallDisconnected", "leg-1", 2*time.Second, ids+hangup)
		for _, id := range []string{"leg-1", "00000000-corr-1"} {
			story, err := s.reader().Story(t.Context(), id, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			steps, findings := describe(story)
			want := []string{"1 +0s A IncomingCall", "2 +1s B CallConnected", "3 +2s B CallDisconnected took 1s"}
			if diff := cmp.Diff(want, steps); diff != "" || len(findings) > 0 || !story.Legs[0].EventGrid {
				t.Errorf("%s, asked for %s: findings %q, steps (-want +got):\n%s", name, id, findings, diff)
			}
		}
		calls, err := s.reader().Calls(t.Context(), replay.Selection{})
		if err != nil || len(calls) != 1 || calls[0].State(time.Now()) != replay.Ended {
			t.Errorf("%s: calls %+v, %v", name, calls, err)
		}
	}
}

// TestStory_withoutEnd depends on how long ago the last event was.
func TestStory_withoutEnd(t *testing.T) {
	s := newStream(t)
	s.add("CallConnected", "going-on", 0, well[1:])
	s.add("PlayStarted", "going-on", time.Second, well[1:])
	s.add("CallDisconnected", "rejected", 0, `"resultInformation":{"code":603,"subCode":0}`)
	s.add("CreateCallFailed", "never-made", 0, `"resultInformation":{"code":480,"subCode":10037}`)
	s.add("PlayCompleted", "begun-before", 0, "")
	s.add("CallDisconnected", "begun-before", time.Second, hangup[1:])
	soon, late := time.Now().Add(time.Minute), s.began.Add(time.Second+time.Hour)
	for _, test := range []struct {
		call string
		now  time.Time
		want []string
	}{
		{"going-on", soon, nil},
		{"going-on", late, []string{"missing Play of sequence 2 has no end", "missing leg A has no CallDisconnected, and no event has come for 1h0m0s"}},
		{"rejected", late, []string{"failed CallDisconnected: 603/0 (declined)"}},
		{"never-made", late, []string{"failed CreateCallFailed: 480/10037 (the callee has no endpoint)"}},
		{"begun-before", soon, []string{"missing leg A has no CallConnected: it came before the first event that the stream holds, or never"}},
	} {
		story, err := s.reader().Story(t.Context(), test.call, test.now)
		if err != nil {
			t.Fatal(err)
		}
		if _, got := describe(story); cmp.Diff(test.want, got) != "" {
			t.Errorf("%s (-want +got):\n%s", test.call, cmp.Diff(test.want, got))
		}
	}
}

// TestStory_storedLate says how late it was stored.
func TestStory_storedLate(t *testing.T) {
	s := newStream(t)
	s.add("CallConnected", "leg", -time.Hour, well[1:])
	story, err := s.reader().Story(t.Context(), "leg", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if steps, _ := describe(story); !strings.HasPrefix(steps[0], "1 +0s A CallConnected stored 1h0m") {
		t.Errorf("%q", steps)
	}
}

// TestCalls lists calls with how they stand.
func TestCalls(t *testing.T) {
	s := newStream(t)
	addCall(s)
	s.add("CallDisconnected", "rejected", 2*time.Second, `"resultInformation":{"code":603,"subCode":0}`)
	s.add("CreateCallFailed", "never-made", 3*time.Second, `"resultInformation":{"code":480,"subCode":10037}`)
	s.add("PlayCompleted", "middle", 3500*time.Millisecond, well[1:])
	s.add("CallConnected", "one-half", 4*time.Second, `"correlationId":"00000000-half-1"`)
	s.add("CallConnected", "other-half", 4100*time.Millisecond, `"serverCallId":"aGFsZg"`)
	s.add("CallDisconnected", "one-half", 4200*time.Millisecond, `"correlationId":"00000000-half-1","serverCallId":"aGFsZg"`+hangup)
	for _, test := range []struct {
		now  time.Time
		last string
	}{{time.Now(), "active"}, {time.Now().Add(time.Hour), "silent"}} {
		calls, err := s.reader().Calls(t.Context(), replay.Selection{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range calls {
			var legs []string
			for _, leg := range c.Legs {
				legs = append(legs, leg.ID)
			}
			got = append(got, fmt.Sprintf("%s: %s in %v, %d events, %d failures, %s", strings.Join(legs, "+"), c.State(test.now), c.Last().Sub(c.First()), c.Events, c.Failures, c.Latest))
		}
		want := []string{
			"other: " + test.last + " in 740ms, 2 events, 0 failures, PlayCompleted",
			"leg-1+recorder+leg-2: ended in 1.1s, 14 events, 1 failures, CallDisconnected",
			"rejected: failed in 0s, 1 events, 1 failures, CallDisconnected",
			"never-made: failed in 0s, 1 events, 1 failures, CreateCallFailed",
			"middle: partial in 0s, 1 events, 0 failures, PlayCompleted",
			"one-half+other-half: " + test.last + " in 200ms, 3 events, 0 failures, CallDisconnected",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	}
}
