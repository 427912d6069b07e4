package publish

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Two who wait for one index (a callback without events has the index of the
// one before) must not lock the forwarder.
func TestTwoMayWaitForOneRecord(t *testing.T) {
	link := &Link{}
	link.connected.Store(true)
	f := &forwarder{link: link, waiters: make(map[uint64]*waiter), target: &target{ready: true}}
	f.spare.New = newWaiter
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { f.wait(context.Background(), 1, 50*time.Millisecond) })
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		f.advance(1)
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

func TestNobodyWaitsForNothing(t *testing.T) {
	for _, c := range []struct {
		name               string
		sending, connected bool
		acked              uint64
		waits              bool
	}{
		{"under way", true, true, 999, true},
		{"a window behind", true, true, 1000 - window, true},
		{"more than a window behind", true, true, 1000 - window - 1, false},
		{"acknowledged", true, true, 1000, false},
		{"forwarder stopped", false, true, 999, false},
		{"NATS away", true, false, 999, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				link := &Link{}
				link.connected.Store(c.connected)
				f := &forwarder{link: link, waiters: make(map[uint64]*waiter), target: &target{ready: c.sending}, position: c.acked}
				f.spare.New = newWaiter
				begin := time.Now()
				f.wait(t.Context(), 1000, time.Minute)
				if waited := time.Since(begin) == time.Minute; waited != c.waits {
					t.Errorf("waited %s", time.Since(begin))
				}
			})
		})
	}
}

// A waiter that gave up just when its record came must not hand that news to
// the next one who uses it.
func TestAWaiterIsCleanForTheNext(t *testing.T) {
	link := &Link{}
	link.connected.Store(true)
	f := &forwarder{link: link, waiters: make(map[uint64]*waiter), target: &target{ready: true}}
	f.spare.New = newWaiter
	for index := range uint64(5000) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { f.wait(ctx, index+1, time.Minute) })
		wg.Go(cancel)
		f.advance(index + 1)
		wg.Wait()
		w := f.spare.Get().(*waiter)
		if len(w.done) != 0 {
			t.Fatalf("round %d: the waiter holds another's news", index)
		}
		f.spare.Put(w)
	}
}
