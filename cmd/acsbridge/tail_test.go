package main

import (
	"errors"
	"testing"

	"github.com/acsbridge/acsbridge/replay"
)

// TestTail_lookAhead yields everything in its order, and has seen the first ones before.
func TestTail_lookAhead(t *testing.T) {
	for _, n := range []int{0, 1, maxLookAhead, maxLookAhead + 3} {
		for _, end := range []error{nil, errors.New("the stream was deleted")} {
			messages := func(yield func(*replay.StoredMessage, error) bool) {
				for i := range n {
					if !yield(&replay.StoredMessage{Sequence: uint64(i)}, nil) {
						return
					}
				}
				if end != nil {
					yield(nil, end)
				}
			}
			seen, got := 0, 0
			var failed error
			for m, err := range lookAhead(messages, func(*replay.StoredMessage) { seen++ }) {
				if failed = err; err != nil {
					break
				}
				if m.Sequence != uint64(got) || seen != min(n, maxLookAhead) {
					t.Fatalf("sequence %d after %d, %d seen", m.Sequence, got, seen)
				}
				got++
			}
			if got != n || failed != end {
				t.Errorf("%d of %d, %v", got, n, failed)
			}
		}
	}
}
