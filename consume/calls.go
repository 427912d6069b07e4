package consume

import (
	"container/list"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/internal/failpoint"
)

// errFenced reports that another replica has written an entry under a newer lease.
var errFenced = errors.New("another replica has the slot")

// calls are those of one slot that are in memory, and what is to be done for them. It
// knows neither NATS nor a clock, and is used by one goroutine, the loop of the slot,
// which carries out its commands and reports what became of them.
//
// Of each call at most one event is with a handler, and at most one read or write of
// its entry is under way; both can be at the same time.
type calls struct {
	epoch  uint64 // of the slot's lease
	limits limits

	byToken  map[string]*call
	window   window
	ready    []*call   // their first event waits for a handler
	commands []command // for the loop
	writes   uint64    // number of the last write
	draining bool      // no further handler starts

	timers  timers               // when something is to be done for a call, also for one not in memory
	overdue map[string]bool      // calls with a deadline that has passed
	parked  map[string]time.Time // since when
	idle    list.List            // calls with nothing to do, longest idle first
	bytes   int                  // of their entries

	unburied bool      // the last dead letter could not be stored
	buryAt   time.Time // before this time no event is given up to make room

	finished func(*call, *outcome) // called when an outcome is stored; may be nil
}

// limits are the settings that calls need.
type limits struct {
	attempts  int
	age       time.Duration
	pause     backoff.Doubling
	hold      bool // a call stays parked after a dead letter
	parked    int  // calls of this slot
	idleBytes int  // of entries that are kept in memory
}

// call is one call in memory.
type call struct {
	token    string
	woken    bool   // the entry was changed by another, and is to be read again
	known    bool   // entry and revision are those of the bucket, as far as is known
	entry    *Entry // never nil
	revision uint64 // zero: the bucket has none
	events   []*event
	busy     bool      // the first event is with a handler, or ready for one
	began    time.Time // when a handler got the first event, zero when none has it
	outcome  *outcome  // of the first event, until it is stored
	keep     bool      // the waiting events are to be written into the entry
	bury     string    // why the first event is to become a dead letter
	io       ioState
	next     *Entry // is being written
	applies  bool   // next has the outcome

	element *list.Element // in idle
	size    int
}

// event is one event of a call that is not finished: of the stream, or a timeout.
type event struct {
	seq   uint64
	msg   *nats.Msg // nil: to be read from the stream again
	place *place    // in the window; nil when it is in the entry
	wait  string    // of a timeout: the id of its wait
}

// outcome is how a handler ended.
type outcome struct {
	event     *event
	err       error
	permanent bool
	after     time.Duration // pause that the handler asked for; zero for none
	notRun    bool          // the lease had ended, or a pause had begun
	began     time.Time     // of the handler
	skipped   string        // why it was not handled, a reason of metrics
	buried    bool          // it is a dead letter now
	unburied  *Dead         // it could not be made one
	write     uint64        // number of the first write that has it; zero for none

	state              []byte
	waits              []Wait
	ended              bool
	id                 string // hash of the message id
	shortType, context string
}

// ioState says which request for a call is under way.
type ioState uint8

const (
	ioNone    ioState = iota
	ioReading         // its entry
	ioWriting
	ioBurying // the first event, into the dead-letter stream
	ioPaused  // a request has failed and is tried again
)

// command asks the loop for a request. Its answer is reported by loaded, saved, unsure,
// buried, notBuried or failed.
type command struct {
	io   ioState
	call *call
}

func newCalls(epoch uint64, l limits) *calls {
	return &calls{
		epoch: epoch, limits: l, byToken: make(map[string]*call), overdue: make(map[string]bool),
		parked: make(map[string]time.Time), timers: newTimers(),
	}
}

// admit takes a message of the consumer, in its order.
func (q *calls) admit(seq uint64, token string, msg *nats.Msg, now time.Time) {
	p := q.window.admit(seq, msg.Reply, token, now)
	if p == nil {
		return
	}
	c := q.byToken[token]
	if c == nil { // most are new: the first write shows it
		c = q.add(token)
		c.known = true
	}
	if failpoint.Broken("ack") {
		q.window.finish(p)
	}
	if c.entry.finished(seq) { // also by an entry that may not be the newest: what is finished stays so
		q.window.finish(p)
		return
	}
	if slices.ContainsFunc(c.events, func(ev *event) bool { return ev.seq == seq && ev.wait == "" }) { // it is in the queue
		q.window.finish(p)
		return
	}
	c.events = append(c.events, &event{seq: seq, msg: msg, place: p})
	if last := len(c.events) - 1; failpoint.Broken("order") && !c.busy {
		c.events[0], c.events[last] = c.events[last], c.events[0]
	}
	q.step(c, now)
}

func (q *calls) add(token string) *call {
	c := &call{token: token, entry: &Entry{}}
	q.byToken[token] = c
	return c
}

// remember takes an entry that was read when the slot was taken. Several answers can have
// it, the newest one last: a replica of the bucket that was behind had an older revision.
func (q *calls) remember(token string, e *Entry, revision uint64) {
	if failpoint.Broken("waits") {
		e.Waits = nil
	}
	if c := q.byToken[token]; c != nil {
		q.wake(c)
		delete(q.byToken, token)
	}
	if at := e.nextTime(func(string) bool { return false }); at.IsZero() {
		q.timers.remove(token)
	} else {
		q.timers.set(token, at)
	}
	q.setParked(token, e)
	if e.Ended || len(e.Queue) > 0 || e.Retry != nil { // read again when it is needed, which puts its events in order
		return
	}
	c := q.add(token)
	c.known, c.entry, c.revision = true, e, revision
	q.rest(c)
}

// step decides what is to be done next for a call.
func (q *calls) step(c *call, now time.Time) {
	q.wake(c)
	if r := c.entry.Retry; r != nil && r.Dead != nil && r.about(c) && !now.Before(r.Next) {
		c.bury = r.Dead.Reason
	}
	if c.woken && c.io == ioNone && !c.busy && c.outcome == nil {
		c.woken, c.known = false, false
	}
	switch {
	case c.io != ioNone: // its answer leads back here
	case !c.known:
		q.request(c, ioReading)
	case c.entry.Epoch != q.epoch && len(c.events) > 0 && !failpoint.Broken("fence"):
		q.write(c, c.entry.clone(), false)
	case c.outcome != nil:
		q.conclude(c, now)
	case len(c.events) == 0:
		c.keep, c.bury = false, ""
		q.rest(c)
	case c.bury != "" && !c.busy && !q.draining:
		q.request(c, ioBurying)
	case c.unkept() && (c.keep || c.isParked(now)):
		if len(c.entry.Queue) < maxQueue {
			q.keepAll(c)
			break
		}
		if c.keep = false; !c.busy && !now.Before(q.buryAt) {
			c.bury = reasonQueueFull
			q.request(c, ioBurying)
		}
	case !c.busy && !c.isParked(now) && !q.draining:
		c.busy = true
		q.ready = append(q.ready, c)
	default:
		q.rest(c)
	}
}

func (q *calls) request(c *call, io ioState) {
	c.io = io
	q.commands = append(q.commands, command{io, c})
}

// write has an entry written that takes the place of the call's.
func (q *calls) write(c *call, next *Entry, applies bool) {
	q.writes++
	next.Epoch, next.Write = q.epoch, q.writes
	switch {
	case c.outcome == nil:
	case !applies:
		c.outcome.write = 0
	case c.outcome.write == 0:
		c.outcome.write = q.writes
	}
	c.next, c.applies = next, applies
	q.request(c, ioWriting)
}

// keepAll writes the sequences of the waiting events into the entry.
func (q *calls) keepAll(c *call) {
	c.keep = false
	next := c.entry.clone()
	next.enqueue(c.events)
	q.write(c, next, false)
}

// keepFirst keeps the event that holds the position of the slot in its entry, with those
// of its call that follow, when its handler takes long. One that waits for a handler
// stays where it is: as many as the prefetch are in memory then, and no more.
func (q *calls) keepFirst(now time.Time) {
	p := q.window.first()
	if p == nil || now.Sub(p.since) <= keepAfter {
		return
	}
	c := q.byToken[p.token]
	if c == nil || c.busy && (c.began.IsZero() || now.Sub(c.began) <= keepAfter) {
		return
	}
	c.keep = true
	q.step(c, now)
}

// enqueue adds events behind the cursor to the queue, as many as fit.
func (e *Entry) enqueue(events []*event) {
	for _, ev := range events {
		if ev.seq > e.Cursor && len(e.Queue) < maxQueue {
			e.Queue = append(e.Queue, ev.seq)
			e.Cursor = ev.seq
		}
	}
}

// unkept reports whether an event of the call is neither finished nor in the entry.
func (c *call) unkept() bool {
	return slices.ContainsFunc(c.events, func(ev *event) bool { return ev.place != nil && !ev.place.done })
}

// isParked reports whether the first event has failed and is not due.
func (c *call) isParked(now time.Time) bool {
	r := c.entry.Retry
	return c.entry.Held || r != nil && r.about(c) && now.Before(r.Next)
}

// about reports whether the first event of the call is the one that has failed.
func (r *Retry) about(c *call) bool { return len(c.events) > 0 && r.Event == c.events[0].key() }

// wakeUp has the entry of a call read again, since it was changed by [Redrive].
func (q *calls) wakeUp(token string, now time.Time) {
	c := q.byToken[token]
	if c == nil {
		c = q.add(token)
	}
	c.woken = true
	q.step(c, now)
}

// takeReady returns the call whose first event is to be handled next, nil for none.
func (q *calls) takeReady() *call {
	if len(q.ready) == 0 {
		return nil
	}
	c := q.ready[0]
	q.ready = q.ready[1:]
	return c
}

// stopReady takes the events back that wait for a handler.
func (q *calls) stopReady() {
	q.draining = true
	for _, c := range q.ready {
		c.busy = false
	}
	q.ready = nil
}

// handled takes the outcome of the first event of a call.
func (q *calls) handled(c *call, o *outcome, now time.Time) {
	c.began = time.Time{}
	if o.notRun {
		c.busy = false
	} else {
		c.outcome = o
	}
	q.step(c, now)
}
