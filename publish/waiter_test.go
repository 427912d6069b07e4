package publish

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// waitingForwarder is a forwarder whose cursor stands at an index.
func waitingForwarder(acked uint64) *forwarder {
	f := &forwarder{waiters: make(map[uint64]*waiter), target: &target{ready: true}, position: acked}
	f.spare.New = newWaiter
	return f
}

// Two callbacks that wait for one index (one without events has the index of the
// one before) must not lock the forwarder.
func TestForwarder_twoWaitForOneRecord(t *testing.T) {
	f := waitingForwarder(0)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { f.wait(context.Background(), 1, 50*time.Millisecond) })
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		f.advance(1, 1)
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("the forwarder is locked")
	}
	if len(f.waiters) != 0 {
		t.Errorf("%d still wait", len(f.waiters))
	}
}

func TestForwarder_waitOrNot(t *testing.T) {
	for _, c := range []struct {
		name    string
		sending bool
		acked   uint64
		waits   bool
	}{
		{"pending", true, 999, true},
		{"a window behind", true, 1000 - windowSize, true},
		{"more than a window behind", true, 1000 - windowSize - 1, false},
		{"acknowledged", true, 1000, false},
		{"stopped", false, 999, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := waitingForwarder(c.acked)
				f.target.ready = c.sending
				begin := time.Now()
				f.wait(t.Context(), 1000, time.Minute)
				if waited := time.Since(begin) == time.Minute; waited != c.waits {
					t.Errorf("waited %s", time.Since(begin))
				}
			})
		})
	}
}

// A record that overtook others ends its wait, and so does the cursor.
func TestForwarder_waitEnds(t *testing.T) {
	for _, c := range []struct{ index, acked uint64 }{{7, 0}, {3, 8}, {7, 7}} {
		synctest.Test(t, func(t *testing.T) {
			f := waitingForwarder(0)
			waited := make(chan struct{})
			go func() {
				defer close(waited)
				f.wait(t.Context(), 7, time.Minute)
			}()
			synctest.Wait()
			begin := time.Now()
			f.advance(c.index, c.acked)
			<-waited
			if took := time.Since(begin); took > 0 || f.acked() != c.acked {
				t.Errorf("record %d, cursor %d: waited %s", c.index, f.acked(), took)
			}
		})
	}
}

// A waiter that gave up just when its record ended must be clean for the next use.
func TestForwarder_waiterIsClean(t *testing.T) {
	f := waitingForwarder(0)
	for index := range uint64(5000) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { f.wait(ctx, index+1, time.Minute) })
		wg.Go(cancel)
		f.advance(index+1, index+1)
		wg.Wait()
		w := f.spare.Get().(*waiter)
		if len(w.done) != 0 {
			t.Fatalf("round %d: the waiter is woken", index)
		}
		f.spare.Put(w)
	}
}
