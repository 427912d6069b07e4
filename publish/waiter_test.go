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
	f := &forwarder{waiters: make(map[uint64]*waiter), target: &target{ready: true}, position: acked, ackWait: time.Minute}
	f.spare.New = newWaiter
	return f
}

// Two callbacks that wait for one index (one without events has the index of the
// one before) must not lock the forwarder.
func TestForwarder_twoWaitForOneRecord(t *testing.T) {
	f := waitingForwarder(0)
	f.ackWait = 50 * time.Millisecond
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { f.wait(context.Background(), 1) })
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		f.advance(1, 1, 0)
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
	for name, c := range map[string]struct {
		before func(f *forwarder)
		waits  bool
	}{
		"pending":                       {func(*forwarder) {}, true},
		"acknowledged":                  {func(f *forwarder) { f.advance(10000, 10000, 0) }, false},
		"overtook others":               {func(f *forwarder) { f.advance(10000, 0, 0) }, false},
		"another one of its place":      {func(f *forwarder) { f.advance(10000-windowSize, 0, 0) }, true},
		"stopped":                       {func(f *forwarder) { f.target.ready = false }, false},
		"the last one was late":         {func(f *forwarder) { f.advance(9998, 9998, time.Minute+1) }, false},
		"the last one was in time":      {func(f *forwarder) { f.advance(9998, 9998, time.Minute) }, true},
		"the clock was set back":        {func(f *forwarder) { f.advance(9998, 9998, -time.Hour) }, false},
		"more lie ahead than in flight": {func(f *forwarder) { f.position = 10000 - maxInFlight - 1 }, false},
		"as many lie ahead":             {func(f *forwarder) { f.position = 10000 - maxInFlight }, true},
		"late and in time":              {func(f *forwarder) { f.advance(9997, 9997, time.Hour); f.advance(9998, 9998, 0) }, true},
		"a wait ran out":                {func(f *forwarder) { f.wait(context.Background(), 9999) }, false},
		"a wait ran out, and in time":   {func(f *forwarder) { f.wait(context.Background(), 9998); f.advance(9998, 9998, 0) }, true},
		"no wait":                       {func(f *forwarder) { f.ackWait = NoAckWait }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := waitingForwarder(9990)
				c.before(f)
				begin := time.Now()
				f.wait(t.Context(), 10000)
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
				f.wait(t.Context(), 7)
			}()
			synctest.Wait()
			begin := time.Now()
			f.advance(c.index, c.acked, 0)
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
		wg.Go(func() { f.wait(ctx, index+1) })
		wg.Go(cancel)
		f.advance(index+1, index+1, 0)
		wg.Wait()
		w := f.spare.Get().(*waiter)
		if len(w.done) != 0 {
			t.Fatalf("round %d: the waiter is woken", index)
		}
		f.spare.Put(w)
	}
}
