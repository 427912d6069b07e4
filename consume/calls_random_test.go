package consume

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/internal/backoff"
)

// randomWorld is a stream, a bucket, and the owners of one slot, of which only the last
// one is rightful. The others go on as if nothing had happened: their writes are refused
// or not, by compare-and-set alone.
type randomWorld struct {
	t        *testing.T
	dice     *rand.Rand
	now      time.Time
	stream   []string // the call of each event; its sequence is the index + 1
	bucket   map[string]*Entry
	revision map[string]uint64
	last     uint64 // revision
	floor    uint64 // of the consumer
	owners   []*randomOwner
}

type randomOwner struct {
	calls    *calls
	next     uint64 // event that comes next
	commands []command
	running  []*call
	lost     bool
}

func (w *randomWorld) takeOver() {
	w.last++
	o := &randomOwner{next: w.floor + 1, calls: newCalls(w.last, limits{
		attempts: 1 << 30, age: 1 << 60, pause: backoff.Doubling{First: time.Second, Last: time.Second}, parked: 1000, idleBytes: 2000,
	})}
	for token, e := range w.bucket {
		o.calls.remember(token, e, w.revision[token])
	}
	w.owners = append(w.owners, o)
}

// write stores an entry by compare-and-set.
func (w *randomWorld) write(c *call) bool {
	if w.revision[c.token] != c.revision {
		return false
	}
	w.last++
	w.bucket[c.token], w.revision[c.token] = c.next, w.last
	return true
}

// step lets one owner do one thing.
func (w *randomWorld) step(o *randomOwner, faults bool) {
	q := o.calls
	o.commands = append(o.commands, q.commands...)
	q.commands = nil
	for c := q.takeReady(); c != nil; c = q.takeReady() {
		o.running = append(o.running, c)
	}
	switch dice := w.dice.IntN(4); {
	case o.lost:
	case dice == 0 && int(o.next) <= len(w.stream):
		q.admit(o.next, w.stream[o.next-1], &nats.Msg{}, w.now)
		o.next++
	case dice == 1 && len(o.running) > 0:
		i := w.dice.IntN(len(o.running))
		c := o.running[i]
		o.running = slices.Delete(o.running, i, i+1)
		q.handled(c, w.handle(c, o == w.owners[len(w.owners)-1], faults), w.now)
	case len(o.commands) > 0:
		i := w.dice.IntN(len(o.commands))
		command := o.commands[i]
		o.commands = slices.Delete(o.commands, i, i+1)
		switch c := command.call; command.io {
		case ioReading:
			o.lost = q.loaded(c, w.bucket[c.token], w.revision[c.token], w.now) != nil
		case ioWriting:
			stored := w.write(c)
			if stored && (!faults || w.dice.IntN(5) > 0) {
				q.saved(c, w.last, w.now)
			} else {
				q.unsure(c, w.now)
			}
		}
	case w.dice.IntN(10) == 0:
		if c := q.byToken[fmt.Sprint("c", w.dice.IntN(6))]; c != nil && faults {
			c.keep = true
			q.step(c, w.now)
		}
	}
	q.due(w.now)
	if o.lost || q.window.first() == nil || w.dice.IntN(3) == 0 {
		w.floor = max(w.floor, q.window.floor) // also a former owner acknowledges what is true
	}
}

// handle is the handler: the state is the list of the events handled. The rightful
// owner's must see all events before this one, and not this one.
func (w *randomWorld) handle(c *call, rightful, faults bool) *outcome {
	o, ev := &outcome{event: c.events[0]}, c.events[0]
	var state []uint64
	if len(c.entry.State) > 0 {
		if err := json.Unmarshal(c.entry.State, &state); err != nil {
			w.t.Fatal(err)
		}
	}
	if want := w.before(c.token, ev.seq); rightful && !slices.Equal(state, want) {
		w.t.Fatalf("event %d of %s is handled after %v, want %v", ev.seq, c.token, state, want)
	}
	if faults && w.dice.IntN(4) == 0 {
		o.err = errors.New("no")
		return o
	}
	o.state, _ = json.Marshal(append(state, ev.seq)) // numbers can be written
	return o
}

// before returns the events of a call before a sequence.
func (w *randomWorld) before(token string, seq uint64) (list []uint64) {
	for i, call := range w.stream {
		if call == token && uint64(i+1) < seq {
			list = append(list, uint64(i+1))
		}
	}
	return list
}

// Whatever writes are refused or unanswered, however often the slot changes hands, and
// whatever former owners still do: each call keeps its order, and its state is the fold of
// its events.
func TestCalls_random(t *testing.T) {
	for seed := range uint64(300) {
		w := &randomWorld{
			t: t, dice: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1_800_000_000, 0),
			bucket: make(map[string]*Entry), revision: make(map[string]uint64),
		}
		w.takeOver()
		for range 60 {
			w.stream = append(w.stream, fmt.Sprint("c", w.dice.IntN(6)))
		}
		for range 600 {
			w.now = w.now.Add(time.Duration(w.dice.IntN(200)) * time.Millisecond)
			owner := w.owners[len(w.owners)-1]
			if w.dice.IntN(4) == 0 {
				owner = w.owners[w.dice.IntN(len(w.owners))]
			}
			w.step(owner, true)
			if w.dice.IntN(100) == 0 {
				w.takeOver()
			}
		}
		owner := w.owners[len(w.owners)-1]
		for range 20_000 {
			if owner.calls.window.floor == uint64(len(w.stream)) && len(owner.running)+len(owner.commands)+len(owner.calls.timers.heap)+len(owner.calls.ready)+len(owner.calls.commands) == 0 {
				break
			}
			w.now = w.now.Add(50 * time.Millisecond)
			w.step(owner, false)
		}
		for token, e := range w.bucket {
			want, _ := json.Marshal(w.before(token, 1000))
			if string(e.State) != string(want) || len(e.Queue) > 0 {
				t.Errorf("seed %d: %s has %s and the queue %v, want %s", seed, token, e.State, e.Queue, want)
			}
		}
		if t.Failed() {
			return
		}
	}
}
