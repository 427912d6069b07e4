package faults_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/schemas"
)

// repeats is how often each callback is sent.
const repeats = 100

// TestDuplicates sends the same callbacks a hundred times, each time with a new token,
// while the bridge is killed and the stream changes its leader.
func TestDuplicates(t *testing.T) {
	scenario{nodes: byForm(1, 3), load: load{rate: 200}, rounds: byForm(1, 3), fault: func(w *world, round int) {
		calls := w.writes(10, round)
		for n := range repeats {
			switch {
			case n == repeats/4:
				w.bridge.kill()
				w.bridge.start()
			case len(w.nats.nodes) == 1:
			case n == repeats/2:
				w.stepDown()
			case n == repeats*3/4:
				leader, _ := w.nats.leader()
				leader.stop(os.Kill)
				defer w.nats.whole()
				defer leader.start()
			}
			for _, call := range calls {
				w.sender.deliver(w.Context(), call[0])
			}
		}
	}}.run(t)
}

// writes makes a callback for each of n new calls.
func (w *world) writes(n, round int) (calls [][]*callback) {
	good := usual
	good.forged, good.astray = 0, 0
	for i := range n {
		a := newAuthor(w.rng.Uint64(), len(w.sender.authors)+round*n+i, good, w.canary)
		calls = append(calls, []*callback{a.next()})
	}
	w.extra = append(w.extra, calls...)
	return calls
}

// stepDown makes the stream elect another leader.
func (w *world) stepDown() {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), natsStarts)
	defer cancel()
	nc := w.nats.connect().Conn()
	if _, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+schemas.Stream, nil); err != nil {
		w.Fatal(err)
	}
}

// TestOrder_severalSenders has eight senders for the events of one call.
func TestOrder_severalSenders(t *testing.T) {
	crowd := usual
	crowd.together = 8
	scenario{load: load{mix: crowd}, rounds: byForm(2, 10), fault: func(w *world, round int) {
		if round%2 == 1 {
			w.nats.nodes[0].clients.Reset()
		}
		w.answers(500, recoversWithin)
	}}.run(t)
}

// TestDuplicates_otherContent sends events with ids that the stream has already. It keeps
// the first of each, and the second goes to quarantine.
func TestDuplicates_otherContent(t *testing.T) {
	for name, between := range map[string]func(w *world, second func()){
		"at once": func(_ *world, second func()) { second() },
		"in an outage longer than the duplicate window": func(w *world, second func()) {
			node := w.nats.nodes[0]
			node.clients.SetTarget("")
			node.clients.Reset()
			second()
			w.pause(2 * shortWindow)
			node.clients.SetTarget(node.address)
		},
	} {
		t.Run(name, func(t *testing.T) {
			needForm(t)
			if *form == "short" && name != "at once" {
				t.Skip("waits for the duplicate window: run with -form=long")
			}
			s := scenario{prepare: func(w *world) { w.createStream(jetstream.StreamConfig{Duplicates: shortWindow}) }}
			w := s.arrange(t)
			calls := w.writes(20, 0)
			var first, second []event
			for _, call := range calls {
				w.sender.deliver(t.Context(), call[0])
				first = append(first, call[0].events...)
			}
			w.bridge.drained(drainsWithin)
			between(w, func() {
				for _, call := range calls {
					for i, e := range call[0].events {
						e.payload = bytes.Replace(e.payload, []byte(`"mark":""`), []byte(`"mark":"another"`), 1)
						second = append(second, e)
						call[0].events[i] = e
					}
					if status := w.post(w.sender.tokens.take().text, "application/json", call[0].body()); status != http.StatusOK {
						t.Errorf("an event with a known id is answered %d", status)
					}
				}
			})
			w.bridge.drained(drainsWithin)
			holds(t, w.nats.messages(schemas.Stream), first)
			holds(t, w.nats.messages(schemas.QuarantineStream), second)
			if got := w.bridge.metrics()["acsbridge_conflicts_total"]; got != float64(len(second)) {
				t.Errorf("the bridge counts %v conflicts, want %d", got, len(second))
			}
		})
	}
}

// holds checks that a stream has the bytes of the events, in any order.
func holds(t *testing.T, stream []*message, events []event) {
	t.Helper()
	want := make(map[string]int)
	for _, e := range events {
		want[string(e.payload)]++
	}
	for _, m := range stream {
		if want[string(m.data)]--; want[string(m.data)] < 0 {
			t.Errorf("%s %d holds what it should not: %s", m.stream, m.sequence, m.data)
		}
	}
	if len(stream) != len(events) {
		t.Errorf("a stream holds %d messages, want %d", len(stream), len(events))
	}
}

// TestConsumers_dead has a consumer without a client, and one that does not acknowledge:
// consumers do not affect the bridge.
func TestConsumers_dead(t *testing.T) {
	scenario{rounds: byForm(1, 3), fault: func(w *world, round int) {
		js := w.nats.connect()
		for _, name := range []string{"dead", "slow"} {
			consumer, err := js.CreateOrUpdateConsumer(w.Context(), schemas.Stream, jetstream.ConsumerConfig{
				Durable: fmt.Sprintf("%s-%d", name, round), AckWait: time.Second, MaxAckPending: 1000,
			})
			if err != nil {
				w.Fatal(err)
			}
			if name == "dead" {
				continue
			}
			taken, err := consumer.Messages(jetstream.PullMaxMessages(500))
			if err != nil {
				w.Fatal(err)
			}
			defer taken.Stop()
			if _, err := taken.Next(); err != nil {
				w.Fatal(err)
			}
		}
		before := w.unavailable()
		w.pause(byForm(2*time.Second, 30*time.Second))
		w.forwards(time.Second)
		if got := w.unavailable(); got != before {
			w.Errorf("%v callbacks were answered 503 because of a consumer", got-before)
		}
	}}.run(t)
}
