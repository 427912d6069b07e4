package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/consume/consumetest"
)

// recorder notes what is asked of ACS.
type recorder struct{ consumetest.Effects }

func (r *recorder) do(_ context.Context, call, action, id string, _ object) error {
	return r.Do(id, call+" "+action)
}

func event(shortType, call string, data object) *nats.Msg {
	return consumetest.Event(shortType, call, data)
}

func pressed(call, question, tone string) *nats.Msg {
	return event("RecognizeCompleted", call, object{"operationContext": question, "dtmfResult": object{"tones": []string{tone}}})
}

// TestIVR has calls with each end, while events come twice and replicas die.
func TestIVR(t *testing.T) {
	for _, faults := range []consumetest.Faults{{}, {Kills: true, Duplicates: true}} {
		t.Run(fmt.Sprintf("%+v", faults), func(t *testing.T) {
			t.Parallel()
			var acs recorder
			v := ivr{acs: &acs, wait: time.Hour, prompt: func(name string) string { return name }}
			kit := consumetest.New(t, v.service(), faults)
			calls := []string{"agent", "hours", "silent", "failed"}
			for _, call := range calls {
				kit.Send(event("CallConnected", call, nil))
			}
			kit.Wait()
			kit.Expire("silent")
			kit.Expire("silent")
			kit.Send(
				pressed("agent", "menu", "zero"), event("CallTransferFailed", "agent", nil),
				pressed("hours", "menu", "two"), event("PlayCompleted", "hours", nil), // of another prompt
				event("PlayCompleted", "hours", object{"operationContext": "opening-hours"}),
				pressed("silent", "menu", "zero"), // too late
				event("RecognizeFailed", "failed", object{"operationContext": "menu"}),
				event("RecognizeFailed", "failed", object{"operationContext": "menu"}), // an old one
				pressed("failed", "menu-again", "zero"))
			kit.Wait()
			got := make(map[string][]string)
			for _, effect := range acs.Names() {
				call, action, _ := strings.Cut(effect, " ")
				got[call] = append(got[call], action)
			}
			want := map[string][]string{
				"agent":  {"recognize", "transferToParticipant", "terminate"},
				"hours":  {"recognize", "play", "terminate"},
				"silent": {"recognize", "recognize", "terminate"},
				"failed": {"recognize", "recognize", "transferToParticipant"},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if letters := kit.DeadLetters(); len(letters) > 0 {
				t.Errorf("%d dead letters", len(letters))
			}
		})
	}
}

// TestIVR_short keeps the service at a length that shows what package consume saves.
func TestIVR_short(t *testing.T) {
	text, err := os.ReadFile("ivr.go")
	if err != nil {
		t.Fatal(err)
	}
	_, service, _ := strings.Cut(string(text), "\n)\n\n") // behind the imports
	if lines := strings.Count(service, "\n"); lines > 60 {
		t.Errorf("the service has %d lines, want 60 at most", lines)
	}
}
