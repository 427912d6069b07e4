package publish

import (
	"context"
	"hash/maphash"
	"strings"

	"github.com/acsbridge/acsbridge/schemas"
)

// turns keeps the records of one call in order whatever happens inside the
// window: a record is sent only after the one of its call before it has been
// acknowledged. Without that, a stream that refuses a record for a passing
// reason (its queue is full, its leader is changing) and takes the next would
// store them the wrong way round once the first is sent again.
//
// Calls do not wait for one another. Events without a call, and what goes to
// quarantine, have no order among themselves to keep.
type turns struct {
	seed    maphash.Seed
	sent    map[uint64]uint64 // index of a call's last record, by the call's hash
	settled chan struct{}     // capacity 1: the cursor has moved
}

func newTurns() turns {
	return turns{seed: maphash.MakeSeed(), sent: make(map[uint64]uint64), settled: make(chan struct{}, 1)}
}

// await returns when it is the record's turn, and notes that it is sent next.
func (t *turns) await(ctx context.Context, r *record, index uint64, acked func() uint64) error {
	call := r.subject[strings.LastIndexByte(r.subject, '.')+1:]
	if call == schemas.NoCall || r.stream == schemas.QuarantineStream {
		return nil
	}
	key := maphash.String(t.seed, call) // two calls of one hash only wait for each other
	if err := t.reach(ctx, t.sent[key], acked); err != nil {
		return err
	}
	t.sent[key] = index
	if len(t.sent) > 2*window {
		t.forget(acked())
	}
	return nil
}

// reach returns once the record at index has been acknowledged.
func (t *turns) reach(ctx context.Context, index uint64, acked func() uint64) error {
	for acked() < index {
		select {
		case <-t.settled:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// forget drops the calls of which nothing is under way: at most a window's
// worth of them stays.
func (t *turns) forget(acked uint64) {
	for key, index := range t.sent {
		if index <= acked {
			delete(t.sent, key)
		}
	}
}

// moved tells await that the cursor has moved.
func (t *turns) moved() {
	select {
	case t.settled <- struct{}{}:
	default:
	}
}
