package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natstest"
)

// TestDeliver_retryAfter has an application ask for a pause, and again when that is over,
// while thousands of calls wait. It gets no post meanwhile but those that were in flight,
// no call is parked but the first one, none becomes a dead letter, and all come in order.
func TestDeliver_retryAfter(t *testing.T) {
	server, js := newDeliverStream(t)
	const (
		calls      = 2000
		posts      = 16 // at a time
		pause      = 2 * time.Second
		wantPauses = 2
	)
	var mu sync.Mutex
	var ends []time.Time // of the pauses
	refused := 0
	a := newApp(t, func(w http.ResponseWriter, p *post) {
		mu.Lock()
		defer mu.Unlock()
		if now, n := time.Now(), len(ends); n == 0 || now.After(ends[n-1]) {
			if n == wantPauses {
				return
			}
			ends = append(ends, now.Add(pause))
		}
		refused++
		w.Header().Set("Retry-After", "2")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	b := startDeliver(t, server.URL(), a.URL, "--max-attempts=2", "--max-age=1s", fmt.Sprint("--concurrency=", posts))
	awaitSlots(t, map[*bridgeProcess]int{b: 16})
	want := make(map[string][]string)
	for e := range 2 {
		for c := range calls {
			call, event := fmt.Sprint("call-", c), strconv.Itoa(e)
			want[call] = append(want[call], event)
			if _, err := js.PublishMsgAsync(deliverMessage(call, event)); err != nil {
				t.Fatal(err)
			}
		}
	}
	natstest.Until(t, func() bool {
		return strings.Contains(ask(b.admin+"/readyz"), "; nothing is posted for another ")
	})
	a.await(2 * calls)
	metrics := ask(b.admin + "/metrics")
	b.stop(syscall.SIGTERM)
	if diff := cmp.Diff(want, a.accepted()); diff != "" {
		t.Error(diff)
	}
	if refused > wantPauses*posts {
		t.Errorf("%d posts were refused in %d pauses, want %d at most, at a time", refused, wantPauses, posts)
	}
	if !strings.Contains(metrics, `acsbridge_consume_handled_total{outcome="failed",service="crm"} 1`+"\n") {
		t.Errorf("want one attempt that counts: %s", metrics)
	}
	if letters := server.Messages(consume.DeadStream("crm")); len(letters) > 0 {
		t.Errorf("%d dead letters", len(letters))
	}
}

// TestDeliver_retryAfterOfOneEvent has one event be answered with a pause whenever it comes:
// it becomes a dead letter, and does not stop the others.
func TestDeliver_retryAfterOfOneEvent(t *testing.T) {
	server, js := newDeliverStream(t)
	a := newApp(t, func(w http.ResponseWriter, p *post) {
		if p.event == "bad" {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	b := startDeliver(t, server.URL(), a.URL, "--max-attempts=2")
	awaitSlots(t, map[*bridgeProcess]int{b: 16})
	storeEvent(t, js, "call-0", "0")
	a.await(1)
	storeEvent(t, js, "call-0", "bad")
	storeEvent(t, js, "call-0", "1")
	others := 0
	for len(server.Messages(consume.DeadStream("crm"))) == 0 && others < 100 {
		storeEvent(t, js, "call-1", strconv.Itoa(others))
		others++
		a.await(1 + others)
	}
	a.await(2 + others)
	b.stop(syscall.SIGTERM)
	if diff := cmp.Diff([]string{"0", "1"}, a.accepted()["call-0"]); diff != "" {
		t.Error(diff)
	}
}
