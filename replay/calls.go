package replay

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/schemas"
)

// Summary is a call without its events.
type Summary struct {
	Legs     []*Leg // in the order of the stream
	Events   int
	Failures int    // events of something that failed
	Latest   string // type of the event that was stored last

	keys         []string                   // its ids, in the form of [key]
	notConnected bool                       // an event says that it could not be connected
	why          *schemas.ResultInformation // by the first such event; may be nil
	newest       uint64                     // sequence of the newest selected event, for [Reader.Recent]
	stored       time.Time                  // when that was stored, in an [Index]
	listed       uint64                     // newest when it was found, before it was read whole
}

// State is the state of a call.
type State string

// States of a call.
const (
	Active  State = "active"  // a leg has no end yet
	Ended   State = "ended"   // every leg has ended
	Failed  State = "failed"  // it was never connected
	Silent  State = "silent"  // it has no end, and no event has come for ten minutes
	Partial State = "partial" // neither its beginning nor its end was read
)

// Calls returns the calls that the selected events are of, in the order of their
// beginnings. Legs, and a recording, are one call when they share a serverCallId
// or a correlationId. It keeps a few hundred bytes for each leg.
func (r *Reader) Calls(ctx context.Context, selection Selection) ([]*Summary, error) {
	calls := make(callIndex)
	for m, err := range r.Read(ctx, selection) {
		if err != nil {
			return nil, err
		}
		e, err := m.Event()
		if err != nil {
			continue
		}
		if keys := e.keys(); len(keys) > 0 {
			calls.find(keys).add(newStep(m, e))
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

// callIndex has each call under all of its ids.
type callIndex map[string]*Summary

// find returns the call of an event with these keys. When the event shows that
// several calls are the same one, it merges them.
func (b callIndex) find(keys []string) *Summary {
	var call *Summary
	for _, key := range keys {
		switch known := b[key]; {
		case known == nil || known == call:
		case call == nil:
			call = known
		default:
			call.merge(known)
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

func (c *Summary) merge(other *Summary) {
	c.Legs = append(c.Legs, other.Legs...)
	c.Events += other.Events
	c.newest = max(c.newest, other.newest)
	c.Failures += other.Failures
	if !c.notConnected {
		c.notConnected, c.why = other.notConnected, other.why
	}
	c.keys = append(c.keys, other.keys...)
}

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
	if !c.notConnected && notConnected(step) {
		c.notConnected, c.why = true, step.Result()
	}
}

// Summary returns the summary of those events of the call that are selected, by
// resource and positions, or nil when there are none.
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

// State returns the state of the call at a time.
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
	case !connected && (c.notConnected || ended && !open && c.Failures > 0):
		return Failed
	case ended && !open:
		return Ended
	case !connected && !ended:
		return Partial
	case now.Sub(c.Last()) > activeFor:
		return Silent
	}
	return Active
}

// Outcome says how the call ended, by the leg with an end that came last, or why it was
// never connected, in the form of [ResultText]; and whether that is a failure. It is
// empty while nothing has ended.
func (c *Summary) Outcome() (text string, failed bool) {
	for _, leg := range c.Legs {
		if leg.Connects() && leg.End != nil {
			text, failed = ResultText(leg.End.Result()), leg.End.Failed()
		}
	}
	if text != "" || c.State(c.Last()) != Failed {
		return text, failed
	}
	if c.why == nil {
		return "not connected", true
	}
	return ResultText(c.why), true
}

// HasOutcome reports whether the outcome has a text, in any case of its letters: a code as
// 487, code and subcode as 487/5003, or words. A number is a whole one. Every call has the
// empty text.
func (c *Summary) HasOutcome(text string) bool {
	outcome, _ := c.Outcome()
	outcome, text = strings.ToLower(outcome), strings.ToLower(strings.TrimSpace(text))
	for at := 0; text != ""; at++ {
		i := strings.Index(outcome[at:], text)
		if i < 0 {
			return false
		}
		at += i
		end := at + len(text)
		if !(at > 0 && isDigit(outcome[at-1]) && isDigit(text[0]) || end < len(outcome) && isDigit(outcome[end]) && isDigit(text[len(text)-1])) {
			return true
		}
	}
	return true
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }
