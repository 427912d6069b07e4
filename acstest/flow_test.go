package acstest_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
)

func TestFlows(t *testing.T) {
	flows, err := acstest.Flows()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]bool)
	for _, f := range flows {
		got[f.Name] = f.Hostile()
	}
	want := map[string]bool{
		"answered-menu": false, "outbound": false, "transfer": false, "recording": false,
		"rejected": false, "play-failed": false, "hostile": true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("flows and whether they are hostile (-want +got):\n%s", diff)
	}
}

func TestNamedFlows(t *testing.T) {
	for _, test := range []struct {
		names []string
		want  string
	}{
		{nil, "answered-menu outbound play-failed recording rejected transfer"},
		{[]string{"transfer", "hostile", "transfer"}, "transfer hostile transfer"},
	} {
		flows, err := acstest.NamedFlows(test.names...)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range flows {
			got = append(got, f.Name)
		}
		if got := strings.Join(got, " "); got != test.want {
			t.Errorf("%v: got %q, want %q", test.names, got, test.want)
		}
	}
	_, err := acstest.NamedFlows("recoding")
	if err == nil || !strings.Contains(err.Error(), "recording") {
		t.Errorf("error %v, want one that lists the flows", err)
	}
}

// TestFlowIsRefused: what a stranger may get wrong in a file is said at once,
// with the place.
func TestFlowIsRefused(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"no steps":         {"about: x", "0 steps"},
		"no about":         {"steps: [{event: CallConnected}]", "about is missing"},
		"unknown field":    {"about: x\nsteps: [{evnt: CallConnected}]", "evnt not found"},
		"unknown type":     {"about: x\nsteps: [{event: CallConnectd}]", "step 1: unknown event type"},
		"unknown bearer":   {"about: x\nsteps: [{event: CallConnected, bearer: old}]", `unknown bearer "old" (one of expired,`},
		"negative pause":   {"about: x\nsteps: [{event: CallConnected, after: -1s}]", "after -1s is out of range"},
		"endless pause":    {"about: x\nsteps: [{event: CallConnected, after: 11m}]", "after 11m0s is out of range"},
		"negative repeat":  {"about: x\nsteps: [{event: CallConnected, repeat: -1}]", "repeat -1 is out of range"},
		"too many repeats": {"about: x\nsteps: [{event: CallConnected, repeat: 101}]", "repeat 101 is out of range"},
		"too many steps":   {"about: x\nsteps:" + strings.Repeat("\n- event: CallConnected", 1001), "1001 steps"},
		"unknown member":   {"about: x\nsteps:\n- event: PlayFailed\n- event: PlayFailed\n  data: {tone: one}", `step 2: PlayFailed: line 5: data has no member "tone"`},
		"unknown value":    {"about: x\nsteps: [{event: PlayFailed, data: {operationContext: $me}}]", "unknown value $me"},
		"data no mapping":  {"about: x\nsteps: [{event: PlayFailed, data: [1]}]", "data must be a mapping"},
		"alias":            {"about: &a x\nsteps: [{event: PlayFailed, data: {operationContext: *a}}]", "aliases are not supported"},
		"no number":        {"about: x\nsteps: [{event: PlayFailed, data: {failedPlaySourceIndex: .nan}}]", "NaN"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := acstest.ParseFlow("mine", []byte(test.text))
			if err == nil || !strings.HasPrefix(err.Error(), "flow mine: ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

// TestFlowChangesData: a step replaces members in their place and leaves out
// those that are null.
func TestFlowChangesData(t *testing.T) {
	b := &bridge{}
	flow := parseFlow(t, `
  - event: ParticipantsUpdated
    data:
      resultInformation: null
      sequenceNumber: 7
      participants: [{identifier: $agent, isMuted: true}, {identifier: $callee}]
`)
	play(t, t.Context(), b, acstest.Load{Flows: []*acstest.Flow{flow}, Calls: 1})
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

// TestPace: pauses are kept, divided by the speed, and events are stamped with
// the moment they are due.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bridge{}
		flow := parseFlow(t, "  - {event: CallConnected, after: 4s}\n  - {event: CallDisconnected, after: 6s}\n")
		start := time.Now()
		play(t, t.Context(), b, acstest.Load{Flows: []*acstest.Flow{flow}, Calls: 1, Speed: 2})
		var arrived []time.Duration
		for _, p := range b.posts {
			arrived = append(arrived, p.at.Sub(start))
			stamp, err := time.Parse(time.RFC3339Nano, decode(t, p.body)[0].Time)
			if err != nil || !stamp.Equal(p.at) {
				t.Errorf("stamped %v (error %v), sent at %v", stamp, err, p.at)
			}
		}
		if diff := cmp.Diff([]time.Duration{2 * time.Second, 5 * time.Second}, arrived); diff != "" {
			t.Errorf("arrivals (-want +got):\n%s", diff)
		}
	})
}

// TestFlowsInTurn: call i plays the flow i modulo their number.
func TestFlowsInTurn(t *testing.T) {
	b := &bridge{}
	flows := []*acstest.Flow{
		parseFlow(t, "  - {event: CallConnected}\n"),
		parseFlow(t, "  - {event: PlayStarted}\n"),
	}
	play(t, t.Context(), b, acstest.Load{Flows: flows, Calls: 5, Concurrency: 1})
	got := strings.Join(types(t, b.posts), " ")
	if want := "CallConnected PlayStarted CallConnected PlayStarted CallConnected"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
