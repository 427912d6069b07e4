package consume_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

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

func TestRun_deadLetter(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	var h history
	start(t, server.URL(), consume.Service[tally]{
		Name: "ivr", MaxAttempts: 2, FirstRetry: 10 * time.Millisecond,
		Handle: func(_ context.Context, call *consume.Call[tally], m *schemas.Message) error {
			h.add(m.Event.ID)
			switch m.Event.ID {
			case "hopeless":
				return consume.Permanent(errors.New("no\nsuch tenant"))
			case "failing":
				return errors.New("still away")
			case "panicking":
				panic("a bug")
			}
			return nil
		},
	})
	ready(t, js, "ivr")
	first := newEvent("PlayCompleted", "call", "hopeless", nil)
	first.Header.Set(schemas.HeaderExpectedStream, schemas.Stream) // as the bridge does; a copy of it cannot be stored elsewhere
	seq := store(t, js, first)
	for _, id := range []string{"failing", "panicking", "good"} {
		store(t, js, newEvent("PlayCompleted", "call", id, nil))
	}
	letters := server.Await(consume.DeadStream("ivr"), 3)
	natstest.Until(t, func() bool { return slices.Contains(h.all(), "good") })
	if diff := cmp.Diff([]string{"hopeless", "failing", "failing", "panicking", "panicking", "good"}, h.all()); diff != "" {
		t.Error("handled:", diff)
	}
	l := letters[0]
	got := map[string]string{"subject": l.Subject, "payload": string(l.Data)}
	for _, name := range []string{schemas.HeaderDeadReason, schemas.HeaderDeadError, schemas.HeaderDeadAttempts, schemas.HeaderDeadOrigin, schemas.HeaderDeadSubject, schemas.HeaderDeadMsgID, schemas.HeaderContentType} {
		got[name] = l.Header.Get(name)
	}
	slot := schemas.Slot("call")
	want := map[string]string{
		"subject": "acs-dead.ivr.contoso.PlayCompleted." + slot + ".call", "payload": string(first.Data),
		schemas.HeaderDeadReason: "permanent", schemas.HeaderDeadError: "no%0Asuch%20tenant", schemas.HeaderDeadAttempts: "1",
		schemas.HeaderDeadOrigin: fmt.Sprint("ACS/", seq), schemas.HeaderDeadSubject: first.Subject,
		schemas.HeaderDeadMsgID: "call#hopeless", schemas.HeaderContentType: "application/cloudevents+json",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if reason, attempts := letters[1].Header.Get(schemas.HeaderDeadReason), letters[1].Header.Get(schemas.HeaderDeadAttempts); reason != "attempts" || attempts != "2" {
		t.Errorf("the second one: %s after %s attempts", reason, attempts)
	}
}

// A wait ends with its event, or with a timeout that another replica delivers after a
// restart.
func TestRun_expect(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	var h history
	service := consume.Service[tally]{
		Name: "ivr", Types: []string{"CallConnected", "RecognizeCompleted", "AddParticipantSucceeded", "PlayCompleted"},
		Handle: func(_ context.Context, call *consume.Call[tally], m *schemas.Message) error {
			switch d := m.Event.Data.(type) {
			case *schemas.CallConnected:
				call.Expect(time.Second, "RecognizeCompleted", "RecognizeFailed")
			case *schemas.PlayCompleted:
				handled := call.ExpectContext(time.Second, "add-1", "AddParticipantSucceeded")
				h.add(fmt.Sprintf("%s: handled before: %v", call.ID, handled))
			case *consume.Timeout:
				h.add(fmt.Sprintf("%s: timeout of %v %q, resource %s, call %s", call.ID, d.Types, d.OperationContext, m.Delivery.Resource, d.IDs().CallConnectionID))
			}
			return nil
		},
	}
	first := start(t, server.URL(), service)
	ready(t, js, "ivr")
	store(t, js, newEvent("CallConnected", "silent", "0", nil))
	store(t, js, newEvent("CallConnected", "answered", "0", nil))
	store(t, js, newEvent("RecognizeCompleted", "answered", "1", nil))
	store(t, js, newEvent("AddParticipantSucceeded", "early", "0", map[string]any{"operationContext": "add-1"}))
	store(t, js, newEvent("PlayCompleted", "early", "1", nil))
	natstest.Until(t, func() bool { return len(h.all()) == 1 })
	first.stop(t)
	start(t, server.URL(), service)
	natstest.Until(t, func() bool { return len(h.all()) == 2 })
	want := []string{
		"early: handled before: true",
		`silent: timeout of [RecognizeCompleted RecognizeFailed] "", resource contoso, call silent`,
	}
	if diff := cmp.Diff(want, h.all()); diff != "" {
		t.Error(diff)
	}
}

// What is stale is skipped, unless the service wants it.
func TestRun_stale(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprint("wanted=", all), func(t *testing.T) {
			server := newStream(t)
			js := server.JetStream()
			replayed := newEvent("PlayCompleted", "call", "replayed", nil)
			replayed.Header.Set(schemas.HeaderReplayID, "1")
			store(t, js, replayed)
			rang := newEvent("IncomingCall", "call", "rang", nil)
			rang.Header.Set(schemas.HeaderExpiresAt, time.Now().Add(-time.Second).UTC().Format(time.RFC3339Nano))
			store(t, js, rang)
			twice := newEvent("PlayCompleted", "call", "twice", nil)
			store(t, js, twice)
			store(t, js, newEvent("PlayCompleted", "call", "last", nil))
			registry := prometheus.NewRegistry()
			var h history
			start(t, server.URL(), consume.Service[tally]{
				Name: "ivr", StartAt: time.Unix(1, 0), HandleStale: all, HandleReplays: all, Registerer: registry,
				Handle: func(_ context.Context, _ *consume.Call[tally], m *schemas.Message) error {
					h.add(m.Event.ID)
					return nil
				},
			})
			natstest.Until(t, func() bool { return slices.Contains(h.all(), "last") })
			want := []string{"twice", "last"}
			if all {
				want = []string{"replayed", "rang", "twice", "last"}
			}
			if diff := cmp.Diff(want, h.all()); diff != "" {
				t.Error(diff)
			}
			count := 0.0
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				if f.GetName() == "acsbridge_consume_skipped_total" {
					for _, m := range f.GetMetric() {
						count += m.GetCounter().GetValue()
					}
				}
			}
			if wanted := map[bool]float64{false: 2, true: 0}[all]; count != wanted {
				t.Errorf("%v events are counted as skipped, want %v", count, wanted)
			}
		})
	}
}

// Of a call that is over only its end comes, when the service begins too late.
func TestRun_callIsOver(t *testing.T) {
	defer consume.SetStaleAfter(0)()
	server := newStream(t)
	js := server.JetStream()
	for i, shortType := range []string{"CallConnected", "PlayCompleted", "CallDisconnected"} {
		store(t, js, newEvent(shortType, "over", fmt.Sprint(i), nil))
	}
	store(t, js, newEvent("CallConnected", "active", "0", nil))
	var h history
	r := start(t, server.URL(), consume.Service[tally]{
		Name: "ivr", StartAt: time.Unix(1, 0),
		Handle: func(_ context.Context, call *consume.Call[tally], m *schemas.Message) error {
			h.add(call.ID + " " + schemas.ShortType(m.Event.Type))
			return nil
		},
	})
	natstest.Until(t, func() bool { return len(h.all()) >= 2 })
	r.stop(t) // before the age is changed back
	got := h.all()
	slices.Sort(got)
	if diff := cmp.Diff([]string{"active CallConnected", "over CallDisconnected"}, got); diff != "" {
		t.Error(diff)
	}
}

// Replicas that come and go share the slots, and no event waits for the end of a lease.
func TestRun_share(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	owners := func() map[string]int {
		n := make(map[string]int)
		kv, err := js.KeyValue(t.Context(), consume.Bucket("ivr"))
		if err != nil {
			return n
		}
		for _, slot := range "0123456789abcdef" {
			if e, err := kv.Get(t.Context(), string(slot)+".lease"); err == nil {
				var v struct{ Replica string }
				if json.Unmarshal(e.Value(), &v) == nil {
					n[v.Replica]++
				}
			}
		}
		return n
	}
	shared := func(want ...int) {
		t.Helper()
		natstest.Until(t, func() bool {
			return slices.Equal(slices.Sorted(maps.Values(owners())), want)
		})
	}
	service := consume.Service[tally]{
		Name: "ivr", Lease: time.Minute, Handle: func(context.Context, *consume.Call[tally], *schemas.Message) error { return nil },
	}
	start(t, server.URL(), service)
	shared(16)
	second, third := start(t, server.URL(), service), start(t, server.URL(), service)
	shared(5, 5, 6)
	second.stop(t)
	shared(8, 8)
	third.stop(t)
	shared(16)
}

func TestRun_cannotStart(t *testing.T) {
	server := natstest.Start(t)
	nc := connect(t, server.URL())
	handle := func(context.Context, *consume.Call[tally], *schemas.Message) error { return nil }
	for want, service := range map[string]consume.Service[tally]{
		"Name":                        {Name: "No", Handle: handle},
		"Handle: is required":         {Name: "ivr"},
		"Lease, 1s: must be at least": {Name: "ivr", Handle: handle, Lease: time.Second},
		"start acsbridge serve":       {Name: "ivr", Handle: handle},
	} {
		if err := consume.Run(t.Context(), nc, service); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

// A held call waits after its dead letter, until that is redriven to this service.
func TestRedrive(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	var h history
	var repaired atomic.Bool
	service := consume.Service[tally]{
		Name: "ivr", HoldFailed: true, Lease: 3 * time.Second,
		Handle: func(_ context.Context, call *consume.Call[tally], m *schemas.Message) error {
			if m.Event.ID == "bad" && !repaired.Load() {
				return consume.Permanent(errors.New("no such tenant"))
			}
			h.add(m.Event.ID)
			return nil
		},
	}
	start(t, server.URL(), service)
	ready(t, js, "ivr")
	bad := store(t, js, newEvent("PlayCompleted", "call", "bad", nil))
	store(t, js, newEvent("PlayCompleted", "call", "next", nil))
	store(t, js, newEvent("PlayCompleted", "other", "0", nil))
	server.Await(consume.DeadStream("ivr"), 1)
	natstest.Until(t, func() bool { return slices.Contains(h.all(), "0") })
	repaired.Store(true)
	if err := consume.Redrive(t.Context(), server.JetStream(), "ivr", "call", bad); err != nil {
		t.Fatal(err)
	}
	natstest.Until(t, func() bool { return len(h.all()) == 3 })
	if diff := cmp.Diff([]string{"0", "bad", "next"}, h.all()); diff != "" {
		t.Error(diff)
	}
}

// An event that was not handled yet cannot be redriven: those before it would be left out.
func TestRedrive_notHandledYet(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	var h history
	service := consume.Service[tally]{
		Name: "ivr",
		Handle: func(_ context.Context, _ *consume.Call[tally], m *schemas.Message) error {
			h.add(m.Event.ID)
			return nil
		},
	}
	for round := range 2 { // without an entry, and with one
		r := start(t, server.URL(), service)
		ready(t, js, "ivr")
		natstest.Until(t, func() bool { return len(h.all()) == 2*round })
		r.stop(t)
		store(t, js, newEvent("PlayCompleted", "call", fmt.Sprint(2*round), nil))
		last := store(t, js, newEvent("PlayCompleted", "call", fmt.Sprint(2*round+1), nil))
		if err := consume.Redrive(t.Context(), js, "ivr", "call", last); err == nil {
			t.Error("no error")
		}
	}
	start(t, server.URL(), service)
	natstest.Until(t, func() bool { return len(h.all()) == 4 })
	if diff := cmp.Diff([]string{"0", "1", "2", "3"}, h.all()); diff != "" {
		t.Error(diff)
	}
}
