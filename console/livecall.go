package console

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/replay"
)

const (
	// maxLiveCall is how many bytes of events a call can have whose page is live.
	maxLiveCall = 512 << 10
	// maxPassed is how many events can be stored while a call is looked up.
	maxPassed = 10_000
	// openWithin is how long a call is kept for a page that is not live yet, or no more.
	openWithin = 20 * time.Second
	// maxLiveCalls is how many are kept.
	maxLiveCalls = 2 * maxLive
)

// liveCall is a call that pages show. Its members but the first are guarded by the
// lock of the hub.
type liveCall struct {
	looking sync.Mutex // held while it is looked up
	pages   int        // live ones that show it
	asked   time.Time  // when one asked for it last
	story   *replay.Story
	since   []*replay.Step // that were stored since the story was made
	size    int            // bytes of all of them
	passed  []*replay.Step // all that are stored while it is looked up; nil when it is not
	failed  int            // how often in a row it could not be kept
	checked bool           // the story was compared with the index
}

// forget makes the next page look the call up again.
func (l *liveCall) forget() { l.story, l.since, l.passed = nil, nil, nil }

// watch counts a live page that shows a call, and has it ask for itself when the call was
// not looked up since the stream is followed. The lock of the hub is held.
func (h *hub) watch(s *subscriber) {
	call := h.calls[s.call]
	if call == nil {
		call = &liveCall{}
		h.calls[s.call] = call
	}
	if call.pages++; call.story == nil {
		s.notify()
	}
}

// leave ends watch.
func (h *hub) leave(s *subscriber) {
	h.calls[s.call].pages--
	h.prune(time.Now())
}

// prune removes the calls that no page shows.
func (h *hub) prune(now time.Time) {
	maps.DeleteFunc(h.calls, func(_ string, call *liveCall) bool { return call.pages == 0 && now.Sub(call.asked) > openWithin })
}

// call returns the one with an id that a page asks for, or nil when it cannot be kept.
func (h *hub) call(id string, now time.Time) *liveCall {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.prune(now)
	call := h.calls[id]
	if call == nil {
		if !h.following || len(h.calls) >= maxLiveCalls {
			return nil
		}
		call = &liveCall{}
		h.calls[id] = call
	}
	call.asked = now
	return call
}

// addToCalls adds an event to the calls that it is of, and returns their ids. The lock of
// the hub is held.
func (h *hub) addToCalls(step *replay.Step) map[string]bool {
	if step == nil {
		return nil // a page does not show it either
	}
	changed := make(map[string]bool)
	h.prune(time.Now())
	for id, call := range h.calls {
		if call.add(step) {
			changed[id] = true
		}
	}
	return changed
}

// add adds an event when it is one of the call.
func (l *liveCall) add(step *replay.Step) bool {
	if l.passed != nil {
		l.passed = append(l.passed, step)
	}
	if len(l.passed) > maxPassed {
		l.passed = nil
	}
	if l.story == nil {
		return false
	}
	continues, more := l.story.Continues(step)
	if !continues {
		return false
	}
	l.since = append(l.since, step)
	if l.size += stepSize(step); more || l.size > maxLiveCall {
		l.forget()
	}
	return true
}

// story returns the story of a call: that of live pages with what was stored since, or
// one that search looks up.
func (h *hub) story(ctx context.Context, id string, now time.Time, search func() (*replay.Story, error)) (*replay.Story, error) {
	call := h.call(id, now)
	if call == nil {
		return search()
	}
	call.looking.Lock()
	defer call.looking.Unlock()
	if story := h.known(call, now); story != nil {
		return story, nil
	}
	story, err := search()
	h.keep(ctx, id, call, story)
	return story, err
}

// retryKeeping is when the pages of a call that could not be kept ask again.
var retryKeeping = backoff.Doubling{First: 2 * time.Second, Last: time.Minute}

// known returns the story of a call at a time. Without one it begins to keep what is
// stored, for keep.
func (h *hub) known(call *liveCall, now time.Time) *replay.Story {
	h.mu.Lock()
	defer h.mu.Unlock()
	if call.story == nil {
		call.forget()
		if h.following {
			call.passed = []*replay.Step{}
		}
		return nil
	}
	call.story, call.since = call.story.With(call.since, now), nil
	return call.story
}

// keep keeps a story that was looked up, nil when that failed, with what was stored
// meanwhile. When not all of that is known, the pages of the call ask again later.
func (h *hub) keep(ctx context.Context, id string, call *liveCall, story *replay.Story) {
	h.mu.Lock()
	defer h.mu.Unlock()
	passed := call.passed
	call.passed = nil
	if !h.following || errors.Is(ctx.Err(), context.Canceled) { // they ask when the following begins; the browser has left
		return
	}
	if story != nil && (len(story.Steps) == 0 || storySize(story) > maxLiveCall) {
		return // their pages are not live
	}
	if story != nil && passed != nil {
		call.story, call.size = story, storySize(story)
		for _, step := range passed {
			call.add(step)
		}
		call.checkNewest(h.index)
	}
	if call.story != nil {
		call.failed = 0
		return
	}
	call.failed++
	time.AfterFunc(retryKeeping.After(call.failed), func() { h.notify(id) })
}

// checkNewest forgets the story, once, when the index has a later event: a replica that is
// behind was asked.
func (l *liveCall) checkNewest(index *replay.Index) {
	if l.story == nil || l.checked {
		return
	}
	newest := l.story.Steps[len(l.story.Steps)-1].Message.Sequence
	for _, step := range l.since {
		newest = max(newest, step.Message.Sequence)
	}
	if index.Newest(l.story) > newest {
		l.forget()
		l.checked = true
	}
}

// notify has the pages of a call ask again.
func (h *hub) notify(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subscribers {
		if s.call == id {
			s.notify()
		}
	}
}

// storySize is the bytes of a call's events.
func storySize(story *replay.Story) (size int) {
	for _, step := range story.Steps {
		size += stepSize(step)
	}
	return size
}

func stepSize(step *replay.Step) int {
	size := len(step.Message.Data)
	for name, values := range step.Message.Header {
		for _, value := range values {
			size += len(name) + len(value)
		}
	}
	return size
}
