package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// ivrService is a service that gives up events whose id begins with "bad" until it is
// repaired, and then holds their calls. It waits for a while after "wait".
type ivrService struct {
	repaired atomic.Bool
	mu       sync.Mutex
	handled  []string
}

func (s *ivrService) handle(_ context.Context, call *consume.Call[[]string], m *schemas.Message) error {
	id := m.Event.ID
	switch _, timeout := m.Event.Data.(*consume.Timeout); {
	case (timeout || strings.HasPrefix(id, "bad")) && !s.repaired.Load():
		return consume.Permanent(errors.New("no tenant +15550100123"))
	case strings.HasPrefix(id, "later"):
		return errors.New("the tenant's database is down +15550100123")
	case id == "wait":
		call.Expect(time.Millisecond, "RecognizeCompleted")
	case id == "wait-long":
		call.Expect(time.Hour, "RecognizeCompleted")
	}
	call.State = append(call.State, id, "+15550100123")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handled = append(s.handled, call.ID+" "+id)
	return nil
}

func (s *ivrService) saw(all ...string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !slices.ContainsFunc(all, func(want string) bool { return !slices.Contains(s.handled, want) })
}

// startIVR runs the service until the test ends, at a server with the stream.
func startIVR(t *testing.T) (*ivrService, *natstest.Server, jetstream.JetStream) {
	t.Helper()
	server, js := newDeliverStream(t)
	s := &ivrService{}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- consume.Run(ctx, js.Conn(), consume.Service[[]string]{
			Name: "ivr", HoldFailed: true, Lease: 3 * time.Second, FirstRetry: time.Hour, LastRetry: time.Hour, StartAt: time.Unix(0, 0),
			Handle: s.handle, Logger: slog.New(slog.DiscardHandler),
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s, server, js
}

func TestDeadLetters(t *testing.T) {
	s, server, js := startIVR(t)
	run := func(fails bool, pattern string, args ...string) string {
		t.Helper()
		return runItems(t, server.URL(), fails, pattern, append([]string{"deadletters", args[0], "--service=ivr"}, args[1:]...)...)
	}
	natstest.Until(t, func() bool { _, err := js.Stream(t.Context(), consume.DeadStream("ivr")); return err == nil })
	run(false, `^there are none\n$`, "list")
	for _, id := range []string{"bad-1", "next"} {
		storeEvent(t, js, "a", id)
	}
	server.Await(consume.DeadStream("ivr"), 1)
	storeEvent(t, js, "b", "wait")
	server.Await(consume.DeadStream("ivr"), 2)
	storeEvent(t, js, "c", "bad-2")
	server.Await(consume.DeadStream("ivr"), 3)

	said := run(false, `^     1  \d\d:\S+  permanent        \S* +\d+ bytes\n      a PlayCompleted\n     2  \S+  permanent .* bytes\n      b Timeout\n     3 .*\n      c PlayCompleted\n$`, "list")
	said += run(false, `"acs-dead-reason": "permanent"`, "show", "1")
	if strings.Contains(said, "5550100123") {
		t.Errorf("a telephone number is shown:\n%s", said)
	}
	run(false, `"acs-dead-error": "no tenant \+15550100123"`, "show", "1", "--show-pii")
	run(true, `number 9 does not exist`, "show", "9")
	run(true, `there is no terminal to ask on; add --yes`, "redrive", "--all")
	run(true, `say which: numbers`, "drop", "--yes")
	run(true, `none has this reason`, "drop", "--reason=attempts", "--yes")
	run(true, `^2 stays: it is a timeout, which cannot come again; drop it, with --release`, "redrive", "2", "--yes")
	run(true, `its event is in stream ACS; name that with --stream`, "redrive", "1", "--yes", "--stream=OTHER")
	runItems(t, server.URL(), true, `there is no stream ACS_DEAD_CRM`, "deadletters", "list", "--service=crm")

	// A dry run changes nothing, also without --yes.
	run(true, `(?s)^This gives 3 dead letters to service ivr again, and to no other\.\n1 would be redriven\n2 would stay: it is a timeout.*\n3 would be redriven\nnothing was done.*1 of 3 would stay`,
		"redrive", "--all", "--dry-run")
	run(true, `^This .*\n1 would stay: its event is in stream ACS; name that with --stream`, "redrive", "1", "--dry-run", "--stream=OTHER")
	run(false, `^This removes 2 dead letters for good\.\n1 would be dropped\n3 would be dropped\nnothing was done: --dry-run\n$`, "drop", "1", "3", "--dry-run", "--yes")
	run(false, `^This .*\n2 would be released\nnothing`, "drop", "2", "--release", "--dry-run")

	// Calls are held until then, and the events of one come in their order.
	for _, call := range []string{"b", "c"} {
		storeEvent(t, js, call, "after")
	}
	s.repaired.Store(true)
	run(false, `^1 redriven\n$`, "redrive", "1", "--yes")
	run(false, `^2 released\n$`, "drop", "2", "--release", "--yes")
	run(false, `^3 dropped\n$`, "drop", "3", "--yes")
	run(false, `^there are none\n$`, "list")
	natstest.Until(t, func() bool { return s.saw("a bad-1", "a next", "b after") })
	if got := s.handled; slices.Index(got, "a bad-1") > slices.Index(got, "a next") || s.saw("c after") {
		t.Errorf("handled %v; call c is held, since it was dropped without --release", got)
	}
	if got := len(server.Messages(schemas.Stream)); got != 6 {
		t.Errorf("the stream has %d events, want 6: other services must get none", got)
	}
}
