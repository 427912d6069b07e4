package consume

import (
	"encoding/json"
	"errors"
	"flag"
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
	late     []lateWrite
	most     int            // one write of so many is late, more or less
	failed   map[string]int // how often the handler has failed, by event
}

// lateWrite is a write whose answer was given up. It arrives at any time: after later
// ones, and after a handover.
type lateWrite struct {
	token    string
	revision uint64
	entry    *Entry
}

type randomOwner struct {
	calls    *calls
	next     uint64 // event that comes next
	commands []command
	answers  []func() // on their way
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
func (w *randomWorld) write(l lateWrite) bool {
	if w.revision[l.token] != l.revision {
		return false
	}
	w.last++
	w.bucket[l.token], w.revision[l.token] = l.entry, w.last
	return true
}

// arrive lets one of the late writes arrive.
func (w *randomWorld) arrive() {
	if len(w.late) > 0 {
		i := w.dice.IntN(len(w.late))
		w.write(w.late[i])
		w.late = slices.Delete(w.late, i, i+1)
	}
}

// redrive puts a dead letter of a call into its queue once more, where it will be one again.
func (w *randomWorld) redrive() {
	token := fmt.Sprint("c", w.dice.IntN(6))
	e, q := w.bucket[token], w.owners[len(w.owners)-1].calls
	for i, call := range w.stream {
		seq := uint64(i + 1)
		if call == token && permanent(seq) && e != nil && e.finished(seq) && w.dice.IntN(2) == 0 {
			e = e.clone()
			e.Queue = slices.Insert(e.Queue, 0, seq)
			w.write(lateWrite{token, w.revision[token], e})
			q.wakeUp(token, w.now)
			return
		}
	}
}

// step lets one owner do one thing.
func (w *randomWorld) step(o *randomOwner, faults bool) {
	q := o.calls
	o.commands = append(o.commands, q.commands...)
	q.commands = nil
	for c := q.takeReady(); c != nil; c = q.takeReady() {
		o.running = append(o.running, c)
	}
	switch dice := w.dice.IntN(5); {
	case o.lost:
	case dice == 0 && int(o.next) <= len(w.stream):
		q.admit(o.next, w.stream[o.next-1], &nats.Msg{}, w.now)
		o.next++
	case dice == 1 && len(o.running) > 0:
		i := w.dice.IntN(len(o.running))
		c := o.running[i]
		o.running = slices.Delete(o.running, i, i+1)
		q.handled(c, w.handle(c, o == w.owners[len(w.owners)-1], faults), w.now)
	case dice < 4 && len(o.commands) > 0:
		i := w.dice.IntN(len(o.commands))
		command := o.commands[i]
		o.commands = slices.Delete(o.commands, i, i+1)
		w.perform(o, command, faults)
	case len(o.answers) > 0:
		i := w.dice.IntN(len(o.answers))
		answer := o.answers[i]
		o.answers = slices.Delete(o.answers, i, i+1)
		answer()
	case w.dice.IntN(10) == 0:
		if c := q.byToken[fmt.Sprint("c", w.dice.IntN(6))]; c != nil && faults {
			c.keep = true
			q.step(c, w.now)
		}
	}
	q.due(w.now)
	if int(o.next) > len(w.stream) && !o.lost { // all was received
		q.expire(w.now, w.now)
	}
	if o.lost || q.window.first() == nil || w.dice.IntN(3) == 0 {
		w.floor = max(w.floor, q.window.floor) // also a former owner acknowledges what is true
	}
}

// perform carries out a command. Its answer comes later, or is lost, or the write is late.
func (w *randomWorld) perform(o *randomOwner, command command, faults bool) {
	q, c := o.calls, command.call
	answer := func() { q.unsure(c, w.now) }
	switch command.io {
	case ioReading:
		e, revision := w.bucket[c.token], w.revision[c.token]
		answer = func() { o.lost = o.lost || q.loaded(c, e, revision, w.now) != nil }
	case ioBurying:
		answer = func() { q.buried(c, w.now) }
	case ioWriting:
		l := lateWrite{c.token, c.revision, c.next}
		if faults && w.dice.IntN(w.most) == 0 {
			w.late = append(w.late, l)
		} else if w.write(l) && (!faults || w.dice.IntN(5) > 0) {
			revision := w.last
			answer = func() { q.saved(c, revision, w.now) }
		}
	}
	o.answers = append(o.answers, answer)
}

// permanent reports whether an event of the stream becomes a dead letter, and waits
// whether its handler begins a wait, which nothing ends but its timeout.
func permanent(seq uint64) bool { return seq%7 == 0 }

func waits(seq uint64) bool { return seq%5 == 0 && !permanent(seq) }

// timeout is the mark that a state has of the timeout of an event's wait.
const timeout = 1000

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
	mark := ev.seq
	if ev.wait != "" && !slices.ContainsFunc(c.entry.Waits, func(w Wait) bool { return w.ID == ev.wait }) {
		o.skipped, o.state = skippedSatisfied, c.entry.State
		return o
	}
	if ev.wait != "" {
		fmt.Sscanf(ev.wait, "wait/%d", &mark) // as below
		mark += timeout
		if rightful && (slices.Contains(state, mark) || !slices.Contains(state, mark-timeout)) {
			w.t.Fatalf("timeout %d of %s is handled after %v", mark-timeout, c.token, state)
		}
	} else if want := w.before(c.token, ev.seq); rightful && !permanent(ev.seq) && !slices.Equal(events(state), want) {
		w.t.Fatalf("event %d of %s is handled after %v, want %v", ev.seq, c.token, events(state), want)
	}
	if r := c.entry.Retry; r != nil && r.Event == ev.key() && r.Attempts > w.failed[r.Event] {
		w.t.Fatalf("event %s has %d attempts, and has failed %d times", r.Event, r.Attempts, w.failed[r.Event])
	}
	switch {
	case faults && w.dice.IntN(4) == 0:
		w.failed[ev.key()]++
		o.err, o.after = errors.New("no"), time.Second
		return o
	case ev.wait == "" && permanent(ev.seq):
		o.err, o.permanent = errors.New("never"), true
		return o
	case ev.wait == "" && waits(ev.seq):
		o.waits = []Wait{{ID: fmt.Sprint("wait/", ev.seq), Types: []string{"None"}, Deadline: w.now.Add(time.Second)}}
	}
	o.state, _ = json.Marshal(append(state, mark)) // numbers can be written
	return o
}

// events returns those of a state that are not timeouts.
func events(state []uint64) []uint64 {
	return slices.DeleteFunc(slices.Clone(state), func(mark uint64) bool { return mark >= timeout })
}

// before returns the events of a call before a sequence.
func (w *randomWorld) before(token string, seq uint64) (list []uint64) {
	for i, call := range w.stream {
		if seq > uint64(i+1) && call == token && !permanent(uint64(i+1)) {
			list = append(list, uint64(i+1))
		}
	}
	return list
}

// Whatever writes are refused, late or unanswered, however often the slot changes hands,
// and whatever former owners still do: each call keeps its order, its state is the fold of
// its events, and each wait has one timeout.
func TestCalls_random(t *testing.T) {
	for i := range uint64(300) {
		seed := *randomSeed
		if seed == 0 {
			seed = rand.Uint64()>>1 | 1
		} else if i > 0 {
			break
		}
		if play(t, seed); t.Failed() {
			t.Fatalf("-consume.random=%d", seed)
		}
	}
}

var randomSeed = flag.Uint64("consume.random", 0, "of the one world that TestCalls_random plays; 0 plays some hundred others each time")

func play(t *testing.T, seed uint64) {
	w := &randomWorld{
		t: t, dice: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1_800_000_000, 0),
		bucket: make(map[string]*Entry), revision: make(map[string]uint64), failed: make(map[string]int),
	}
	defer func() {
		if t.Failed() {
			t.Logf("-consume.random=%d", seed)
		}
	}()
	w.most = 2 + w.dice.IntN(8)
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
		if w.dice.IntN(10) == 0 {
			w.arrive()
		}
		if w.dice.IntN(40) == 0 {
			w.redrive()
		}
		if w.dice.IntN(100) == 0 {
			w.takeOver()
		}
	}
	owner := w.owners[len(w.owners)-1]
	for range 20_000 {
		if len(w.late)+len(owner.running)+len(owner.commands)+len(owner.answers)+len(owner.calls.timers.heap)+len(owner.calls.ready)+len(owner.calls.commands)+len(owner.calls.overdue) == 0 && owner.calls.window.floor == uint64(len(w.stream)) {
			break
		}
		w.now = w.now.Add(50 * time.Millisecond)
		w.step(owner, false)
		if w.dice.IntN(50) == 0 {
			w.arrive()
		}
	}
	w.check()
}

// check compares the entries with the stream.
func (w *randomWorld) check() {
	for token, e := range w.bucket {
		var state []uint64
		if len(e.State) > 0 {
			if err := json.Unmarshal(e.State, &state); err != nil {
				w.t.Fatal(err)
			}
		}
		want := w.before(token, timeout)
		if !slices.Equal(events(state), want) || len(e.Queue)+len(e.Waits) > 0 {
			w.t.Errorf("%s has %s, the queue %v and the waits %v, want %v", token, e.State, e.Queue, e.Waits, want)
		}
		for _, seq := range want {
			count := 0
			for _, mark := range state {
				if mark == seq+timeout {
					count++
				}
			}
			if want := waits(seq); count > 1 || want != (count == 1) {
				w.t.Errorf("%s has %s: %d timeouts of event %d, want one: %v", token, e.State, count, seq, want)
			}
		}
	}
}
