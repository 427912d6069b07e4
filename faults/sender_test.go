package faults_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/webhook"
)

const (
	// answerWithin bounds the wait for an answer. A bridge answers in five seconds.
	answerWithin = 10 * time.Second
	// The pauses before an event is sent again.
	retryMin = 20 * time.Millisecond
	retryMax = 500 * time.Millisecond
	// settleWithin bounds the retries of a sender that stops.
	settleWithin = 60 * time.Second
)

// target is a bridge. The name stands for its journal, which keeps the order of what
// the bridge has answered.
type target struct{ name, url string }

// sender is ACS: many calls at a time, in each of them one callback after the other,
// each posted until it is answered 200, every time with a new token.
type sender struct {
	t       testing.TB
	tokens  *purse
	clients []webhook.Client // of the calls in turn
	due     chan struct{}    // one for each callback that may begin

	mu      sync.Mutex
	targets []target

	authors []*author
	calls   [][]*callback // each belongs to its goroutine until halt has returned
	running sync.WaitGroup
	stop    context.CancelFunc // no new callbacks
	abandon context.CancelFunc // and no new attempts
	oks     atomic.Int64       // answers 200
	rate    atomic.Int64       // callbacks that begin in a second
}

// load is how much is sent.
type load struct {
	calls int // at a time
	rate  int // callbacks that begin in a second
	mix   mix
	// clients post the callbacks, each those of some calls. Nil means one with HTTP/1.1
	// and a connection for every call.
	clients func(calls int) []webhook.Client
}

// client returns one that keeps so many connections.
func client(calls int) webhook.Client {
	return webhook.Client{Timeout: answerWithin, Transport: webhook.NewTransport(calls)}
}

func newSender(t testing.TB, tokens *purse, l load, seed uint64, canary string) *sender {
	s := &sender{
		t: t, tokens: tokens, due: make(chan struct{}), calls: make([][]*callback, l.calls),
		clients: []webhook.Client{client(l.calls)},
	}
	if l.clients != nil {
		s.clients = l.clients(l.calls)
	}
	s.rate.Store(int64(l.rate))
	for n := range l.calls {
		s.authors = append(s.authors, newAuthor(seed, n, l.mix, canary))
	}
	return s
}

// aim changes the bridges of the sender.
func (s *sender) aim(targets ...target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.targets = targets
}

// run sends in the background until halt.
func (s *sender) run() {
	beginning, stop := context.WithCancel(context.Background())
	attempting, abandon := context.WithCancel(context.Background())
	s.stop, s.abandon = stop, abandon
	s.t.Cleanup(func() { // for a test that fails before halt
		stop()
		abandon()
		s.running.Wait()
		s.disconnect()
	})
	s.running.Go(func() { s.pace(beginning) })
	s.running.Go(func() {
		if err := s.tokens.refresh(beginning); err != nil {
			s.t.Errorf("sign a token: %v", err)
		}
	})
	for n := range s.calls {
		s.running.Go(func() { s.call(beginning, attempting, n) })
	}
}

// catchUp bounds how far a sender may be behind its rate and still catch up: more than
// the delay of a timer, and less than what makes a burst after each fault.
const catchUp = 20 * time.Millisecond

func (s *sender) pace(ctx context.Context) {
	next := time.Now()
	for sleep(ctx, time.Until(next)) {
		select {
		case s.due <- struct{}{}:
		case <-ctx.Done():
			return
		}
		next = next.Add(time.Second / time.Duration(s.rate.Load()))
		if latest := time.Now().Add(-catchUp); next.Before(latest) {
			next = latest
		}
	}
}

// halt waits for every callback that has begun, and returns what was sent.
func (s *sender) halt() [][]*callback {
	s.t.Helper()
	s.stop()
	timer := time.AfterFunc(settleWithin, s.abandon)
	s.running.Wait()
	timer.Stop()
	s.abandon()
	s.disconnect()
	return s.calls
}

func (s *sender) disconnect() {
	for _, c := range s.clients {
		if t, ok := c.Transport.(interface{ CloseIdleConnections() }); ok {
			t.CloseIdleConnections()
		}
	}
}

func (s *sender) call(beginning, attempting context.Context, n int) {
	author := s.authors[n]
	for {
		select {
		case <-s.due:
		case <-beginning.Done():
			return
		}
		c := author.next()
		s.calls[n] = append(s.calls[n], c)
		s.deliver(attempting, c)
		if _, answered := c.stored(); answered && author.rng.Float64() < author.mix.twice {
			s.attempt(c, true)
		}
	}
}

// deliver posts a callback until it is answered 200 or cannot be.
func (s *sender) deliver(ctx context.Context, c *callback) {
	for n := 0; ; n++ {
		a := s.attempt(c, false)
		switch a.status {
		case 0, http.StatusServiceUnavailable, http.StatusInternalServerError:
			if c.kind != good {
				return
			}
		default:
			return
		}
		pause := min(retryMin<<min(n, 10), retryMax)
		if !sleep(ctx, pause/2+rand.N(pause/2)) {
			return
		}
	}
}

// attempt posts a callback once, with a new token, and notes the answer.
func (s *sender) attempt(c *callback, again bool) attempt {
	// A call stays with its bridge, and changes to the next one with each failure.
	failures := len(c.attempts)
	if again {
		failures = 0
	}
	s.mu.Lock()
	to := s.targets[(c.call+failures)%len(s.targets)]
	s.mu.Unlock()
	made, err := s.tokens.take(), error(nil)
	if c.kind == forged {
		made, err = s.tokens.forge()
	}
	where := to.url
	if c.kind == astray {
		where += "-of-no-route"
	}
	a := attempt{bridge: to.name, again: again, token: made.id}
	answer, err := post(s.clients[c.call%len(s.clients)], where+"/"+c.path+"?"+c.query, webhook.ContentType, c.body(), made.text, err)
	if err != nil {
		s.t.Errorf("post a callback: %v", err)
		return a
	}
	a.sent, a.answered, a.status = answer.sent, answer.sent.Add(answer.Latency), answer.Status
	if answer.Err != nil {
		a.err = answer.Err.Error()
	}
	if a.status == http.StatusOK {
		s.oks.Add(1)
	}
	c.attempts = append(c.attempts, a)
	return a
}

// sentAnswer is an answer, and when its request was sent.
type sentAnswer struct {
	webhook.Answer
	sent time.Time
}

// post posts a body. An answer 503 without Retry-After is an error.
func post(client webhook.Client, address, contentType string, body []byte, token string, err error) (a sentAnswer, _ error) {
	target, parseErr := url.Parse(address)
	if err := errors.Join(err, parseErr); err != nil {
		return a, err
	}
	request, err := webhook.NewRequest(target, contentType, body, token)
	if err != nil {
		return a, err
	}
	a.sent = time.Now()
	a.Answer = client.Do(context.Background(), request)
	if a.Status == http.StatusServiceUnavailable && a.Header.Get("Retry-After") == "" {
		return a, errors.New("an answer 503 without Retry-After")
	}
	return a, nil
}

// tally counts what was sent, for the log.
func tally(calls [][]*callback) string {
	var callbacks, events, attempts, unanswered int
	statuses := make(map[int]int)
	var times []time.Duration
	for _, c := range slices.Concat(calls...) {
		callbacks++
		events += len(c.events)
		attempts += len(c.attempts)
		for _, a := range c.attempts {
			if statuses[a.status]++; a.status == 0 {
				unanswered++
			}
			if a.status == http.StatusOK {
				times = append(times, a.answered.Sub(a.sent))
			}
		}
	}
	text := fmt.Sprintf("%d callbacks with %d events, %d attempts: %d×200, %d×401, %d×404, %d×503, %d without an answer",
		callbacks, events, attempts, statuses[200], statuses[401], statuses[404], statuses[503], unanswered)
	if len(times) > 0 {
		slices.Sort(times)
		at := func(q float64) time.Duration {
			return times[int(q*float64(len(times)-1))].Round(100 * time.Microsecond)
		}
		text += fmt.Sprintf("; 200 in p50 %v, p99 %v, max %v", at(.5), at(.99), at(1))
	}
	return text
}

// answers counts the answers to requests of a fault that the oracle does not check but
// the bridge counts.
type answers struct {
	mu sync.Mutex
	by map[int]int // status
}

func (a *answers) add(status, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by == nil {
		a.by = make(map[int]int)
	}
	a.by[status] += n
}

func (a *answers) counts() map[int]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.by)
}

// probe posts a token with a media type that is not accepted: 415 means that the token
// is good, 401 that it is bad, 503 that there is no verdict. Nothing is stored.
func (w *world) probe(spec acstest.TokenSpec) (status int) {
	w.Helper()
	if spec.Audience == "" {
		spec.Audience = acstest.DemoAudience
	}
	text, err := w.issuer.Sign(spec)
	if err != nil {
		w.Error(err)
		return unanswered
	}
	return w.post(text, "text/plain", nil)
}

// post posts a body with a token. The status is zero without an answer.
func (w *world) post(token, contentType string, body []byte) (status int) {
	w.Helper()
	a, err := post(w.sender.clients[0], w.bridge.target().url, contentType, body, token, nil)
	if err != nil {
		w.Error(err)
	}
	w.others.add(a.Status, 1)
	return a.Status
}
