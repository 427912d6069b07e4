//go:build linux && faults

package consume_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// oracle knows what was sent and which faults there were, and says what is wrong with
// the effects. Times are Unix nanoseconds.
type oracle struct {
	mu     sync.Mutex // of the calls, which are sent meanwhile
	calls  map[string]*sentCall
	deaths map[int]int64    // by process
	pauses map[int][]window // of processes that stood still
	cuts   map[int][]window // of processes that were cut off
	nats   []window         // in which NATS was restarted, cut off, or had no leader
}

type window struct{ from, to int64 }

func (w window) overlaps(from, to int64) bool { return w.from <= to && w.to >= from }

func newOracle() *oracle {
	return &oracle{calls: make(map[string]*sentCall), deaths: make(map[int]int64), pauses: make(map[int][]window), cuts: make(map[int][]window)}
}

// since returns the window from a time until now.
func since(from time.Time) window { return window{from.UnixNano(), time.Now().UnixNano()} }

// sentCall is a call with the events that are sent of it.
type sentCall struct {
	id     string
	events []*sentEvent
	sent   int
	repeat bool
	dice   *rand.Rand
}

type sentEvent struct {
	id, shortType, context string
	seq                    uint64
	at                     int64 // when it was stored
	lost                   bool  // the stream has removed it, perhaps before it was handled
	redrives               int
	redriven               int64 // when the last time
}

// contexts are what events ask of the handler; most ask for nothing.
var contexts = []string{"", "", "", "", "", "", "", "", "", "", "fail 1", "fail 2", "permanent", "slow 50ms", "slow 400ms"}

// newCall makes a call of three to eight events. In one of four the first event begins
// a wait, whose event comes in half of these.
func (o *oracle) newCall(id string, dice *rand.Rand) *sentCall {
	c := &sentCall{id: id, dice: dice}
	for i := range 3 + dice.IntN(6) {
		c.events = append(c.events, &sentEvent{id: fmt.Sprint(i), shortType: "PlayCompleted", context: contexts[dice.IntN(len(contexts))]})
	}
	if dice.IntN(10) == 0 {
		c.events[len(c.events)-1].context = []string{"deaf 2500ms", "slow 1500ms"}[dice.IntN(2)]
	}
	if dice.IntN(4) == 0 {
		c.events[0].context = "expect 3s"
		if dice.IntN(2) == 0 {
			c.events[1].shortType, c.events[1].context = "RecognizeCompleted", ""
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls[id] = c
	return c
}

// next returns the message of the next event, or now and then of the last one again.
func (c *sentCall) next() *nats.Msg {
	e := c.events[c.sent]
	if c.repeat = c.sent > 0 && c.dice.IntN(10) == 0; c.repeat {
		e = c.events[c.sent-1]
	}
	return newEvent(e.shortType, c.id, e.id, map[string]any{"operationContext": e.context})
}

// stored notes that the message was stored.
func (o *oracle) stored(c *sentCall, seq uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !c.repeat {
		c.events[c.sent].seq, c.events[c.sent].at = seq, time.Now().UnixNano()
		c.sent++
	}
}

// mayBeUnhandled is for how long after its effect an event may have to be handled again,
// since the effect was not saved.
const mayBeUnhandled = 20 * time.Second

// removed notes that the stream has removed all before a sequence.
func (o *oracle) removed(before uint64, effects []effect) {
	ended, now := ends(effects), time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.calls {
		for _, e := range c.events {
			end := ended[c.id+"/"+e.id]
			if e.at > 0 && e.seq < before && (end <= e.redriven || now.Sub(time.Unix(0, end)) < mayBeUnhandled) {
				e.lost = true
			}
		}
	}
}

// ends returns when each event has ended last.
func ends(effects []effect) map[string]int64 {
	ended := make(map[string]int64)
	for _, e := range effects {
		if e.Kind == "end" {
			ended[e.Call+"/"+e.Event] = max(ended[e.Call+"/"+e.Event], e.At)
		}
	}
	return ended
}

// expired reports whether a timeout must come. When it is not certain, known is false.
func (c *sentCall) expired() (expired, known bool) {
	if !strings.HasPrefix(c.events[0].context, "expect") {
		return false, true
	}
	if c.events[0].lost || c.events[1].lost {
		return false, false
	}
	if c.events[1].shortType != "RecognizeCompleted" {
		return true, true
	}
	// The wait begins when the first event is handled, not when it is stored; so an
	// event that is stored soon after it is in time.
	return false, c.events[1].at-c.events[0].at < int64(2*time.Second)
}

// missing returns the effects that are still to come.
func (o *oracle) missing(effects []effect) (list []string) {
	done := ends(effects)
	for _, c := range o.calls {
		for _, e := range c.events {
			if end := done[c.id+"/"+e.id]; !e.lost && (end == 0 || end < e.redriven) {
				list = append(list, fmt.Sprintf("%s: event %s (%q) has no effect", c.id, e.id, e.context))
			}
		}
		if expired, known := c.expired(); known && expired && done[c.id+"/"+timeoutEvent] == 0 {
			list = append(list, c.id+": the timeout of its wait has not come")
		}
	}
	return list
}

// summary says what there was, so that a run in which too little happened can be seen.
func (o *oracle) summary(effects []effect) string {
	kinds := make(map[string]int)
	for _, e := range effects {
		kinds[e.Kind]++
		if e.Event == timeoutEvent && e.Kind == "end" {
			kinds[timeoutEvent]++
		}
	}
	for _, c := range o.calls {
		for _, e := range c.events {
			kinds["stored"]++
			kinds["redriven"] += e.redrives
			if e.lost {
				kinds["removed"]++
			}
		}
	}
	return fmt.Sprintf("%d calls, %v", len(o.calls), kinds)
}

// check returns the violations so far.
func (o *oracle) check(effects []effect) (violations []string) {
	byCall := make(map[string][]effect)
	for _, e := range effects {
		byCall[e.Call] = append(byCall[e.Call], e)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, list := range byCall {
		slices.SortStableFunc(list, func(a, b effect) int { return cmp.Compare(a.At, b.At) })
		for _, v := range o.checkCall(o.calls[id], list) {
			violations = append(violations, fmt.Sprintf("%s: %s\n%s", id, v, story(list)))
		}
	}
	return violations
}

func story(list []effect) string {
	var b strings.Builder
	for _, e := range list {
		fmt.Fprintf(&b, "\t%s %d %s %s attempt %d\n", time.Unix(0, e.At).Format("05.000"), e.PID, e.Kind, e.Event, e.Attempt)
	}
	return b.String()
}

// checkCall checks the effects of one call, in the order of time.
func (o *oracle) checkCall(c *sentCall, list []effect) (violations []string) {
	bad := func(format string, args ...any) { violations = append(violations, fmt.Sprintf(format, args...)) }
	ended, ids := make(map[string]int64), make(map[string]string)
	newest := -1
	running := make(map[int]effect) // by process
	for _, e := range list {
		if known := ids[e.Event]; known != "" && known != e.ID {
			bad("event %s has the effect ids %s and %s", e.Event, known, e.ID)
		}
		ids[e.Event] = e.ID
		if e.Kind != "begin" {
			delete(running, e.PID)
			if e.Kind == "end" && ended[e.Event] == 0 {
				ended[e.Event] = e.At
			}
			continue
		}
		if o.exempt(e.PID, e.At) {
			continue
		}
		for pid, other := range running {
			if pid == e.PID || !o.mayOverlap(c, pid, other, e.At) {
				bad("%d begins event %s while %d has event %s", e.PID, e.Event, pid, other.Event)
			}
		}
		running[e.PID] = e
		if e.Event == timeoutEvent {
			if begun := list[0].At; c.events[0].context == "expect 3s" && e.At-begun < int64(2800*time.Millisecond) { // it begins a little before the handler does
				bad("the timeout begins %v after the wait", time.Duration(e.At-begun))
			}
			continue
		}
		i := slices.IndexFunc(c.events, func(s *sentEvent) bool { return s.id == e.Event })
		if r := c.events[i].redriven; r > 0 && newest > i {
			continue // comes again after those that followed it
		}
		if i < newest {
			bad("event %s begins after event %d", e.Event, newest)
		}
		if newest < i {
			for _, v := range o.begins(c, i, e.At, ended) {
				bad("%s", v)
			}
		}
		newest = max(newest, i)
	}
	return violations
}

// begins checks the first beginning of an event.
func (o *oracle) begins(c *sentCall, i int, at int64, ended map[string]int64) (violations []string) {
	from := c.events[i].at
	for j := i - 1; j >= 0; j-- {
		end := ended[c.events[j].id]
		from = max(from, end)
		if end == 0 && !c.events[j].lost {
			violations = append(violations, fmt.Sprintf("event %d begins before the end of event %d", i, j))
		}
		if end != 0 || !c.events[j].lost {
			break
		}
	}
	if waited := at - from; c.events[i].at > 0 && waited > int64(o.longestWait(from, at)) {
		violations = append(violations, fmt.Sprintf("event %d has waited for %v, at most %v are allowed", i, time.Duration(waited), o.longestWait(from, at)))
	}
	return violations
}

// slack is what a loaded machine, and the slowest handler of a slot that is given back,
// add to the time for which a call waits.
const slack = 6 * time.Second

// longestWait is how long a call may wait for its next handler: the longest pause, a lease
// for each replica that was lost then, and the time without NATS.
func (o *oracle) longestWait(from, to int64) time.Duration {
	most := faultLastRetry + slack
	before := from - int64(faultLease)
	for _, at := range o.deaths {
		if at >= before && at <= to {
			most += faultLease
		}
	}
	for _, windows := range []map[int][]window{o.pauses, o.cuts} {
		for _, list := range windows {
			for _, w := range list {
				if w.overlaps(before, to) {
					most += faultLease
				}
			}
		}
	}
	for _, w := range o.nats {
		if w.overlaps(before, to) {
			most += faultLease + time.Duration(w.to-w.from)
		}
	}
	return most
}

// mayOverlap reports whether a process may still have had an event when another one
// began: it was dead, or stood still, or had an event that does not end with its context
// when the lease could not be renewed.
func (o *oracle) mayOverlap(c *sentCall, pid int, other effect, at int64) bool {
	overlaps := func(w window) bool { return w.overlaps(other.At, at) }
	if death, died := o.deaths[pid]; died && death <= at+int64(100*time.Millisecond) || slices.ContainsFunc(o.pauses[pid], overlaps) {
		return true
	}
	deaf := slices.ContainsFunc(c.events, func(s *sentEvent) bool { return s.id == other.Event && strings.HasPrefix(s.context, "deaf") })
	return deaf && (slices.ContainsFunc(o.cuts[pid], overlaps) || slices.ContainsFunc(o.nats, overlaps))
}

// exempt reports whether a process has just woken: it may have been stopped between the
// check of its lease and the first line of the handler.
func (o *oracle) exempt(pid int, at int64) bool {
	return slices.ContainsFunc(o.pauses[pid], func(w window) bool {
		return at >= w.to-int64(200*time.Millisecond) && at < w.to+int64(200*time.Millisecond)
	})
}
