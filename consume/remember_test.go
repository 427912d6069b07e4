package consume

import (
	"strings"
	"testing"
	"time"
)

// A slot's entries are read by several requests, which different replicas of the bucket
// answer. One that is behind has an older revision of an entry than the next one.
func TestCalls_rememberNewer(t *testing.T) {
	at := newPlayer(nil).now.Add(time.Minute)
	for name, test := range map[string]struct {
		newer *Entry
		want  string
	}{
		"a wait":  {&Entry{Epoch: 90, Write: 2, Cursor: 2, Waits: []Wait{{ID: "w", Types: []string{"X"}, Deadline: at}}}, "write a"},
		"a queue": {&Entry{Epoch: 90, Write: 2, Cursor: 2, Queue: []uint64{2}, Retry: &Retry{Event: "2", Attempts: 1, Since: at, Next: at}}, "read a"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlayer(nil)
			p.q.remember("a", &Entry{Epoch: 90, Write: 1, Cursor: 1}, 5)
			p.q.remember("a", test.newer, 6)
			if got := p.do("wait 60s"); got != test.want {
				t.Errorf("when its time has come: %q, want %q", got, test.want)
			}
		})
	}
	t.Run("no wait any more", func(t *testing.T) {
		p := newPlayer(nil)
		p.q.remember("a", &Entry{Epoch: 90, Write: 1, Cursor: 1, Waits: []Wait{{ID: "w", Types: []string{"X"}, Deadline: at}}}, 5)
		p.q.remember("a", &Entry{Epoch: 90, Write: 2, Cursor: 2}, 6)
		if got := p.do("wait 60s"); got != "" || len(p.q.timers.heap) > 0 {
			t.Errorf("%q and %d times, want nothing to do", got, len(p.q.timers.heap))
		}
	})
}

// A timeout that has failed is tried again before what comes after it, also by a new
// owner of the slot.
func TestCalls_newOwnerOfFailedTimeout(t *testing.T) {
	p := newPlayer(nil)
	for _, line := range []string{
		"event a 1 > write a", "store a > run a 1", "done a X > write a", "store a >", "wait 60s > run a wait-X", "fail a > write a", "store a >",
		"fresh", "event a 2 > read a", "read a > write a", "store a > write a", "store a >", "wait 10s > run a wait-X", "done a > write a", "store a > run a 2",
	} {
		step, want, _ := strings.Cut(line, " >")
		if step == "fresh" {
			p = p.fresh()
			continue
		}
		got := p.do(step)
		if step == "event a 2" && p.q.byToken["a"].revision == 0 { // the claim of an entry that is not in memory is refused
			got = p.do("refuse a")
		}
		if got != strings.TrimSpace(want) {
			t.Fatalf("%s: got %q, want %q", step, got, strings.TrimSpace(want))
		}
	}
}
