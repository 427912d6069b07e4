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

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// repeats is how often one callback is sent.
const repeats = 100

// TestRepeated sends the same callbacks a hundred times, each time with a new
// token, while the bridge is killed and the stream changes its leader (F14).
func TestRepeated(t *testing.T) {
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

// writes makes a callback of each of n calls that the sender does not have.
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

// stepDown makes the stream's leader give up.
func (w *world) stepDown() {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), natsStarts)
	defer cancel()
	nc := w.nats.connect().Conn()
	if _, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+schemas.Stream, nil); err != nil {
		w.Fatal(err)
	}
}

// TestTogether lets eight senders at a time send the events of one call, each
// in the order that it pleases (F16).
func TestTogether(t *testing.T) {
	crowd := usual
	crowd.together = 8
	scenario{load: load{mix: crowd}, rounds: byForm(2, 10), fault: func(w *world, round int) {
		if round%2 == 1 {
			w.nats.nodes[0].clients.reset()
		}
		w.answers(500, recoversWithin)
	}}.run(t)
}

// TestOneIdTwoContents: of two events with one id the stream holds the first,
// and the bridge counts the second as a duplicate (F15).
func TestOneIdTwoContents(t *testing.T) {
	scenario{rounds: byForm(1, 3), fault: func(w *world, round int) {
		duplicates := func() float64 { return sum(w.bridge.metrics(), "acsbridge_published_total{", `outcome="duplicate"`) }
		calls := w.writes(20, round)
		for _, call := range calls {
			w.sender.deliver(w.Context(), call[0])
		}
		before := duplicates()
		for _, call := range calls {
			other := bytes.Replace(call[0].body(), []byte(`"mark":""`), []byte(`"mark":"`+w.canary+`"`), 1)
			if status := w.post(w.sender.tokens.take().text, "application/json", other); status != http.StatusOK {
				w.Errorf("an event with an id that was there before is answered %d", status)
			}
		}
		until(w, recoversWithin, "the second contents are counted as duplicates", func() bool { return duplicates() >= before+20 })
	}}.run(t)
}

// TestTokenReused sends one token with two bodies (F15): with report both are
// stored, with refuse the first alone, and both count it.
func TestTokenReused(t *testing.T) {
	for policy, want := range map[string]int{"report": http.StatusOK, "refuse": http.StatusUnauthorized} {
		t.Run(policy, func(t *testing.T) {
			needForm(t)
			s := scenario{args: []string{"--token-reuse=" + policy}}
			w := s.arrange(t)
			calls := w.writes(2, 0)
			first, second := calls[0][0], calls[1][0]
			text, err := w.issuer.Sign(acstest.TokenSpec{Audience: acstest.DemoAudience})
			if err != nil {
				t.Fatal(err)
			}
			for _, post := range []struct {
				body []byte
				want int
			}{{first.body(), http.StatusOK}, {second.body(), want}, {first.body(), http.StatusOK}} {
				if got := w.post(text, "application/json", post.body); got != post.want {
					t.Errorf("answered %d, want %d", got, post.want)
				}
			}
			if reused := w.bridge.metrics()["acsbridge_token_reused_total"]; reused != 1 {
				t.Errorf("the bridge counts %v reused tokens, want 1", reused)
			}
			w.bridge.drained(drainsWithin)
			stored := len(first.events)
			if want == http.StatusOK {
				stored += len(second.events)
			}
			if got := len(w.nats.messages(schemas.Stream)); got != stored {
				t.Errorf("the stream holds %d events, want %d", got, stored)
			}
		})
	}
}

// TestDeadConsumer leaves one consumer without anybody who reads it, and lets
// another take a message and never acknowledge (F17). What consumers do is
// between them and the stream.
func TestDeadConsumer(t *testing.T) {
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
		away := w.unavailable()
		w.pause(byForm(2*time.Second, 30*time.Second))
		w.forwards(time.Second)
		if got := w.unavailable(); got != away {
			w.Errorf("%v callbacks were answered 503 because of a consumer", got-away)
		}
	}}.run(t)
}
