package consume_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

func TestRun_eventsInOrder(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	store(t, js, newEvent("CallConnected", "past", "0", nil)) // before the service: it begins at now
	var h history
	start(t, server.URL(), consume.Service[tally]{
		Name: "ivr",
		Handle: func(_ context.Context, call *consume.Call[tally], m *schemas.Message) error {
			call.State.Events = append(call.State.Events, m.Event.ID)
			h.add(call.ID + fmt.Sprint(call.State.Events))
			return nil
		},
	})
	ready(t, js, "ivr")
	var want []string
	for i := range 5 {
		for c := range 20 {
			store(t, js, newEvent("PlayCompleted", fmt.Sprint("call-", c), fmt.Sprint(i), nil))
			want = append(want, fmt.Sprintf("call-%d%v", c, []int{0, 1, 2, 3, 4}[:i+1]))
		}
	}
	natstest.Until(t, func() bool { return len(h.all()) >= len(want) })
	got := h.all()
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRun_failingEventParksItsCall(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	var h history
	start(t, server.URL(), consume.Service[tally]{
		Name: "ivr", FirstRetry: 300 * time.Millisecond,
		Handle: func(_ context.Context, call *consume.Call[tally], m *schemas.Message) error {
			h.add(fmt.Sprintf("%s/%s attempt %d", call.ID, m.Event.ID, call.Attempt))
			if call.ID == "bad" && m.Event.ID == "0" && call.Attempt < 3 {
				return errors.New("not yet")
			}
			return nil
		},
	})
	ready(t, js, "ivr")
	for i := range 2 {
		for _, call := range []string{"bad", "good"} {
			store(t, js, newEvent("PlayCompleted", call, fmt.Sprint(i), nil))
		}
	}
	natstest.Until(t, func() bool { return len(h.all()) >= 6 })
	of := func(call string) (list []string) {
		for _, line := range h.all() {
			if line[:3] == call[:3] {
				list = append(list, line)
			}
		}
		return list
	}
	if diff := cmp.Diff([]string{"bad/0 attempt 1", "bad/0 attempt 2", "bad/0 attempt 3", "bad/1 attempt 1"}, of("bad")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"good/0 attempt 1", "good/1 attempt 1"}, of("good")); diff != "" {
		t.Error(diff)
	}
}
