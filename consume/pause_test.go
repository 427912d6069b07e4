package consume_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestPause_doesNotCount asks for a pause at an event more often than it may fail. It is
// handled then in its first attempt, with its sender's bytes.
func TestPause_doesNotCount(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	var h history
	start(t, server.URL(), consume.Service[tally]{
		Name: "ivr", MaxAttempts: 2, MaxAge: time.Nanosecond,
		Handle: func(_ context.Context, call *consume.Call[tally], m *schemas.Message) error {
			h.add(fmt.Sprintf("%s attempt %d: %s", m.Event.ID, call.Attempt, call.Stored.Data))
			if len(h.all()) <= 4 {
				return consume.Pause(errors.New("closed"), 10*time.Millisecond)
			}
			return nil
		},
	})
	ready(t, js, "ivr")
	m := newEvent("PlayCompleted", "c-1", "0", nil)
	store(t, js, m)
	natstest.Until(t, func() bool { return len(h.all()) >= 5 })
	var want []string
	for range 5 {
		want = append(want, "0 attempt 1: "+string(m.Data))
	}
	if diff := cmp.Diff(want, h.all()); diff != "" {
		t.Error(diff)
	}
}

// TestPause_holdsAllCalls has a receiver closed for a while, three times. No call is parked
// by that, no attempt counts, and each call keeps its order.
func TestPause_holdsAllCalls(t *testing.T) {
	const calls, events, concurrency = 100, 3, 8
	server := newStream(t)
	js := server.JetStream()
	var h, refused history
	var closed atomic.Int64 // until, in Unix nanoseconds
	start(t, server.URL(), consume.Service[tally]{
		Name: "ivr", MaxAttempts: 1, MaxAge: time.Nanosecond, MaxParked: 1, Concurrency: concurrency,
		Handle: func(_ context.Context, call *consume.Call[tally], m *schemas.Message) error {
			if left := time.Until(time.Unix(0, closed.Load())); left > 0 {
				refused.add(call.ID)
				return consume.Pause(errors.New("closed"), left)
			}
			if h.add(call.ID + "/" + m.Event.ID); len(h.all())%100 == 50 {
				closed.Store(time.Now().Add(300 * time.Millisecond).UnixNano())
			}
			return nil
		},
	})
	ready(t, js, "ivr")
	for i := range events {
		for c := range calls {
			store(t, js, newEvent("PlayCompleted", fmt.Sprint("c-", c), fmt.Sprint(i), nil))
		}
	}
	natstest.Until(t, func() bool { return len(h.all()) >= calls*events })
	var want []string
	for c := range calls {
		for i := range events {
			want = append(want, fmt.Sprintf("c-%d/%d", c, i))
		}
	}
	got := h.all()
	slices.SortStableFunc(got, func(a, b string) int { return strings.Compare(callPart(a), callPart(b)) })
	slices.SortStableFunc(want, func(a, b string) int { return strings.Compare(callPart(a), callPart(b)) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := len(refused.all()); n < 1 || n > 3*concurrency {
		t.Errorf("%d handlers have started in three pauses, want 1 to %d", n, 3*concurrency)
	}
	if letters := server.Messages(consume.DeadStream("ivr")); len(letters) > 0 {
		t.Errorf("%d dead letters", len(letters))
	}
}

func callPart(s string) string {
	call, _, _ := strings.Cut(s, "/")
	return call
}
