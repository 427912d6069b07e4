package consume

import (
	"cmp"
	"slices"
	"time"

	"github.com/acsbridge/acsbridge/internal/failpoint"
)

// conclude has the outcome of the first event written.
func (q *calls) conclude(c *call, now time.Time) {
	o, next := c.outcome, c.entry.clone()
	switch {
	case o.buried:
		next.remove(o.event)
		next.Held = q.limits.hold
	case o.err == nil:
		next.succeed(o, now)
		if o.id != "" {
			next.Recent = appendBounded(next.Recent, o.id, maxRecent)
		}
	default:
		r := Retry{Event: o.event.key(), Since: now}
		if before := c.entry.Retry; before != nil && before.Event == r.Event {
			r = *before
			if late := o.began.Sub(r.Next); late > 0 { // it was not tried, so it has not failed for so long
				r.Since = r.Since.Add(late)
			}
		}
		r.Attempts++
		if o.unburied != nil {
			r.Dead, o.after = o.unburied, q.limits.pause.Last
		} else if c.bury = q.limits.verdict(o, &r, now); c.bury != "" {
			q.request(c, ioBurying)
			return
		}
		r.Next = now.Add(cmp.Or(o.after, q.limits.pause.After(r.Attempts)))
		next.Retry = &r
		next.enqueue(c.events)
	}
	q.write(c, next, true)
}

// verdict returns why an event that failed becomes a dead letter, or "".
func (l *limits) verdict(o *outcome, r *Retry, now time.Time) string {
	switch {
	case o.permanent:
		return reasonPermanent
	case r.Attempts >= l.attempts:
		return reasonAttempts
	case now.Sub(r.Since) >= l.age:
		return reasonAge
	}
	return ""
}

// buried takes the news that the first event of a call is in the dead-letter stream.
func (q *calls) buried(c *call, now time.Time) {
	c.io, q.unburied = ioNone, false
	if c.outcome == nil {
		c.outcome = &outcome{event: c.events[0]}
	}
	c.outcome.buried, c.outcome.skipped, c.bury = true, c.bury, ""
	q.step(c, now)
}

// buryPause is how long no event is given up to make room, after a dead letter that could not
// be stored.
const buryPause = time.Second

// notBuried takes the news that the dead letter of the first event could not be stored. The
// event is kept in the entry until that has worked: it holds neither the position of the
// slot nor other calls, and another owner goes on with it.
func (q *calls) notBuried(c *call, d *Dead, now time.Time) {
	c.io, c.bury = ioNone, ""
	q.unburied, q.buryAt = true, now.Add(buryPause)
	switch r := c.entry.Retry; {
	case c.outcome != nil:
		c.outcome.unburied = d
	case r != nil && r.Dead != nil && r.about(c):
		next := c.entry.clone()
		again := *r
		again.Next = now.Add(q.limits.pause.Last)
		next.Retry = &again
		q.write(c, next, false)
		return
	default: // it was to be given up to make room, and stays
		q.setParked(c.token, c.entry)
	}
	q.step(c, now)
}

// full reports whether so many calls are parked that no further event can be taken, since
// none can be given up.
func (q *calls) full() bool { return q.unburied && len(q.parked) >= q.limits.parked }

// saved takes the news that the entry was written, as this revision.
func (q *calls) saved(c *call, revision uint64, now time.Time) {
	c.known, c.io = true, ioNone
	c.entry, c.revision, c.next = c.next, revision, nil
	if c.applies {
		o := c.outcome
		c.outcome, c.busy, c.applies, c.bury = nil, false, false, ""
		if o.err == nil || o.buried {
			q.finish(o.event)
			c.events = slices.DeleteFunc(c.events, func(ev *event) bool { return ev == o.event })
		}
		if q.finished != nil {
			q.finished(c, o)
		}
	}
	for i, ev := range c.events {
		if ev.place == nil || ev.seq > c.entry.Cursor {
			continue
		}
		q.finish(ev)
		if i > 0 || !c.busy {
			ev.msg = nil
		}
	}
	q.schedule(c)
	q.step(c, now)
	q.boundParked(now)
}

// finish gives up the event's place in the window.
func (q *calls) finish(ev *event) {
	if ev.place != nil {
		q.window.finish(ev.place)
		ev.place = nil
	}
}

// unsure takes the news that a write was refused, or was not answered. What the bucket
// has decides.
func (q *calls) unsure(c *call, now time.Time) {
	c.known, c.io = false, ioNone
	q.step(c, now)
}

// failed takes the news that a read, or a dead letter, has failed; resume tries again.
func (q *calls) failed(c *call) { c.io = ioPaused }

func (q *calls) resume(c *call, now time.Time) {
	c.io = ioNone
	q.step(c, now)
}

// loaded takes the entry that was read; nil when the bucket has none. It returns
// [errFenced] when another replica has the slot.
func (q *calls) loaded(c *call, found *Entry, revision uint64, now time.Time) error {
	if found != nil && found.Epoch > q.epoch && !failpoint.Broken("fence") {
		return errFenced
	}
	c.io = ioNone
	// All writes since the first one that has the outcome have it too, and an answer that
	// was given up may belong to any of them.
	own := found != nil && found.Epoch == q.epoch
	applied := own && c.outcome != nil && c.outcome.write > 0 && found.Write >= c.outcome.write
	if applied || own && c.next != nil && found.Write == c.next.Write {
		c.next, c.applies = found, applied
		q.saved(c, revision, now)
	} else {
		if found == nil {
			found = &Entry{}
		}
		c.known, c.entry, c.revision, c.next, c.applies = true, found, revision, nil, false
	}
	q.merge(c) // a redrive may have added to the queue, also after our write
	q.schedule(c)
	q.step(c, now)
	return nil
}

// merge puts the events of an entry that was read before those that came since.
func (q *calls) merge(c *call) {
	var current *event // with a handler, or its outcome is not stored yet
	if len(c.events) > 0 && (c.busy || c.outcome != nil) {
		current = c.events[0]
	}
	have := make(map[uint64]*event, len(c.events))
	var timeouts, later []*event
	for _, ev := range c.events {
		switch {
		case ev.wait != "":
			timeouts = append(timeouts, ev)
		case ev.seq > c.entry.Cursor:
			later = append(later, ev)
		default:
			have[ev.seq] = ev
			q.finish(ev) // it is in the queue, or finished
		}
	}
	first := len(c.events) > 0 && c.events[0].wait != ""
	if r := c.entry.Retry; r != nil && len(timeouts) == 0 && slices.ContainsFunc(c.entry.Waits, func(w Wait) bool { return w.ID == r.Event }) {
		timeouts, first = []*event{{wait: r.Event}}, true
	}
	c.events = nil
	if first {
		c.events, timeouts = timeouts[:1:1], timeouts[1:]
	}
	for _, seq := range c.entry.Queue {
		ev := have[seq]
		if ev == nil {
			ev = &event{seq: seq}
		}
		c.events = append(c.events, ev)
	}
	c.events = append(append(c.events, later...), timeouts...)
	if i := slices.Index(c.events, current); i > 0 { // an event before it was redriven meanwhile
		c.events = slices.Insert(slices.Delete(c.events, i, i+1), 0, current)
	}
}
