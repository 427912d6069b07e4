package consume_test

import (
	"slices"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/consume"
)

// The zero value of a call works, so that a handler can be tested without NATS.
func TestCall_zeroValue(t *testing.T) {
	var call consume.Call[tally]
	began := time.Now()
	call.Expect(time.Minute, "RecognizeCompleted", "RecognizeFailed")
	if call.ExpectContext(time.Hour, "transfer", "CallTransferAccepted") {
		t.Error("an event has been handled already")
	}
	waits := call.Waits()
	if len(waits) != 2 || !slices.Equal(waits[0].Types, []string{"RecognizeCompleted", "RecognizeFailed"}) || waits[1].Context != "transfer" {
		t.Fatalf("waits: %+v", waits)
	}
	if d := waits[0].Deadline; d.Before(began.Add(time.Minute)) || d.After(time.Now().Add(time.Minute)) {
		t.Errorf("the first deadline is %v after the beginning", d.Sub(began))
	}
	if id := call.EffectID("play"); id != call.EffectID("play") || id == call.EffectID("hang-up") || len(id) != 36 {
		t.Errorf("effect ids: %s, %s and %s", id, call.EffectID("play"), call.EffectID("hang-up"))
	}
}
