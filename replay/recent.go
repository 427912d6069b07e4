package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/directget"
	"github.com/acsbridge/acsbridge/schemas"
)

const (
	// firstSpan is how many sequences [Reader.Recent] reads at first. It doubles while
	// few calls are found, up to maxSpan, which bounds the memory to some MiB.
	firstSpan = 1024
	maxSpan   = 8 << 10
	// recentBudget is how long Recent goes on reading for a page that is not full.
	recentBudget = 600 * time.Millisecond
	// spanMargin is how many sequences are read before and after a span, so that most of
	// its calls are whole: to look up one in the middle of a block costs the server some
	// ten milliseconds.
	spanMargin = 1024
	// recentLookups is how many calls are read whole at a time, and maxLegEvents the most
	// events that are read of a leg for its summary.
	recentLookups = 8
	maxLegEvents  = 2000
)

// Page selects the calls of [Reader.Recent]. The zero value of a member selects all.
type Page struct {
	Resource string // name of the resource, as in the subject
	Type     string // calls that have an event of this type
	State    State
	Outcome  string    // calls whose outcome has this; see [Summary.HasOutcome]
	Since    time.Time // calls with an event that was stored then or later
	Until    time.Time // calls whose newest event was stored before
	Before   uint64    // calls whose newest event has a smaller sequence
	Calls    int       // at most so many; zero means 50
}

// Recent is one page of calls.
type Recent struct {
	Calls []*Summary // newest event first
	// Next is [Page.Before] of the next page; zero when the stream has no earlier calls.
	Next uint64
	// Back is when the earliest message was stored that was read for the page; zero when
	// none was. A page that is not full with Next set ended at its time.
	Back time.Time
}

// Recent returns the calls with the newest events. It reads the stream backwards in
// spans of some thousand sequences, and by their subjects those calls whose beginning or
// end is not there, so that time and memory depend on the page and not on the stream. A
// leg that has no event in the spans read is not found by the other legs: [Reader.Story]
// finds it. What the index has is not read.
func (r *Reader) Recent(ctx context.Context, page Page, now time.Time) (*Recent, error) {
	page.Calls = cmp.Or(page.Calls, 50)
	stream, first, end, err := r.bounds(ctx, page)
	if err != nil {
		return nil, err
	}
	found, newest := &Recent{}, end
	if page.Before == 0 && page.Until.IsZero() {
		newest = math.MaxUint64 // also what is stored meanwhile
	}
	for span, began := uint64(firstSpan), time.Now(); end >= first && end > 0; span = min(2*span, maxSpan) {
		begin, indexed, err := r.recentIndexed(ctx, stream, page, first, end, newest, now, found)
		if err == nil && !indexed {
			begin = max(first, end-min(span, end)+1)
			err = r.recentIn(ctx, stream, page, begin, end, now, found)
		}
		if err != nil {
			return nil, err
		}
		if len(found.Calls) == page.Calls {
			found.Next = found.Calls[page.Calls-1].listed
			return found, nil
		}
		end, newest = begin-1, begin-1
		if time.Since(began) > recentBudget && end >= first {
			found.Next = begin
			return found, nil
		}
	}
	return found, nil
}

// bounds returns the stream, and the first and the last sequence of a page in it.
func (r *Reader) bounds(ctx context.Context, page Page) (stream jetstream.Stream, first, last uint64, err error) {
	js, err := r.JetStream(ctx)
	if err != nil {
		return nil, 0, 0, err
	}
	if stream, err = js.Stream(ctx, r.Stream); err != nil {
		return nil, 0, 0, fmt.Errorf("stream %s: %w", r.Stream, err)
	}
	state := stream.CachedInfo().State
	first, last = state.FirstSeq, state.LastSeq
	if page.Before > 0 {
		last = min(last, page.Before-1)
	}
	if !page.Since.IsZero() {
		since, err := r.firstAfter(ctx, page.Since, state.LastSeq)
		if err != nil {
			return nil, 0, 0, err
		}
		first = max(first, since)
	}
	if !page.Until.IsZero() {
		until, err := r.firstAfter(ctx, page.Until, state.LastSeq)
		if err != nil {
			return nil, 0, 0, err
		}
		last = min(last, until-1)
	}
	return stream, first, last, nil
}

// firstAfter returns the sequence of the first message that was stored at a time or
// later, and the one after the stream's last when there is none.
func (r *Reader) firstAfter(ctx context.Context, at time.Time, last uint64) (uint64, error) {
	for m, err := range r.Read(ctx, Selection{Since: Position{Time: at}, Limit: 1}) {
		if err != nil {
			return 0, err
		}
		return m.Sequence, nil
	}
	return last + 1, nil
}

// recentIn adds the calls whose newest event is from begin to end.
func (r *Reader) recentIn(ctx context.Context, stream jetstream.Stream, page Page, begin, end uint64, now time.Time, found *Recent) error {
	calls, oldest, err := r.span(ctx, page, begin, end)
	if err != nil {
		return err
	}
	if !oldest.IsZero() {
		found.Back = oldest
	}
	state := stream.CachedInfo().State
	fromStart, toEnd := begin <= state.FirstSeq+spanMargin, end+spanMargin >= state.LastSeq // what was read
	whole := func(c *Summary) bool { return page.Type == "" && c.whole(fromStart, toEnd) }
	return r.addRecent(ctx, stream, page, calls, end, now, whole, found)
}

// recentIndexed adds some of the calls whose newest event has a sequence from first to
// newest, and returns from which on they are all; or that the index does not have those
// before end.
func (r *Reader) recentIndexed(ctx context.Context, stream jetstream.Stream, page Page, first, end, newest uint64, now time.Time, found *Recent) (begin uint64, indexed bool, err error) {
	if r.Index == nil || page.Resource != "" || page.Type != "" {
		return 0, false, nil
	}
	fromStart := r.Index.begins().IsZero()
	whole := func(c *Summary) bool { return c.whole(fromStart, true) }
	calls, begin := r.Index.recent(first, newest, page.Calls-len(found.Calls), func(c *Summary) bool { return !whole(c) || page.wants(c, now) })
	if len(calls) == 0 && begin > end {
		return 0, false, nil
	}
	if len(calls) > 0 {
		found.Back = calls[len(calls)-1].stored
	}
	return begin, true, r.addRecent(ctx, stream, page, calls, newest, now, whole, found)
}

// wants reports whether a call that was read whole has the state and the outcome.
func (p *Page) wants(call *Summary, now time.Time) bool {
	return (p.State == "" || call.State(now) == p.State) && call.HasOutcome(p.Outcome)
}

// addRecent adds those of the calls that the page selects.
func (r *Reader) addRecent(ctx context.Context, stream jetstream.Stream, page Page, calls []*Summary, end uint64, now time.Time, whole func(*Summary) bool, found *Recent) error {
	for _, call := range calls {
		call.listed = call.newest
	}
	for len(calls) > 0 && len(found.Calls) < page.Calls {
		some := calls[:min(2*recentLookups, len(calls))]
		calls = calls[len(some):]
		if err := r.complete(ctx, stream, page, some, whole); err != nil {
			return err
		}
		for _, call := range some {
			// A call with a newer event is on an earlier page, or was found in a later span.
			if call.newest > end || !page.wants(call, now) {
				continue
			}
			if found.Calls = append(found.Calls, call); len(found.Calls) == page.Calls {
				break
			}
		}
	}
	return nil
}

// span returns the calls with an event from begin to end and none soon after, newest
// first, and when the earliest message that was read was stored.
func (r *Reader) span(ctx context.Context, page Page, begin, end uint64) (list []*Summary, oldest time.Time, err error) {
	selection := page.selection()
	selection.Since.Sequence, selection.Until.Sequence = begin-min(spanMargin, begin-1), end+spanMargin
	calls := make(callIndex)
	for m, err := range r.Read(ctx, selection) {
		if err != nil {
			return nil, oldest, err
		}
		if oldest.IsZero() && m.Sequence >= begin {
			oldest = m.Time
		}
		e, err := m.Event()
		if err != nil {
			continue
		}
		if keys := e.keys(); len(keys) > 0 {
			call := calls.find(keys)
			call.add(newStep(m, e))
			call.newest = m.Sequence
		}
	}
	for key, call := range calls {
		if key == call.keys[0] && call.newest >= begin && call.newest <= end {
			list = append(list, call)
		}
	}
	slices.SortFunc(list, func(a, b *Summary) int { return cmp.Compare(b.newest, a.newest) })
	return list, oldest, nil
}

func (p *Page) selection() Selection {
	selection := Selection{Resource: p.Resource}
	if p.Type != "" {
		selection.Types = []string{p.Type}
	}
	return selection
}

// whole reports whether the beginnings and ends of all legs were read, by a reading from
// the stream's start, or to its end, or neither.
func (c *Summary) whole(fromStart, toEnd bool) bool {
	if fromStart && toEnd {
		return true
	}
	connects := false
	for _, leg := range c.Legs {
		if !leg.Connects() {
			continue
		}
		connects = true
		if !c.notConnected && (leg.Connected.IsZero() && !fromStart || leg.End == nil && !toEnd) {
			return false
		}
	}
	return connects
}

// complete reads those of the calls whole that are not, some at a time.
func (r *Reader) complete(ctx context.Context, stream jetstream.Stream, page Page, calls []*Summary, whole func(*Summary) bool) error {
	errs := make([]error, len(calls))
	var readings sync.WaitGroup
	for i := range min(recentLookups, len(calls)) {
		readings.Go(func() {
			for n := i; n < len(calls); n += recentLookups {
				if !whole(calls[n]) {
					listed := calls[n].listed
					if calls[n], errs[n] = r.readCall(ctx, stream, page, calls[n]); errs[n] == nil {
						calls[n].listed = listed
					}
				}
			}
		})
	}
	readings.Wait()
	return errors.Join(errs...)
}

// readCall reads the legs of a call by their subjects, one message after another: that
// is faster here than a batch, for which the server counts the messages that follow.
func (r *Reader) readCall(ctx context.Context, stream jetstream.Stream, page Page, part *Summary) (*Summary, error) {
	var steps []*Step
	for _, leg := range part.Legs {
		token := schemas.CallToken(leg.ID)
		if token == schemas.NoCall {
			return part, nil
		}
		filter := schemas.SubjectFilter(r.Prefix, "", "", token)
		for seq, n := uint64(1), 0; n < maxLegEvents; n++ {
			raw, err := stream.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(filter))
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				break
			}
			if err != nil {
				return nil, err
			}
			directget.StripHeaders(raw.Header)
			m := &StoredMessage{Stream: r.Stream, Sequence: raw.Sequence, Time: raw.Time, Subject: raw.Subject, Header: raw.Header, Data: raw.Data}
			if e, err := m.Event(); err == nil {
				steps = append(steps, newStep(m, e))
			}
			seq = raw.Sequence + 1
		}
	}
	slices.SortFunc(steps, func(a, b *Step) int { return cmp.Compare(a.Message.Sequence, b.Message.Sequence) })
	call, selection := &Summary{}, page.selection()
	for _, step := range steps {
		call.add(step)
		if selection.selects(step.Message) {
			call.newest = step.Message.Sequence
		}
	}
	if call.Events == 0 {
		return part, nil // its subjects are of an earlier form
	}
	return call, nil
}
