package console

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// However many pages are live, they are told to ask again one after another, and a page
// on its own does not wait.
func TestHub_turn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h hub
		began := time.Now()
		if err := h.turn(t.Context()); err != nil || time.Since(began) > 0 {
			t.Errorf("the first page waits %v: %v", time.Since(began), err)
		}
		var pages sync.WaitGroup
		for range 10 {
			pages.Go(func() {
				if err := h.turn(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		pages.Wait()
		if took, want := time.Since(began), 10*turnInterval; took != want {
			t.Errorf("ten more pages took %v, want %v", took, want)
		}
	})
}
