package consume

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Time in which an event was due and not tried does not count as failing.
func TestCalls_ageWithoutPauses(t *testing.T) {
	for late, want := range map[time.Duration]string{0: "bury a", 40 * time.Minute: "write a"} {
		p := newPlayer(func(l *limits) { l.attempts, l.age = 100, 30*time.Minute })
		p.do("event a 1")
		p.do("store a")
		p.do("fail a")
		p.do("store a")
		p.now = p.now.Add(10*time.Second + 40*time.Minute)
		p.do("wait 0s")
		c := p.q.byToken["a"]
		p.q.handled(c, &outcome{event: c.events[0], err: errors.New("no"), began: c.entry.Retry.Next.Add(late)}, p.now)
		if got := p.asks(); got != want {
			t.Errorf("tried %v late: got %q, want %q", late, got, want)
		}
	}
}

// An event that waits for a handler is not written into its entry, one whose handler
// takes long is.
func TestCalls_keepFirst(t *testing.T) {
	p := newPlayer(nil)
	p.do("event a 1")
	p.do("store a")
	p.now = p.now.Add(time.Hour)
	p.q.keepFirst(p.now)
	if got := p.asks(); got != "" {
		t.Errorf("after an hour without a handler: %q, want nothing", got)
	}
	p.q.byToken["a"].began = p.now
	p.q.keepFirst(p.now.Add(keepAfter))
	if got := p.asks(); got != "" {
		t.Errorf("with a handler that has begun just now: %q, want nothing", got)
	}
	p.q.keepFirst(p.now.Add(keepAfter + 1))
	if got := p.asks(); got != "write a" {
		t.Errorf("with a handler that takes long: %q, want a write", got)
	}
}

// An event whose dead letter cannot be stored is kept in the entry, and tried again when
// its time has come, also by the next owner: without the handler.
func TestCalls_notBuried(t *testing.T) {
	p := newPlayer(nil)
	play := func(lines ...string) {
		t.Helper()
		for _, line := range lines {
			step, want, _ := strings.Cut(line, " >")
			if got := p.do(step); got != strings.TrimSpace(want) {
				t.Fatalf("%s: got %q, want %q", step, got, strings.TrimSpace(want))
			}
		}
	}
	play("event a 1 > write a", "event a 2 >", "store a > run a 1", "permanent a > bury a", "unburied a > write a", "store a >")
	if w := &p.q.window; w.floor != 2 || len(w.open) > 0 {
		t.Errorf("the floor is at %d with %d open, want 2 and none", w.floor, len(w.open))
	}
	play("event a 3 > write a", "store a >", "wait 9s >", "wait 1s > bury a", "unburied a > write a", "store a >")
	if r := p.bucket["a"].Retry; r.Attempts != 1 || r.Dead.Reason != reasonPermanent || r.Dead.ID != "letter-a" {
		t.Errorf("in the entry: %+v, %+v", r, r.Dead)
	}
	p = p.fresh()
	play("wait 9s >", "wait 1s > read a", "read a > write a", "store a > bury a", "buried a > write a", "store a > run a 2",
		"done a > write a", "store a > run a 3", "done a > write a", "store a >")
}

// While no event can be given up, no further one is taken at the bound of parked calls.
func TestCalls_full(t *testing.T) {
	p := newPlayer(func(l *limits) { l.parked = 2 })
	for i, call := range []string{"a", "b", "c"} {
		p.do(fmt.Sprint("event ", call, " ", i+1))
		p.do("store " + call)
		p.do("fail " + call)
		p.now = p.now.Add(time.Second)
		p.do("store " + call) // of the third one: a is to be given up
	}
	if p.q.full() {
		t.Error("full before a dead letter has failed")
	}
	if got := p.do("unburied a"); got != "" || !p.q.full() {
		t.Errorf("got %q, full: %v", got, p.q.full())
	}
	p.do("event d 4")
	p.do("store d")
	p.do("fail d")
	p.now = p.now.Add(buryPause)
	if got := p.do("store d"); got != "bury a" {
		t.Errorf("a second later: %q, want another attempt", got)
	}
	if p.do("buried a"); p.q.full() {
		t.Error("full after a dead letter was stored")
	}
}

// An entry that is redriven while it is read is read once more.
func TestCalls_redrivenWhileRead(t *testing.T) {
	p := newPlayer(nil)
	p.do("foreign a 50")
	p.do("event a 20")
	if got := p.do("refuse a"); got != "read a" {
		t.Fatal(got)
	}
	before, revision := p.bucket["a"], p.revision
	p.do("redrive a 10")
	p.q.wakeUp("a", p.now)
	if err := p.q.loaded(p.q.byToken["a"], before, revision, p.now); err != nil {
		t.Fatal(err)
	}
	if got := p.asks(); got != "read a" {
		t.Fatalf("got %q, want another read", got)
	}
	p.do("read a")
	if got := p.do("store a"); got != "run a 10" {
		t.Errorf("got %q, want the event that was redriven", got)
	}
}
