//go:build !race

package ingest_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/acsbridge/acsbridge/ingest"
)

// A callback may not cost more garbage than it does, token and journal left out:
// docs/benchmarks.md.
func TestHandler_allocations(t *testing.T) {
	const budget = 25
	h := newHandler(t, ingest.Config{Publisher: &fakePublisher{}})
	requests := make([]*http.Request, 201)
	for i := range requests {
		requests[i] = callback(defaultBody)
	}
	next := 0
	w := httptest.NewRecorder()
	got := testing.AllocsPerRun(len(requests)-1, func() {
		h.ServeHTTP(w, requests[next])
		next++
	})
	if w.Code != http.StatusOK {
		t.Fatalf("answered %d", w.Code)
	}
	if got > budget {
		t.Errorf("a callback takes %g allocations, the budget is %d", got, budget)
	}
}
