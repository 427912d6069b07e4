package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/replay"
)

const (
	// maxLive is how many pages can be live at a time. A page that is too many works without
	// being live.
	maxLive = 64
	// These are the least times between two refreshes of a live page: of the bridge or of
	// all calls, and of a call.
	liveInterval, liveCallInterval = 5 * time.Second, time.Second
	// refreshInterval is the least time between the refreshes of two live pages, so that
	// many live pages need no more processor time than some.
	refreshInterval = 200 * time.Millisecond
	// liveLife is how long a connection lasts; the browser makes another one.
	liveLife = 10 * time.Minute
	// writeTimeout is how long a browser may not read before it loses the connection.
	writeTimeout = 5 * time.Second
	// followInterval is how often the end of the stream is read for all live pages, and
	// retryFollowing how long after a failure.
	followInterval = 500 * time.Millisecond
	retryFollowing = 5 * time.Second
	// guardInterval is how often it is looked whether it is the same stream.
	guardInterval = 10 * time.Second
	// followBack is how many events before the end are read at first, for the index, with a
	// pause after each backPart of them.
	followBack = 16_000
	backPart   = 200
	backPause  = 20 * time.Millisecond
	// followOn is how long the stream is followed after the last live page has gone, since
	// the next page of the same browser is a live one too.
	followOn = time.Minute
)

// hub follows the stream once for all live pages, while there are any. It has the calls
// that they show, so that a page that asks for itself again reads nothing.
type hub struct {
	reader *replay.Reader

	connections chan struct{} // semaphore
	wake        chan struct{} // gets a value when there is a new subscriber, and holds one at most

	mu          sync.Mutex
	following   bool
	index       *replay.Index // of what was read; nil while nothing is followed
	subscribers map[*subscriber]bool
	left        time.Time            // when the last of them did
	calls       map[string]*liveCall // by the id that the pages have in their addresses
}

func newHub(reader *replay.Reader) hub {
	return hub{
		reader: reader, connections: make(chan struct{}, maxLive), wake: make(chan struct{}, 1),
		subscribers: make(map[*subscriber]bool), calls: make(map[string]*liveCall),
	}
}

// subscriber is one live page.
type subscriber struct {
	all     bool          // it is about all calls
	call    string        // or about the one with this id
	changed chan struct{} // gets a value when something has changed, and holds one at most
}

func (s *subscriber) notify() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// subscribe adds a page, and returns what removes it.
func (h *hub) subscribe(s *subscriber) (remove func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subscribers[s] = true
	switch {
	case s.all:
		s.notify() // the page may be a list of some seconds ago
	case s.call != "":
		h.watch(s)
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subscribers, s)
		h.left = time.Now()
		if s.call != "" {
			h.leave(s)
		}
	}
}

// wanted reports whether the stream is to be followed.
func (h *hub) wanted() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subscribers) > 0 || time.Since(h.left) < followOn
}

func (h *hub) currentIndex() *replay.Index {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.index
}

// run follows the stream while that is wanted, until ctx ends.
func (h *hub) run(ctx context.Context, logger *slog.Logger) {
	if h.reader == nil {
		<-ctx.Done()
		return
	}
	for {
		select {
		case <-h.wake:
		case <-ctx.Done():
			return
		}
		for h.wanted() && ctx.Err() == nil {
			err := h.follow(ctx)
			if errors.Is(err, errNotWanted) || errors.Is(err, errOtherStream) || ctx.Err() != nil {
				continue
			}
			logger.Debug("live pages of the console are behind", "error", err)
			_ = backoff.Wait(ctx, retryFollowing)
		}
	}
}

// follow reads what is stored from now on, and some events before, while that is wanted.
func (h *hub) follow(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	js, err := h.reader.JetStream(ctx)
	if err != nil {
		return err
	}
	stream, err := js.Stream(ctx, h.reader.Stream)
	if err != nil {
		return err
	}
	go h.guard(ctx, stop, stream)
	reader := *h.reader
	reader.Interval, reader.OnWarning = followInterval, func(err error) {
		_, missed := errors.AsType[*replay.MissedError](err)
		_, old := errors.AsType[*replay.OldSubjectsError](err)
		if !missed && !old {
			stop(err) // such a reading goes on trying, and pages would show the past for as long
		}
	}
	state := stream.CachedInfo().State
	next := max(state.FirstSeq, state.LastSeq+1-min(followBack, state.LastSeq))
	var index *replay.Index // before the first message
	if next <= state.FirstSeq || state.Msgs == 0 {
		index = replay.NewIndex(next, time.Time{}) // of the whole stream
	}
	defer h.end()
	read := func(selection replay.Selection, each func(*replay.Step)) error {
		for m, err := range reader.Read(ctx, selection) {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			if err != nil {
				return err
			}
			if index == nil {
				index = replay.NewIndex(m.Sequence, m.Time)
			}
			step, err := m.Step()
			if err == nil {
				index.Add(step)
			}
			next = m.Sequence + 1
			each(step)
		}
		return context.Cause(ctx)
	}
	if state.Msgs > 0 {
		if err := read(replay.Selection{Since: replay.Position{Sequence: next}, Until: replay.Position{Sequence: state.LastSeq}}, func(*replay.Step) {
			if next%backPart == 0 {
				_ = backoff.Wait(ctx, backPause)
			}
		}); err != nil {
			return err
		}
		next = max(next, state.LastSeq+1)
	}
	if index == nil { // everything was removed meanwhile
		index = replay.NewIndex(next, time.Now())
	}
	h.begin(index)
	return read(replay.Selection{Since: replay.Position{Sequence: next}, Follow: true}, h.publish)
}

// guard ends the following when it is not wanted any more, and when the stream is another
// one or an operator has removed messages, which the pages would go on showing.
func (h *hub) guard(ctx context.Context, stop context.CancelCauseFunc, stream jetstream.Stream) {
	began, looked := stream.CachedInfo(), time.Now()
	created, deleted := began.Created, began.State.NumDeleted
	for h.wanted() && backoff.Wait(ctx, followInterval) == nil {
		if time.Since(looked) < guardInterval {
			continue
		}
		looked = time.Now()
		if info, err := stream.Info(ctx); err == nil && (!info.Created.Equal(created) || info.State.NumDeleted > deleted) {
			stop(errOtherStream)
			return
		}
	}
	stop(errNotWanted)
}

// Reasons to end the following.
var (
	errNotWanted   = errors.New("no live pages")
	errOtherStream = errors.New("the stream was made anew, or messages were removed from it")
)

// begin is called when everything that was stored before is in the index: what is looked
// up from now on lacks no event that is stored later.
func (h *hub) begin(index *replay.Index) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.following, h.index = true, index
	for s := range h.subscribers {
		s.notify() // of what was stored before
	}
}

// end forgets the calls: events may be missed from now on.
func (h *hub) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.following, h.index = false, nil
	for _, call := range h.calls {
		call.forget()
	}
}

// publish notifies the pages that a new event is about. It is nil for a message that is none.
func (h *hub) publish(step *replay.Step) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed := h.addToCalls(step)
	for s := range h.subscribers {
		if s.all || changed[s.call] {
			s.notify()
		}
	}
}

// liveEvents sends an event whenever what a page shows has changed; the page then asks
// for itself again. Without a call it is about the bridge, whose figures always change.
// It ends with the session of the browser, at its next event: half a minute later at most.
func (c *Console) liveEvents(w http.ResponseWriter, r *http.Request) {
	select {
	case c.live.connections <- struct{}{}:
		defer func() { <-c.live.connections }()
	default:
		w.Header().Set("Retry-After", "60")
		http.Error(w, "too many live pages", http.StatusServiceUnavailable)
		return
	}
	q := r.URL.Query()
	s := &subscriber{all: q.Get("calls") == "all", call: q.Get("call"), changed: make(chan struct{}, 1)}
	pause, always := liveInterval, !s.all && s.call == ""
	if s.call != "" {
		pause = liveCallInterval
	}
	if !always {
		defer c.live.subscribe(s)()
	}
	control := http.NewResponseController(w)
	send := func(text string) error {
		if err := control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if _, err := fmt.Fprint(w, text); err != nil {
			return err
		}
		return control.Flush()
	}
	w.Header().Set("Content-Type", "text/event-stream")
	ctx, cancel := context.WithTimeout(r.Context(), liveLife)
	defer cancel()
	if send("retry: 5000\n\n") != nil {
		return
	}
	idle := time.NewTicker(15 * time.Second)
	defer idle.Stop()
	for backoff.Wait(ctx, pause+rand.N(pause)) == nil { // the pages ask one after another
		if always {
			s.notify()
		}
		text := "data: changed\n\n"
		select {
		case <-s.changed:
			if s.all && backoff.Wait(ctx, listLife) != nil { // until no earlier list is shown again
				return
			}
			if c.refreshes.Wait(ctx) != nil {
				return
			}
		case <-idle.C:
			text = ": idle\n\n"
		case <-ctx.Done():
			return
		}
		if !c.access.granted(r) || send(text) != nil { // its session has ended, or the browser has left
			return
		}
	}
}
