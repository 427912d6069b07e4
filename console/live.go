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

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/replay"
)

const (
	// maxLive is how many pages can be live at a time, and maxTokens the legs that one of
	// them follows. A page that is too many works without being live.
	maxLive   = 64
	maxTokens = 32
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
)

// hub follows the stream once for all live pages, while there are any.
type hub struct {
	reader *replay.Reader

	connections chan struct{} // semaphore
	wake        chan struct{} // gets a value when there is a new subscriber, and holds one at most

	mu          sync.Mutex
	subscribers map[*subscriber]bool
}

func newHub(reader *replay.Reader) hub {
	return hub{
		reader: reader, connections: make(chan struct{}, maxLive), wake: make(chan struct{}, 1),
		subscribers: make(map[*subscriber]bool),
	}
}

// subscriber is one live page.
type subscriber struct {
	all     bool            // it is about all calls
	tokens  map[string]bool // last tokens of the subjects of its call
	changed chan struct{}   // gets a value when something has changed, and holds one at most
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
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subscribers, s)
	}
}

func (h *hub) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subscribers)
}

// run follows the stream while there are subscribers, until ctx ends.
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
		for h.count() > 0 && ctx.Err() == nil {
			if err := h.follow(ctx); err != nil && ctx.Err() == nil {
				logger.Debug("live pages of the console are behind", "error", err)
				_ = backoff.Wait(ctx, retryFollowing)
			}
		}
	}
}

// follow reads what is stored from now on, until there are no subscribers.
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
	go func() { // a stream without new messages ends no reading
		for h.count() > 0 && backoff.Wait(ctx, followInterval) == nil {
		}
		stop(errNoSubscribers)
	}()
	h.notifyAll() // of what was stored before
	reader := *h.reader
	reader.Interval, reader.OnWarning = followInterval, nil
	from := replay.Position{Sequence: stream.CachedInfo().State.LastSeq + 1}
	for m, err := range reader.Read(ctx, replay.Selection{Since: from, Follow: true}) {
		if errors.Is(context.Cause(ctx), errNoSubscribers) {
			return nil
		}
		if err != nil {
			return err
		}
		h.publish(m.CallToken())
	}
	return nil
}

// errNoSubscribers ends the following when the last live page has gone.
var errNoSubscribers = errors.New("no live pages")

func (h *hub) notifyAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subscribers {
		s.notify()
	}
}

// publish notifies the pages that a new event of a call is about.
func (h *hub) publish(token string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subscribers {
		if s.all || s.tokens[token] {
			s.notify()
		}
	}
}

// liveEvents sends an event whenever what a page shows has changed; the page then asks
// for itself again. Without a call it is about the bridge, whose figures always change.
// It ends with the session of the browser, at its next event: 25 seconds later at most.
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
	s := &subscriber{all: q.Get("calls") == "all", tokens: make(map[string]bool), changed: make(chan struct{}, 1)}
	for _, token := range q["call"][:min(maxTokens, len(q["call"]))] {
		s.tokens[token] = true
	}
	pause, always := liveInterval, !s.all && len(s.tokens) == 0
	if len(s.tokens) > 0 {
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
