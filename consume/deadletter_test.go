package consume_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// While dead letters cannot be stored, their calls wait, and the others go on: more of
// them fail than the prefetch has room for. The slots can be given back. Later the dead
// letters are stored, and the handler does not get their events again.
func TestRun_deadLetterCannotBeStored(t *testing.T) {
	const failing = 40
	server := newStream(t)
	js := server.JetStream()
	var h, hopeless history
	service := consume.Service[tally]{
		Name: "ivr", Concurrency: 1, FirstRetry: 500 * time.Millisecond, LastRetry: 500 * time.Millisecond,
		Handle: func(_ context.Context, call *consume.Call[tally], m *schemas.Message) error {
			if m.Event.ID == "hopeless" {
				hopeless.add(call.ID)
				return consume.Permanent(errors.New("no such tenant"))
			}
			call.State.Events = append(call.State.Events, m.Event.ID)
			h.add(call.ID + "/" + m.Event.ID)
			return nil
		},
	}
	r := start(t, server.URL(), service)
	ready(t, js, "ivr")
	if err := js.DeleteStream(t.Context(), consume.DeadStream("ivr")); err != nil {
		t.Fatal(err)
	}
	calls := inSlot("7", failing+1)
	good := calls[failing]
	for _, call := range calls[:failing] {
		store(t, js, newEvent("PlayCompleted", call, "hopeless", nil))
		store(t, js, newEvent("PlayCompleted", call, "next", nil))
	}
	store(t, js, newEvent("PlayCompleted", good, "0", nil))
	natstest.Until(t, func() bool { return slices.Contains(h.all(), good+"/0") })
	began := time.Now()
	r.stop(t)
	if took := time.Since(began); took > 9*time.Second {
		t.Errorf("the end of the service took %v", took)
	}
	if diff := cmp.Diff([]string{good + "/0"}, h.all()); diff != "" {
		t.Error(diff)
	}
	start(t, server.URL(), service) // makes the stream again
	letters := server.Await(consume.DeadStream("ivr"), failing)
	natstest.Until(t, func() bool { return len(h.all()) == failing+1 })
	if n := len(hopeless.all()); n != failing {
		t.Errorf("%d handlers got an event that fails, want %d", n, failing)
	}
	if n := len(server.Messages(consume.DeadStream("ivr"))); n != failing {
		t.Errorf("%d dead letters, want %d", n, failing)
	}
	got := []string{}
	for _, name := range []string{schemas.HeaderDeadReason, schemas.HeaderDeadError, schemas.HeaderDeadAttempts} {
		got = append(got, letters[0].Header.Get(name))
	}
	if diff := cmp.Diff([]string{"permanent", "no such tenant", "1"}, got); diff != "" {
		t.Error(diff)
	}
}

// A state that is too large for the server is refused: its event becomes a dead letter, and
// the call goes on with the state of before.
func TestRun_stateTooLarge(t *testing.T) {
	server := natstest.Start(t, func(o *server.Options) { o.MaxPayload = 128 << 10 })
	js := server.JetStream()
	makeStream(t, js, 1)
	registry := prometheus.NewRegistry()
	var h history
	start(t, server.URL(), consume.Service[tally]{
		Name: "ivr", Registerer: registry,
		Handle: func(_ context.Context, call *consume.Call[tally], m *schemas.Message) error {
			add := m.Event.ID
			if add == "large" {
				add = strings.Repeat("x", 100<<10)
			}
			call.State.Events = append(call.State.Events, add)
			h.add(fmt.Sprint(m.Event.ID, " is number ", len(call.State.Events)))
			return nil
		},
	})
	ready(t, js, "ivr")
	for _, id := range []string{"0", "large", "1"} {
		store(t, js, newEvent("PlayCompleted", "call", id, nil))
	}
	letters := server.Await(consume.DeadStream("ivr"), 1)
	natstest.Until(t, func() bool { return len(h.all()) == 3 })
	if diff := cmp.Diff([]string{"0 is number 1", "large is number 2", "1 is number 2"}, h.all()); diff != "" {
		t.Error(diff)
	}
	l := letters[0].Header
	if reason, text := l.Get(schemas.HeaderDeadReason), l.Get(schemas.HeaderDeadError); reason != "permanent" || !strings.Contains(text, "max_payload") {
		t.Errorf("the dead letter says %q, %q", reason, text)
	}
	if n := counted(t, registry, "acsbridge_consume_dead_letters_total"); n != 1 {
		t.Errorf("%v dead letters are counted", n)
	}
}

// The dead letter of a timeout, and the log line about it, have nothing personal in them
// when the message id of the event that began the wait has: as an event of Event Grid, whose
// source can be named after a caller.
func TestRun_deadLetterOfTimeout(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	var log bridgetest.Log
	start(t, server.URL(), consume.Service[tally]{
		Name: "ivr", Logger: log.Logger(),
		Handle: func(_ context.Context, call *consume.Call[tally], m *schemas.Message) error {
			if _, timeout := m.Event.Data.(*consume.Timeout); timeout {
				return consume.Permanent(errors.New("no answer"))
			}
			call.Expect(time.Millisecond, "RecognizeCompleted")
			return nil
		},
	})
	ready(t, js, "ivr")
	m := newEvent("CallConnected", "call", "1", nil)
	m.Header.Set(schemas.HeaderMsgID, "/subscriptions/x/caller/4:+15551234567#1")
	store(t, js, m)
	letter := server.Await(consume.DeadStream("ivr"), 1)[0]
	natstest.Until(t, func() bool { return strings.Contains(log.String(), "is a dead letter") })
	for _, text := range []string{letter.Header.Get(schemas.HeaderDeadOrigin), string(letter.Data), log.String()} {
		if !strings.Contains(text, "/wait/0") || strings.Contains(text, "5551234567") {
			t.Error(text)
		}
	}
}
