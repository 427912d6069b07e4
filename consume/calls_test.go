package consume

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/internal/backoff"
)

// player plays the loop and the bucket for calls. A step of a script is a verb and its
// subject; what it makes the calls ask for is compared.
type player struct {
	q        *calls
	now      time.Time
	bucket   map[string]*Entry
	revision uint64
	late     *Entry // a write whose answer was given up, and that is not stored yet
}

const testEpoch = 100

func newPlayer(change func(*limits)) *player {
	l := limits{attempts: 3, age: time.Hour, pause: backoff.Doubling{First: 10 * time.Second, Last: 10 * time.Second}, parked: 100, idleBytes: 1 << 20}
	if change != nil {
		change(&l)
	}
	return &player{q: newCalls(testEpoch, l), now: time.Unix(1_800_000_000, 0), bucket: make(map[string]*Entry)}
}

// do performs one step and returns what the calls ask for then, "run" included.
func (p *player) do(step string) string {
	verb, rest, _ := strings.Cut(step, " ")
	token, rest, _ := strings.Cut(rest, " ")
	c := p.q.byToken[token]
	switch verb {
	case "event": // event CALL SEQUENCE
		var seq uint64
		fmt.Sscan(rest, &seq)
		p.q.admit(seq, token, &nats.Msg{Reply: fmt.Sprint("ack-", seq)}, p.now)
	case "store": // the write under way is stored and answered
		p.revision++
		p.bucket[token] = c.next
		p.q.saved(c, p.revision, p.now)
	case "lose": // it is stored, and its answer lost
		p.revision++
		p.bucket[token] = c.next
		p.q.unsure(c, p.now)
	case "delay": // it is neither stored nor answered in time
		p.late = c.next
		p.q.unsure(c, p.now)
	case "land": // the delayed write is stored
		p.revision++
		p.bucket[token] = p.late
	case "redrive": // redrive CALL SEQUENCE
		var seq uint64
		fmt.Sscan(rest, &seq)
		p.revision++
		e := p.bucket[token].clone()
		e.Queue, e.Cursor = append([]uint64{seq}, e.Queue...), max(e.Cursor, seq)
		p.bucket[token] = e
	case "refuse":
		p.q.unsure(c, p.now)
	case "read":
		if err := p.q.loaded(c, p.bucket[token], p.revision, p.now); err != nil {
			return err.Error()
		}
	case "foreign": // another replica writes an entry: foreign CALL EPOCH
		var epoch uint64
		fmt.Sscan(rest, &epoch)
		p.revision++
		e := &Entry{}
		if have := p.bucket[token]; have != nil {
			e = have.clone()
		}
		e.Epoch, e.Write = epoch, 7
		p.bucket[token] = e
	case "done", "fail", "permanent": // the handler ends
		o := &outcome{event: c.events[0], state: []byte(`"` + c.events[0].key() + `"`)}
		switch verb {
		case "fail":
			o.err = errors.New("no")
		case "permanent":
			o.err, o.permanent = errors.New("no"), true
		}
		for _, w := range strings.Fields(rest) { // waits for these types
			o.waits = append(o.waits, Wait{ID: "wait-" + w, Types: []string{w}, Deadline: p.now.Add(time.Minute)})
		}
		p.q.handled(c, o, p.now)
	case "result", "skip": // an event of a type with a context ends: result CALL TYPE CONTEXT; or the handler does not get it
		o := &outcome{event: c.events[0]}
		if verb == "skip" {
			o.skipped = skippedReplay
		}
		fmt.Sscan(rest, &o.shortType, &o.context)
		p.q.handled(c, o, p.now)
	case "buried":
		p.q.buried(c, p.now)
	case "unburied": // the dead letter cannot be stored
		p.q.notBuried(c, &Dead{ID: "letter-" + token, Reason: c.bury, Error: "no"}, p.now)
	case "wait": // wait SECONDS
		d, err := time.ParseDuration(token)
		if err != nil {
			panic(err)
		}
		p.now = p.now.Add(d)
		p.q.due(p.now)
		p.q.expire(p.now, p.now)
	case "keep":
		c.keep = true
		p.q.step(c, p.now)
	default:
		panic(step)
	}
	return p.asks()
}

func (p *player) asks() string {
	var asks []string
	for _, c := range p.q.commands {
		asks = append(asks, map[ioState]string{ioReading: "read ", ioWriting: "write ", ioBurying: "bury "}[c.io]+c.call.token)
	}
	p.q.commands = nil
	for c := p.q.takeReady(); c != nil; c = p.q.takeReady() {
		asks = append(asks, "run "+c.token+" "+c.events[0].key())
	}
	return strings.Join(asks, ", ")
}

func TestCalls_step(t *testing.T) {
	for name, script := range map[string][]string{
		"claim before the first handler": {
			"event a 1 > write a", "store a > run a 1", "done a > write a", "store a >",
			"event a 2 > run a 2", "done a > write a", "store a >",
		},
		"one event of a call at a time": {
			"event a 1 > write a", "event a 2 >", "event b 3 > write b", "store a > run a 1", "store b > run b 3",
			"done a > write a", "store a > run a 2",
		},
		"an entry that is there is read after the refused claim": {
			"foreign a 50 >", "event a 1 > write a", "refuse a > read a", "read a > write a", "store a > run a 1",
		},
		"a higher epoch ends the slot": {
			"foreign a 101 >", "event a 1 > write a", "refuse a > read a", "read a > another replica has the slot",
		},
		"a save with a lost answer counts": {
			"event a 1 > write a", "store a > run a 1", "done a > write a", "lose a > read a", "read a >", "event a 2 > run a 2",
		},
		"a save that was not stored is made again, and the handler does not run again": {
			"event a 1 > write a", "store a > run a 1", "done a > write a", "refuse a > read a", "read a > write a", "store a >",
		},
		"a save that is stored after its answer was given up": {
			"event a 1 > write a", "event a 2 >", "store a > run a 1", "done a X > write a", "delay a > read a", "read a > write a",
			"land a >", "refuse a > read a", "read a > run a 2", "done a > write a", "store a >", "wait 60s > run a wait-X",
		},
		"the last event's save is stored late": {
			"event a 1 > write a", "store a > run a 1", "done a > write a", "delay a > read a", "read a > write a", "land a >",
			"refuse a > read a", "read a >", "event a 2 > run a 2",
		},
		"an event that is redriven while another one is handled": {
			"event a 20 > write a", "store a > run a 20", "redrive a 10 >", "done a > write a", "refuse a > read a", "read a > write a",
			"store a > run a 10", "done a > write a", "store a >",
		},
		"an event that is redriven while another one is handled, and kept": {
			"event a 20 > write a", "event a 21 >", "store a > run a 20", "redrive a 10 >", "keep a > write a", "refuse a > read a",
			"read a >", "permanent a > bury a", "buried a > write a", "store a > run a 10",
		},
		"one that is redriven after a save with a lost answer": {
			"event a 20 > write a", "store a > run a 20", "done a > write a", "lose a > read a", "redrive a 10 >", "read a > run a 10",
		},
		"an event that the handler does not get ends no wait": {
			"event a 1 > write a", "store a > run a 1", "done a X > write a", "store a >", "event a 2 > run a 2", "skip a X > write a",
			"store a >", "wait 60s > run a wait-X",
		},
		"a claim of a new owner after ours": {
			"event a 1 > write a", "store a > run a 1", "foreign a 101 >", "done a > write a", "refuse a > read a",
			"read a > another replica has the slot",
		},
		"a failing event parks its call": {
			"event a 1 > write a", "event b 2 > write b", "store a > run a 1", "event a 3 >", "fail a > write a", "store a >",
			"event a 4 > write a", "store a >", "store b > run b 2", "wait 4s >", "wait 7s > run a 1", "done a > write a",
			"store a > run a 3", "done a > write a", "store a > run a 4",
		},
		"attempts": {
			"event a 1 > write a", "store a > run a 1", "fail a > write a", "store a >", "wait 10s > run a 1", "fail a > write a",
			"store a >", "wait 10s > run a 1", "fail a > bury a", "buried a > write a", "store a >", "event a 2 > run a 2",
		},
		"permanent": {
			"event a 1 > write a", "event a 2 >", "store a > run a 1", "permanent a > bury a", "buried a > write a", "store a > run a 2",
		},
		"a long handler's events are kept in the entry": {
			"event a 1 > write a", "event a 2 >", "store a > run a 1", "keep a > write a", "store a >", "done a > write a", "store a > run a 2",
		},
		"a handler that ends during a write": {
			"event a 1 > write a", "store a > run a 1", "keep a > write a", "done a >", "store a > write a", "store a >",
		},
		"a timeout": {
			"event a 1 > write a", "store a > run a 1", "done a X > write a", "store a >", "wait 59s >", "wait 1s > run a wait-X",
			"done a > write a", "store a >", "wait 1h >",
		},
		"a wait that was satisfied": {
			"event a 1 > write a", "store a > run a 1", "done a X > write a", "store a >", "event a 2 > run a 2", "result a X > write a",
			"store a >", "wait 1h >",
		},
		"a timeout that fails": {
			"event a 1 > write a", "store a > run a 1", "done a X > write a", "store a >", "wait 60s > run a wait-X", "fail a > write a",
			"store a >", "event a 2 > write a", "store a >", "wait 10s > run a wait-X", "done a > write a", "store a > run a 2",
		},
		"a retry and a deadline": {
			"event a 1 > write a", "store a > run a 1", "done a X > write a", "store a >", "wait 55s >", "event a 2 > run a 2",
			"fail a > write a", "store a >", "wait 10s > run a 2", "done a > write a", "store a > run a wait-X",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlayer(nil)
			for i, line := range script {
				step, want, _ := strings.Cut(line, " >")
				if got := p.do(step); got != strings.TrimSpace(want) {
					t.Fatalf("step %d, %s: got %q, want %q", i+1, step, got, strings.TrimSpace(want))
				}
			}
		})
	}
}

// fresh returns the player of a new owner of the slot, with a higher epoch.
func (p *player) fresh() *player {
	n := newPlayer(nil)
	n.q.epoch, n.now, n.bucket, n.revision = p.q.epoch+1, p.now, p.bucket, p.revision
	for token, e := range n.bucket {
		n.q.remember(token, e, p.revision)
	}
	return n
}

func TestCalls_newOwner(t *testing.T) {
	play := func(p *player, script ...string) {
		t.Helper()
		for _, line := range script {
			step, want, _ := strings.Cut(line, " >")
			if got := p.do(step); got != strings.TrimSpace(want) {
				t.Fatalf("%s: got %q, want %q", step, got, strings.TrimSpace(want))
			}
		}
	}
	t.Run("parked", func(t *testing.T) {
		p := newPlayer(nil)
		play(p, "event a 1 > write a", "event a 2 >", "store a > run a 1", "fail a > write a", "store a >")
		p = p.fresh()
		play(p, "wait 4s >", "wait 6s > read a", "read a > write a", "store a > run a 1", "done a > write a", "store a > run a 2")
	})
	t.Run("finished", func(t *testing.T) {
		p := newPlayer(nil)
		play(p, "event a 1 > write a", "store a > run a 1", "done a > write a", "store a >")
		p = p.fresh()
		play(p, "event a 1 >", "event a 2 > write a", "store a > run a 2")
		if p.q.window.floor != 1 {
			t.Errorf("the floor is at %d, want 1", p.q.window.floor)
		}
	})
	t.Run("waiting", func(t *testing.T) {
		p := newPlayer(nil)
		play(p, "event a 1 > write a", "store a > run a 1", "done a X > write a", "store a >")
		p = p.fresh()
		play(p, "wait 59s >", "wait 1s > write a", "store a > run a wait-X")
	})
	t.Run("cut off in a kept handler", func(t *testing.T) {
		p := newPlayer(nil)
		play(p, "event a 1 > write a", "event a 2 >", "store a > run a 1", "keep a > write a", "store a >")
		p = p.fresh()
		play(p, "wait 0s > read a", "read a > write a", "store a > run a 1", "done a > write a", "store a > run a 2")
	})
}

func TestCalls_queueFull(t *testing.T) {
	p := newPlayer(nil)
	p.do("event a 1")
	p.do("store a")
	p.do("fail a")
	p.do("store a")
	for seq := range maxQueue - 1 {
		p.do(fmt.Sprint("event a ", seq+2))
		p.do("store a")
	}
	if got := p.do(fmt.Sprint("event a ", maxQueue+1)); got != "bury a" {
		t.Fatalf("got %q, want the oldest event buried", got)
	}
	if got := p.do("buried a"); got != "write a" {
		t.Fatal(got)
	}
	if got := p.do("store a"); got != "run a 2" {
		t.Errorf("got %q, want the next event to run", got)
	}
}

func TestCalls_tooManyParked(t *testing.T) {
	p := newPlayer(func(l *limits) { l.parked = 2 })
	park := func(call string, seq int) string {
		p.do(fmt.Sprint("event ", call, " ", seq))
		p.do("store " + call)
		p.do("fail " + call)
		p.now = p.now.Add(time.Second)
		return p.do("store " + call)
	}
	if got := park("a", 1) + park("b", 2); got != "" {
		t.Fatal(got)
	}
	if got := park("c", 3); got != "bury a" {
		t.Errorf("got %q, want the call buried that has been parked longest", got)
	}
}

// Parked and idle calls leave memory, but for their times.
func TestCalls_memory(t *testing.T) {
	p := newPlayer(func(l *limits) { l.idleBytes, l.parked = 10_000, 1000 })
	for i := range 500 {
		call := fmt.Sprint("c", i)
		p.do(fmt.Sprint("event ", call, " ", i+1))
		p.do("store " + call)
		if i%2 == 0 {
			p.do("done " + call)
		} else {
			p.do("fail " + call)
		}
		p.do("store " + call)
	}
	if n := len(p.q.byToken); n > 30 {
		t.Errorf("%d calls are in memory, want at most 30", n)
	}
	if n := len(p.q.timers.heap); n != 250 {
		t.Errorf("%d times, want one for each of the 250 parked calls", n)
	}
	if w := &p.q.window; w.floor != 500 || len(w.open) > 0 {
		t.Errorf("the floor is at %d with %d open, want 500 and none", w.floor, len(w.open))
	}
	p.now = p.now.Add(10 * time.Second)
	for range 250/maxDue + 1 {
		p.q.due(p.now)
	}
	asks := p.asks()
	if got := strings.Count(asks, "read") + strings.Count(asks, "run"); got != 250 {
		t.Errorf("%d parked calls are looked at when they are due, want 250", got)
	}
}

func TestWindow_newFeed(t *testing.T) {
	var w window
	now := time.Now()
	first, second := w.admit(1, "old-1", "a", now), w.admit(2, "old-2", "b", now)
	w.finish(first)
	if w.floor != 1 || w.reply != "old-1" {
		t.Fatalf("floor %d, reply %q", w.floor, w.reply)
	}
	w.restart()
	if w.reply != "" {
		t.Errorf("after a restart the floor would be acknowledged as %q", w.reply)
	}
	if w.admit(1, "new-1", "a", now) != nil || w.admit(2, "new-2", "b", now) != nil {
		t.Error("a message is admitted twice")
	}
	if w.reply != "new-1" {
		t.Errorf("the floor is acknowledged as %q, want new-1", w.reply)
	}
	w.finish(second)
	if w.floor != 2 || w.reply != "new-2" {
		t.Errorf("floor %d, reply %q, want 2 and new-2", w.floor, w.reply)
	}
}

func TestShare(t *testing.T) {
	for n := 1; n <= 20; n++ {
		var ids []string
		for i := range n {
			ids = append(ids, fmt.Sprintf("%02d", i))
		}
		total, least, most := 0, 99, 0
		for _, id := range ids {
			got := share(append([]string(nil), ids...), id)
			total, least, most = total+got, min(least, got), max(most, got)
		}
		if total != 16 || most-least > 1 {
			t.Errorf("%d replicas: %d slots in all, %d to %d each", n, total, least, most)
		}
	}
	if got := share([]string{"a"}, "b"); got != 0 {
		t.Errorf("a replica that is not listed has %d slots", got)
	}
}

func TestCheckVersion(t *testing.T) {
	got := make(map[string]bool)
	for _, version := range []string{"2.13.9", "2.14.0", "2.15.2", "3.0.0-dev", "1.4.1", ""} {
		got[version] = checkVersion(version) == nil
	}
	want := map[string]bool{"2.13.9": false, "2.14.0": true, "2.15.2": true, "3.0.0-dev": true, "1.4.1": false, "": false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
