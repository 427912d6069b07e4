package faults_test

import (
	"cmp"
	"slices"
)

// ruleTogether is O6 for events of one call that came at once from several
// senders: only an answer before the next was sent makes an order.
const ruleTogether = "O6 the order of a call is kept, whoever sends"

// storedEvent is an event with the time of its answer 200 and its place.
type storedEvent struct {
	c        *callback
	e        *event
	answer   attempt
	sequence uint64
}

// together judges the order among events of one call that different senders
// sent: what one of them was answered before another sent must be stored
// before it. Within one sender's events, order says more.
func (o *oracle) together() {
	senders, stored := o.byConnection()
	for connection, list := range stored {
		if len(senders[connection]) < 2 {
			continue
		}
		answered := slices.SortedFunc(slices.Values(list), func(a, b storedEvent) int { return a.answer.answered.Compare(b.answer.answered) })
		slices.SortFunc(list, func(a, b storedEvent) int { return a.c.attempts[0].sent.Compare(b.c.attempts[0].sent) })
		last := make(map[string]storedEvent) // by the bridge that answered
		for _, s := range list {
			for len(answered) > 0 && answered[0].answer.answered.Before(s.c.attempts[0].sent) {
				if a := answered[0]; a.sequence > last[a.answer.bridge].sequence {
					last[a.answer.bridge] = a
				}
				answered = answered[1:]
			}
			for bridge, before := range last {
				if s.sequence < before.sequence && s.c.onlyTo(bridge) {
					o.report(ruleTogether, s.c, s.e, "stored before this one, which was answered before it was sent:\n%s",
						story(before.c, before.e, o.copies[before.e.msgID]))
				}
			}
		}
	}
}

// byConnection returns who sent events of each call, and those events that
// were answered 200 and are stored.
func (o *oracle) byConnection() (senders map[string]map[int]bool, stored map[string][]storedEvent) {
	senders, stored = make(map[string]map[int]bool), make(map[string][]storedEvent)
	for n, call := range o.calls {
		for _, c := range call {
			for i := range c.events {
				e := &c.events[i]
				if senders[e.connection] == nil {
					senders[e.connection] = make(map[int]bool)
				}
				senders[e.connection][n] = true
				a, answered := c.stored()
				if copies := o.copies[e.msgID]; answered && len(copies) > 0 {
					first := slices.MinFunc(copies, func(a, b *message) int { return cmp.Compare(a.sequence, b.sequence) })
					stored[e.connection] = append(stored[e.connection], storedEvent{c, e, a, first.sequence})
				}
			}
		}
	}
	return senders, stored
}
