package acstest_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
)

func TestNamedFlows_unknown(t *testing.T) {
	if _, err := acstest.NamedFlows("recoding"); err == nil || !strings.Contains(err.Error(), "recording") {
		t.Errorf("error %v, want one that lists the flows", err)
	}
}

func TestParseFlow_bad(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"no steps":         {"about: x", "0 steps"},
		"no about":         {"steps: [{event: CallConnected}]", "about is missing"},
		"unknown field":    {"about: x\nsteps: [{evnt: CallConnected}]", "evnt not found"},
		"unknown type":     {"about: x\nsteps: [{event: CallConnectd}]", "step 1: unknown event type"},
		"unknown bearer":   {"about: x\nsteps: [{event: CallConnected, bearer: old}]", `unknown bearer "old" (one of expired,`},
		"negative pause":   {"about: x\nsteps: [{event: CallConnected, after: -1s}]", "after -1s is out of range"},
		"long pause":       {"about: x\nsteps: [{event: CallConnected, after: 11m}]", "after 11m0s is out of range"},
		"negative repeat":  {"about: x\nsteps: [{event: CallConnected, repeat: -1}]", "repeat -1 is out of range"},
		"too many repeats": {"about: x\nsteps: [{event: CallConnected, repeat: 101}]", "repeat 101 is out of range"},
		"too many steps":   {"about: x\nsteps:" + strings.Repeat("\n- event: CallConnected", 1001), "1001 steps"},
		"unknown member":   {"about: x\nsteps:\n- event: PlayFailed\n- event: PlayFailed\n  data: {tone: one}", `step 2: PlayFailed: line 5: data has no member "tone"`},
		"unknown value":    {"about: x\nsteps: [{event: PlayFailed, data: {operationContext: $me}}]", "unknown value $me"},
		"data a list":      {"about: x\nsteps: [{event: PlayFailed, data: [1]}]", "data must be a mapping"},
		"data of a grid":   {"about: x\nsteps: [{event: IncomingCall, data: {to: null}}]", "cannot be changed"},
		"alias":            {"about: &a x\nsteps: [{event: PlayFailed, data: {operationContext: *a}}]", "aliases are not supported"},
		"NaN":              {"about: x\nsteps: [{event: PlayFailed, data: {failedPlaySourceIndex: .nan}}]", "NaN"},
	} {
		_, err := acstest.ParseFlow("mine", []byte(test.text))
		if err == nil || !strings.HasPrefix(err.Error(), "flow mine: ") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, test.want)
		}
	}
}

// TestFlow_data: a step replaces members in their place and leaves out those that are
// null.
func TestFlow_data(t *testing.T) {
	b := &bridge{}
	play(t, t.Context(), b, oneCall(t, `
  - event: ParticipantsUpdated
    data:
      resultInformation: null
      sequenceNumber: 7
      participants: [{identifier: $agent, isMuted: true}, {identifier: $callee}]
`))
	body := string(b.posts[0].body)
	data := body[strings.Index(body, `"data":`):]
	for _, want := range []string{
		`"data":{"participants":[{"identifier":{"rawId":"8:acs:`,
		`","kind":"communicationUser","communicationUser":{"id":"8:acs:`,
		`"isMuted":true},{"identifier":{"rawId":"4:+1`,
		`","kind":"phoneNumber","phoneNumber":{"value":"+1`,
		`"}}}],"sequenceNumber":7,"version":"2025-05-15","callConnectionId":"`,
	} {
		if !strings.Contains(data, want) {
			t.Errorf("no %s\nin %s", want, data)
		}
	}
}

// TestFlow_pace: pauses are divided by the speed, and the time of an event is when it is
// due.
func TestFlow_pace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, start := &bridge{}, time.Now()
		load := oneCall(t, "  - {event: CallConnected, after: 4s}\n  - {event: CallDisconnected, after: 6s}\n")
		load.Speed = 2
		play(t, t.Context(), b, load)
		if diff := cmp.Diff([]string{"CallConnected 2s", "CallDisconnected 5s"}, arrivals(t, b.posts, start)); diff != "" {
			t.Errorf("arrivals (-want +got):\n%s", diff)
		}
		for _, p := range b.posts {
			if at, err := time.Parse(time.RFC3339Nano, decode(t, p.body)[0].Time); err != nil || !at.Equal(p.at) {
				t.Errorf("time %v (error %v), sent at %v", at, err, p.at)
			}
		}
	})
}

// TestFlow_legs: each leg has its own connection and callback URL, and the recorder is
// another connection.
func TestFlow_legs(t *testing.T) {
	b := &bridge{}
	load := oneCall(t, `
  - {event: CallConnected}
  - {event: RecordingStateChanged}
  - {event: CallConnected, leg: other}
  - {event: RecordingStateChanged, after: 1s, data: {state: inactive}}
  - {event: CallDisconnected}
`)
	load.Speed = 1000
	play(t, t.Context(), b, load)
	var connections, starts, paths []string
	for _, p := range b.posts {
		e := decode(t, p.body)[0]
		connections = append(connections, e.Data.CallConnectionID)
		paths = append(paths, p.path)
		starts = append(starts, e.Data.StartDateTime)
	}
	app, recorder, other := connections[0], connections[1], connections[2]
	if diff := cmp.Diff([]string{app, recorder, other, recorder, app}, connections); diff != "" {
		t.Errorf("connections (-want +got):\n%s", diff)
	}
	if app == recorder || app == other || recorder == other {
		t.Errorf("connections are shared: %v", connections)
	}
	if paths[0] != paths[4] || paths[0] == paths[2] || starts[1] != starts[3] {
		t.Errorf("callback paths %v, want one a leg; the recording started at %s and %s", paths, starts[1], starts[3])
	}
}
