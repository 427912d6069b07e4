package publish

import (
	"context"
	"sync"
	"testing"
	"time"
)

// Two who wait for one index (a callback without events has the index of the
// one before) must not lock the forwarder.
func TestTwoMayWaitForOneRecord(t *testing.T) {
	link := &Link{}
	link.connected.Store(true)
	f := &forwarder{link: link, waiters: make(map[uint64]*waiter), sending: true}
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
