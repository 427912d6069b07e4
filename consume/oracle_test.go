//go:build linux

package consume_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/schemas"
)

// oracle knows what was sent and which faults there were, and says what is wrong with
// the effects.
type oracle struct {
	mu     sync.Mutex
	calls  map[string]*sentCall
	deaths map[int]int64      // by process: when
	pauses map[int][][2]int64 // by process: from, to
}

func newOracle() *oracle {
	return &oracle{calls: make(map[string]*sentCall), deaths: make(map[int]int64), pauses: make(map[int][][2]int64)}
}

func (o *oracle) died(pid int, at time.Time) { o.deaths[pid] = at.UnixNano() }

func (o *oracle) stoodStill(pid int, from, to time.Time) {
	o.pauses[pid] = append(o.pauses[pid], [2]int64{from.UnixNano(), to.UnixNano()})
}

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
	at                     int64 // when it was stored
}

// newCall makes a call of three to eight events. In one of four the first event begins
// a wait, whose event comes in half of these.
func (o *oracle) newCall(id string, dice *rand.Rand) *sentCall {
	c := &sentCall{id: id, dice: dice}
	for i := range 3 + dice.IntN(6) {
		c.events = append(c.events, &sentEvent{id: fmt.Sprint(i), shortType: "PlayCompleted", context: contexts[dice.IntN(len(contexts))]})
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
	if c.repeat = c.sent > 0 && c.dice.IntN(10) == 0; c.repeat {
		return c.message(c.events[c.sent-1])
	}
	return c.message(c.events[c.sent])
}

func (c *sentCall) message(e *sentEvent) *nats.Msg {
	return newEvent(e.shortType, c.id, e.id, map[string]any{"operationContext": e.context})
}

func (c *sentCall) stored(_ uint64, at time.Time) {
	if !c.repeat {
		c.events[c.sent].at = at.UnixNano()
		c.sent++
	}
}

func (c *sentCall) complete() bool { return c.sent == len(c.events) }

// expired reports whether a timeout must come. When the awaited event was stored so late
// that either can be, known is false.
func (c *sentCall) expired() (expired, known bool) {
	if !strings.HasPrefix(c.events[0].context, "expect") {
		return false, true
	}
	if c.events[1].shortType != "RecognizeCompleted" {
		return true, true
	}
	// The wait begins when the first event is handled, not when it is stored; so an
	// event that is stored soon after it is in time.
	return false, c.events[1].at-c.events[0].at < int64(2*time.Second)
}

// want returns the events that the state of a call must have, but for a timeout.
func (c *sentCall) want() (ids []string) {
	for _, e := range c.events {
		if e.context != "permanent" {
			ids = append(ids, e.id)
		}
	}
	return ids
}

// missing returns how many effects are still to come.
func (o *oracle) missing(effects []effect) (n int) {
	done := make(map[string]bool)
	for _, e := range effects {
		if e.Kind == "end" {
			done[e.Call+"/"+e.Event] = true
		}
	}
	for _, c := range o.calls {
		for _, e := range c.events {
			if !done[c.id+"/"+e.id] {
				n++
			}
		}
		if expired, known := c.expired(); known && expired && !done[c.id+"/timeout"] {
			n++
		}
	}
	return n
}

// stuckAfter is how long a call may wait for its next handler: the lease, the longest
// pause, and what a loaded machine adds.
const stuckAfter = faultLease + time.Second + 8*time.Second

// check returns the violations.
func (o *oracle) check(effects []effect) (violations []string) {
	byCall := make(map[string][]effect)
	for _, e := range effects {
		byCall[e.Call] = append(byCall[e.Call], e)
	}
	for id, c := range o.calls {
		list := byCall[id]
		slices.SortStableFunc(list, func(a, b effect) int { return cmp.Compare(a.At, b.At) })
		for _, v := range o.checkCall(c, list) {
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
			switch death, died := o.deaths[pid]; {
			case pid == e.PID:
				bad("%d begins event %s while it has event %s", pid, e.Event, other.Event)
			case died && death <= e.At+int64(100*time.Millisecond), o.paused(pid, other.At, e.At):
			default:
				bad("%d begins event %s while %d has event %s", e.PID, e.Event, pid, other.Event)
			}
		}
		running[e.PID] = e
		if e.Event == "timeout" {
			continue
		}
		i := slices.IndexFunc(c.events, func(s *sentEvent) bool { return s.id == e.Event })
		if i < newest {
			bad("event %s begins after event %d", e.Event, newest)
		}
		if i > newest+1 {
			bad("event %s begins after event %d", e.Event, newest)
		}
		since := c.events[i].at
		if i > 0 {
			if ended[c.events[i-1].id] == 0 {
				bad("event %s begins before the end of event %d", e.Event, i-1)
			}
			since = max(since, ended[c.events[i-1].id])
		}
		if newest < i && e.At-since > int64(stuckAfter) {
			bad("event %s has waited for %v", e.Event, time.Duration(e.At-since))
		}
		newest = max(newest, i)
	}
	for _, e := range c.events {
		if ended[e.id] == 0 {
			bad("event %s has no effect", e.id)
		}
	}
	if expired, known := c.expired(); known && expired != (ended["timeout"] != 0) {
		bad("timeout: %v, want %v", ended["timeout"] != 0, expired)
	}
	return violations
}

// paused reports whether a process stood still while it had an event.
func (o *oracle) paused(pid int, from, to int64) bool {
	return slices.ContainsFunc(o.pauses[pid], func(p [2]int64) bool { return p[0] <= to && p[1] >= from })
}

// exempt reports whether a process has just woken: it may have been stopped between the
// check of its lease and the first line of the handler.
func (o *oracle) exempt(pid int, at int64) bool {
	return slices.ContainsFunc(o.pauses[pid], func(p [2]int64) bool {
		return at >= p[1]-int64(50*time.Millisecond) && at < p[1]+int64(50*time.Millisecond)
	})
}

// states compares the entries in the bucket with what was sent, and the dead letters.
func (w *faultWorld) states() (violations []string) {
	js := w.server.JetStream()
	kv, err := js.KeyValue(w.t.Context(), consume.Bucket("faults"))
	if err != nil {
		w.t.Fatal(err)
	}
	letters := make(map[string]int)
	for _, m := range w.server.Messages(consume.DeadStream("faults")) {
		letters[m.Header.Get(schemas.HeaderDeadMsgID)]++
	}
	for id, c := range w.oracle.calls {
		token := schemas.CallToken(id)
		value, err := kv.Get(w.t.Context(), schemas.Slot(token)+".call."+token)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			violations = append(violations, id+": has no entry")
			continue
		}
		if err != nil {
			w.t.Fatal(err)
		}
		var e consume.Entry
		var state tally
		err = json.Unmarshal(value.Value(), &e)
		if len(e.State) > 0 { // else each of its events became a dead letter
			err = errors.Join(err, json.Unmarshal(e.State, &state))
		}
		if err != nil {
			violations = append(violations, fmt.Sprintf("%s: %s: %v", id, value.Value(), err))
			continue
		}
		got := slices.DeleteFunc(state.Events, func(id string) bool { return id == "timeout" })
		if !slices.Equal(got, c.want()) || len(e.Queue) > 0 || len(e.Waits) > 0 {
			violations = append(violations, fmt.Sprintf("%s: the state has %v, want %v\n\t%s", id, state.Events, c.want(), value.Value()))
		}
		for _, ev := range c.events {
			if got := letters[id+"#"+ev.id]; (got > 0) != (ev.context == "permanent") {
				violations = append(violations, fmt.Sprintf("%s: event %s (%q) has %d dead letters", id, ev.id, ev.context, got))
			}
		}
	}
	return violations
}
