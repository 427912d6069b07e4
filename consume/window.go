package consume

import (
	"slices"
	"time"
)

// window is what a slot has received from its consumer and not acknowledged, in the
// order of the stream. An acknowledgement says that every event up to it is finished,
// or is kept in the entry of its call.
type window struct {
	open  []*place // admitted; the first one is not done
	floor uint64   // all events up to here are done
	last  uint64   // the newest event that was admitted
	reply string   // acknowledges the floor at the current feed; empty when that was done
	moved int      // events by which the floor has moved since
}

// place is one event in the window.
type place struct {
	seq   uint64
	reply string // acknowledges it at the feed that delivered it last
	token string // of its call
	since time.Time
	done  bool
}

// admit takes a message that the consumer delivered, nil when it was admitted before: a
// new feed delivers again what was not acknowledged.
func (w *window) admit(seq uint64, reply, token string, now time.Time) *place {
	if seq > w.last {
		w.last = seq
		p := &place{seq: seq, reply: reply, token: token, since: now}
		w.open = append(w.open, p)
		return p
	}
	if seq <= w.floor {
		w.reply = reply
		w.moved++
	} else if i, ok := slices.BinarySearchFunc(w.open, seq, func(p *place, seq uint64) int {
		return int(int64(p.seq) - int64(seq))
	}); ok {
		w.open[i].reply = reply
	}
	return nil
}

// restart forgets how to acknowledge: a new feed counts its deliveries from 1, and an
// acknowledgement with a higher number of an older feed would make the server ignore
// those that follow.
func (w *window) restart() {
	w.reply = ""
	for _, p := range w.open {
		p.reply = ""
	}
}

// finish marks an event as done and moves the floor.
func (w *window) finish(p *place) {
	p.done = true
	n := 0
	for n < len(w.open) && w.open[n].done {
		w.floor, w.reply = w.open[n].seq, w.open[n].reply
		n++
	}
	w.moved += n
	w.open = w.open[n:]
}

// first returns the event that holds the floor, nil for none.
func (w *window) first() *place {
	if len(w.open) == 0 {
		return nil
	}
	return w.open[0]
}
