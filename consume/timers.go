package consume

import (
	"container/heap"
	"maps"
	"slices"
	"time"
)

// schedule notes when something is to be done for a call without a new event.
func (q *calls) schedule(c *call) {
	q.setParked(c.token, c.entry)
	pending := func(id string) bool { return q.overdue[c.token] || c.awaits(id) }
	if at := c.entry.nextTime(pending); at.IsZero() {
		q.timers.remove(c.token)
	} else {
		q.timers.set(c.token, at)
	}
}

// maxDue is how many calls are looked at in one tick, so that thousands that were parked
// in the same moment are not read all at once.
const maxDue = 100

// due takes the time: calls whose retry or deadline has come are looked at.
func (q *calls) due(now time.Time) {
	for range maxDue {
		token, ok := q.timers.take(now)
		if !ok {
			return
		}
		c := q.byToken[token]
		if c == nil {
			c = q.add(token)
		}
		for _, w := range c.entry.Waits {
			if !w.Deadline.After(now) {
				q.overdue[token] = true
			}
		}
		q.step(c, now)
	}
}

// expire makes an event of each deadline that had passed at a time, up to which all
// events were received.
func (q *calls) expire(upTo, now time.Time) {
	for _, token := range slices.Collect(maps.Keys(q.overdue)) {
		delete(q.overdue, token)
		c := q.byToken[token]
		if c == nil {
			continue
		}
		for _, w := range c.entry.Waits {
			switch {
			case c.awaits(w.ID) || w.Deadline.After(now):
			case w.Deadline.After(upTo):
				q.overdue[token] = true
			default:
				c.events = append(c.events, &event{wait: w.ID})
			}
		}
		q.schedule(c)
		q.step(c, now)
	}
}

// awaits reports whether the timeout of a wait is among the call's events.
func (c *call) awaits(id string) bool {
	for _, ev := range c.events {
		if ev.wait == id {
			return true
		}
	}
	return false
}

// setParked keeps count of the parked calls.
func (q *calls) setParked(token string, e *Entry) {
	switch {
	case e.Retry != nil:
		q.parked[token] = e.Retry.Since
	case !e.Held:
		delete(q.parked, token)
	case q.parked[token].IsZero():
		q.parked[token] = time.Unix(1, 0)
	}
}

// boundParked gives up an event of the call that has been parked longest when too many
// are.
func (q *calls) boundParked(now time.Time) {
	if len(q.parked) <= q.limits.parked || now.Before(q.buryAt) {
		return
	}
	oldest := ""
	for token, since := range q.parked {
		if oldest == "" || since.Before(q.parked[oldest]) {
			oldest = token
		}
	}
	delete(q.parked, oldest)
	c := q.byToken[oldest]
	if c == nil {
		c = q.add(oldest)
	}
	c.bury = reasonTooManyParked
	q.step(c, now)
}

// rest notes that there is nothing to do for a call, and forgets those that have been
// idle longest when they take too much memory. The bucket has their entries.
func (q *calls) rest(c *call) {
	if c.unkept() || c.busy || c.bury != "" {
		return
	}
	c.size = 400 + len(c.entry.State) + 100*(len(c.events)+len(c.entry.Waits))
	q.bytes += c.size
	c.element = q.idle.PushBack(c)
	for q.bytes > q.limits.idleBytes && q.idle.Len() > 1 {
		old := q.idle.Front().Value.(*call)
		if q.wake(old); q.overdue[old.token] {
			q.timers.set(old.token, time.Unix(1, 0)) // looked at again, once read
			delete(q.overdue, old.token)
		}
		delete(q.byToken, old.token)
	}
}

// wake takes a call from the idle ones.
func (q *calls) wake(c *call) {
	if c.element != nil {
		q.idle.Remove(c.element)
		c.element = nil
		q.bytes -= c.size
	}
}

// timers has one time for each call.
type timers struct {
	heap   timerHeap
	byCall map[string]*timer
}

type timer struct {
	token string
	at    time.Time
	index int
}

func newTimers() timers { return timers{byCall: make(map[string]*timer)} }

func (t *timers) set(token string, at time.Time) {
	if e := t.byCall[token]; e != nil {
		e.at = at
		heap.Fix(&t.heap, e.index)
		return
	}
	e := &timer{token: token, at: at}
	t.byCall[token] = e
	heap.Push(&t.heap, e)
}

func (t *timers) remove(token string) {
	if e := t.byCall[token]; e != nil {
		heap.Remove(&t.heap, e.index)
		delete(t.byCall, token)
	}
}

// take returns a call whose time has come.
func (t *timers) take(now time.Time) (token string, ok bool) {
	if len(t.heap) == 0 || t.heap[0].at.After(now) {
		return "", false
	}
	token = t.heap[0].token
	t.remove(token)
	return token, true
}

type timerHeap []*timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].index, h[j].index = i, j }
func (h *timerHeap) Push(x any)        { e := x.(*timer); e.index = len(*h); *h = append(*h, e) }
func (h *timerHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}
