package publish

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/acsbridge/acsbridge/schemas"
)

func TestARecordWaitsForTheOneOfItsCallBeforeIt(t *testing.T) {
	of := func(subject string) *record { return &record{stream: schemas.Stream, subject: subject} }
	quarantined := &record{stream: schemas.QuarantineStream, subject: "acs-quarantine.contoso.not_json"}
	for _, c := range []struct {
		name          string
		first, second *record
		waits         bool
	}{
		{"same call", of("acs.contoso.CallConnected.a"), of("acs.contoso.PlayCompleted.a"), true},
		{"another call", of("acs.contoso.CallConnected.a"), of("acs.contoso.CallConnected.b"), false},
		{"no call", of("acs.contoso.CallConnected._"), of("acs.contoso.CallConnected._"), false},
		{"quarantine", quarantined, quarantined, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				turns := newTurns()
				acked := uint64(6)
				if err := turns.await(t.Context(), c.first, 7, func() uint64 { return acked }); err != nil {
					t.Fatal(err)
				}
				var sent bool
				go func() {
					sent = turns.await(t.Context(), c.second, 8, func() uint64 { return acked }) == nil
				}()
				synctest.Wait()
				if sent == c.waits {
					t.Errorf("sent before the first was acknowledged: %v", sent)
				}
				acked = 7
				turns.moved()
				synctest.Wait()
				if !sent {
					t.Error("the acknowledgement did not wake it")
				}
			})
		})
	}
}

func TestAWaitForATurnEndsWithTheSession(t *testing.T) {
	turns := newTurns()
	r := &record{stream: schemas.Stream, subject: "acs.contoso.CallConnected.a"}
	none := func() uint64 { return 0 }
	if err := turns.await(t.Context(), r, 1, none); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancelCause(t.Context())
	failed := errors.New("the stream is full")
	stop(failed)
	if err := turns.await(ctx, r, 2, none); !errors.Is(err, failed) {
		t.Errorf("got %v, want %v", err, failed)
	}
}

func TestOnlyCallsUnderWayAreRemembered(t *testing.T) {
	turns := newTurns()
	var index uint64
	for index < 10*window {
		index++
		r := &record{stream: schemas.Stream, subject: fmt.Sprintf("acs.contoso.CallConnected.c%d", index)}
		// Half a window is under way.
		if err := turns.await(t.Context(), r, index, func() uint64 { return max(index, window/2) - window/2 }); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(turns.sent); n < window/2 || n > 2*window {
		t.Errorf("%d calls are remembered", n)
	}
	turns.forget(index - 1)
	if n := len(turns.sent); n != 1 {
		t.Errorf("%d calls are remembered when one is under way", n)
	}
}
