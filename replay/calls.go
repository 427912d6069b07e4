package replay

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// Summary is a call in short.
type Summary struct {
	Legs     []*Leg // in the order of the stream
	Events   int
	Failures int    // events that tell of something that did not work
	Latest   string // type of the event that was stored last

	keys   []string // that it is known under
	failed bool     // an event says that it was never made
}

// State is how a call stands.
type State string

// States of a call.
const (
	Active  State = "active"  // a leg has no end yet
	Ended   State = "ended"   // every leg has ended
	Failed  State = "failed"  // it was never connected
	Silent  State = "silent"  // it has no end, and nothing has come for ten minutes
	Partial State = "partial" // what was read has neither beginning nor end
)

// Calls returns the calls that the selected events are of, in the order of their
// beginnings. Legs, and a recording, are one call when they share a serverCallId
// or a correlationId. It keeps a few hundred bytes for each leg.
func (r *Reader) Calls(ctx context.Context, selection Selection) ([]*Summary, error) {
	calls := make(callBook)
	for m, err := range r.Read(ctx, selection) {
		if err != nil {
			return nil, err
		}
		e, err := m.Event()
		if err != nil {
			continue
		}
		if keys := e.keys(); len(keys) > 0 {
			calls.of(keys).add(newStep(m, e))
		}
	}
	var list []*Summary
	for key, call := range calls {
		if key == call.keys[0] {
			list = append(list, call)
		}
	}
	slices.SortFunc(list, func(a, b *Summary) int {
		return cmp.Or(a.First().Compare(b.First()), cmp.Compare(a.Legs[0].ID, b.Legs[0].ID))
	})
	return list, nil
}

// callBook has each call under all ids that it is known by.
type callBook map[string]*Summary

// of returns the call of an event with these keys. It makes one of several that
// the event shows to be the same.
func (b callBook) of(keys []string) *Summary {
	var call *Summary
	for _, key := range keys {
		switch known := b[key]; {
		case known == nil || known == call:
		case call == nil:
			call = known
		default:
			call.absorb(known)
			for _, old := range known.keys {
				b[old] = call
			}
		}
	}
	if call == nil {
		call = &Summary{}
	}
	for _, key := range keys {
		if b[key] == nil {
			b[key] = call
			call.keys = append(call.keys, key)
		}
	}
	return call
}

// absorb takes over what is known of another part of the call.
func (c *Summary) absorb(other *Summary) {
	c.Legs = append(c.Legs, other.Legs...)
	c.Events += other.Events
	c.Failures += other.Failures
	c.failed = c.failed || other.failed
	c.keys = append(c.keys, other.keys...)
}

// add takes an event into account.
func (c *Summary) add(step *Step) {
	i := slices.IndexFunc(c.Legs, func(l *Leg) bool { return l.ID == step.Call })
	if i < 0 {
		i = len(c.Legs)
		c.Legs = append(c.Legs, newLeg(step, i))
	}
	c.Legs[i].add(step)
	c.Events++
	c.Latest = step.Type
	if step.Failed() {
		c.Failures++
	}
	c.failed = c.failed || neverMade(step)
}

// Summary returns the call in short, by those of its events that are selected: by
// resource and positions. It returns nil without any.
func (s *Story) Summary(selection Selection) *Summary {
	c := &Summary{}
	for _, step := range s.Steps {
		if selection.selects(step.Message) {
			c.add(step)
		}
	}
	if c.Events == 0 {
		return nil
	}
	return c
}

// First is the time of the earliest event.
func (c *Summary) First() time.Time { return first(c.Legs) }

// Last is the time of the latest event.
func (c *Summary) Last() time.Time { return last(c.Legs) }

// State returns how the call stands at a time.
func (c *Summary) State(now time.Time) State {
	connected, ended, open := false, false, false
	for _, leg := range c.Legs {
		if !leg.Connects() {
			continue
		}
		connected = connected || !leg.Connected.IsZero()
		ended = ended || leg.End != nil
		open = open || leg.End == nil
	}
	switch {
	case !connected && (c.failed || ended && !open && c.Failures > 0):
		return Failed
	case ended && !open:
		return Ended
	case !connected && !ended:
		return Partial
	case now.Sub(c.Last()) > goingOn:
		return Silent
	}
	return Active
}
