package consume

import (
	"errors"
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
