package consume_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestPostpone_doesNotCount postpones an event more often than it may fail. It is handled
// then in its first attempt, with its sender's bytes.
func TestPostpone_doesNotCount(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	var h history
	start(t, server.URL(), consume.Service[tally]{
		Name: "ivr", MaxAttempts: 2, MaxAge: time.Nanosecond,
		Handle: func(_ context.Context, call *consume.Call[tally], m *schemas.Message) error {
			h.add(fmt.Sprintf("%s attempt %d: %s", m.Event.ID, call.Attempt, call.Stored.Data))
			if len(h.all()) <= 4 {
				return consume.Postpone(errors.New("closed"), 10*time.Millisecond)
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
