package replay

import (
	"container/list"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/acsbridge/acsbridge/schemas"
)

// maxIndexed is how many calls an [Index] has, of some KiB each.
const maxIndexed = 10_000

// Index has the calls of the latest events of a stream. With it [Reader.Recent] reads none
// of those events, and [Reader.Story] finds the legs of a call without reading all events of
// its time. The calls without an event for the longest time are forgotten, so that its size
// is bounded. It is safe for concurrent use.
type Index struct {
	mu    sync.Mutex
	first uint64    // all events from this sequence on are in it
	from  time.Time // and all that were stored from then on; zero: all
	calls callIndex
	order list.List // of *indexed, that with the newest event first
	of    map[*Summary]*list.Element
}

// indexed is one call.
type indexed struct {
	*Summary
	tokens    []string // last tokens of the subjects of its events
	sequences []uint64 // of those without a call in the subject
}

// NewIndex returns an index of the events from a sequence on, and those stored from a time
// on: the zero time when the sequence is the first of the stream. All of them are to be
// added, in the order of the stream.
func NewIndex(first uint64, from time.Time) *Index {
	return &Index{first: first, from: from, calls: make(callIndex), of: make(map[*Summary]*list.Element)}
}

// Add adds an event.
func (x *Index) Add(step *Step) {
	ids := step.ids()
	if len(ids) == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	joined := make(map[*Summary]bool)
	for _, id := range ids {
		if call := x.calls[id]; call != nil {
			joined[call] = true
		}
	}
	summary := x.calls.find(ids)
	delete(joined, summary)
	element := x.of[summary]
	if element == nil {
		element = x.order.PushFront(&indexed{Summary: summary})
		x.of[summary] = element
	}
	call := element.Value.(*indexed)
	for other := range joined {
		known := x.order.Remove(x.of[other]).(*indexed)
		call.tokens, call.sequences = append(call.tokens, known.tokens...), append(call.sequences, known.sequences...)
		delete(x.of, other)
	}
	call.index(step)
	x.order.MoveToFront(element)
	if x.order.Len() > maxIndexed {
		x.forget(x.order.Back())
	}
}

// index adds an event to its call, and keeps of it what a summary shows.
func (c *indexed) index(step *Step) {
	short := &Step{StoredEvent: step.StoredEvent, Message: &StoredMessage{Sequence: step.Message.Sequence, Time: step.Message.Time}, At: step.At}
	c.add(short)
	c.newest, c.stored = step.Message.Sequence, step.Message.Time
	subject, ok := schemas.ParseSubject(step.Message.Subject)
	switch token := step.Message.CallToken(); {
	case token == "" || !ok || subject.Slot == "": // no filter finds it
		c.sequences = append(c.sequences, step.Message.Sequence)
	case !slices.Contains(c.tokens, token):
		c.tokens = append(c.tokens, token)
	}
}

// forget removes the call whose newest event is the earliest of all.
func (x *Index) forget(element *list.Element) {
	call := x.order.Remove(element).(*indexed)
	delete(x.of, call.Summary)
	for _, id := range call.keys {
		delete(x.calls, id)
	}
	x.first, x.from = max(x.first, call.newest+1), later(x.from, call.stored.Add(1))
}

// begins returns from when on all events that were stored are in the index, the zero time
// when the stream has none before.
func (x *Index) begins() time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.from
}

// with returns the last tokens of the subjects of the calls that have one of the ids, and
// the sequences of their events without a call in the subject.
func (x *Index) with(ids map[string]bool) (tokens []string, sequences []uint64) {
	if x == nil {
		return nil, nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	calls := make(map[*Summary]bool)
	for id := range ids {
		if call := x.calls[id]; call != nil {
			calls[call] = true
		}
	}
	for call := range maps.Keys(calls) {
		known := x.of[call].Value.(*indexed)
		tokens, sequences = append(tokens, known.tokens...), append(sequences, known.sequences...)
	}
	return tokens, sequences
}

// Newest returns the sequence of the newest event of a call, zero when the index does not
// have the call. A story without that event was read from a replica that is behind.
func (x *Index) Newest(story *Story) (newest uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id := range story.ids {
		if call := x.calls[id]; call != nil {
			newest = max(newest, call.newest)
		}
	}
	return newest
}

// recent returns at most n of the calls whose newest event has a sequence from first to
// end, the newest first, and those that wanted reports; and from which sequence on they
// are all of these. That is beyond end when the index has none of the time.
func (x *Index) recent(first, end uint64, n int, wanted func(*Summary) bool) (calls []*Summary, begin uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	begin = max(first, x.first)
	for element := x.order.Front(); element != nil; element = element.Next() {
		call := element.Value.(*indexed).Summary
		if call.newest < begin {
			break
		}
		if call.newest > end || !wanted(call) {
			continue
		}
		if calls = append(calls, call.clone()); len(calls) == n {
			return calls, call.newest
		}
	}
	return calls, begin
}

// clone returns a summary that later events do not change.
func (c *Summary) clone() *Summary {
	clone := *c
	clone.Legs = nil
	for _, leg := range c.Legs {
		l := *leg
		clone.Legs = append(clone.Legs, &l)
	}
	return &clone
}
