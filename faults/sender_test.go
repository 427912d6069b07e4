package faults_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// answerWithin is the sender's patience. A bridge answers in five seconds.
	answerWithin = 10 * time.Second
	// The pauses before an event is sent again.
	retryMin = 20 * time.Millisecond
	retryMax = 500 * time.Millisecond
	// settleWithin bounds how long a sender that was told to stop goes on with
	// what is not answered 200 yet.
	settleWithin = 60 * time.Second
)

// target is a way to a bridge. The name is its journal's: what is answered by
// one journal keeps its order.
type target struct{ name, url string }

// sender plays ACS: many calls at once, in each of them one callback after the
// other, each sent until it is answered 200, and again with a new token.
type sender struct {
	t       testing.TB
	tokens  *purse
	clients []*http.Client // of the calls in turn
	due     chan struct{}  // one for each callback that may begin

	mu      sync.Mutex
	targets []target

	authors []*author
	calls   [][]*callback // each is its goroutine's own until stop has returned
	running sync.WaitGroup
	stop    context.CancelFunc // no new callbacks
	abandon context.CancelFunc // and no new attempts
	oks     atomic.Int64       // answers 200
	rate    atomic.Int64       // callbacks that begin in a second
}

// load is how much is sent.
type load struct {
	calls int // under way at a time
	rate  int // callbacks that begin in a second
	mix   mix
	// clients post the callbacks, each those of some calls. Nil means one over
	// HTTP/1.1 with a connection for every call.
	clients func(calls int) []*http.Client
}

// client returns one that holds so many connections, and takes every answer
// as it is.
func client(calls int) *http.Client {
	return &http.Client{
		Timeout:       answerWithin,
		Transport:     &http.Transport{MaxIdleConnsPerHost: calls, MaxIdleConns: 2 * calls},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// newSender makes a sender that is not sending yet.
func newSender(t testing.TB, tokens *purse, l load, seed uint64, canary string) *sender {
	s := &sender{
		t: t, tokens: tokens, due: make(chan struct{}), calls: make([][]*callback, l.calls),
		clients: []*http.Client{client(l.calls)},
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

// aim turns the sender to other bridges.
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

// madeUpFor is how far behind its rate a sender may fall and still catch up:
// further than a timer is late, and less than what would be a rush after each
// fault.
const madeUpFor = 20 * time.Millisecond

// pace lets callbacks begin at the rate.
func (s *sender) pace(ctx context.Context) {
	next := time.Now()
	for sleep(ctx, time.Until(next)) {
		select {
		case s.due <- struct{}{}:
		case <-ctx.Done():
			return
		}
		next = next.Add(time.Second / time.Duration(s.rate.Load()))
		if latest := time.Now().Add(-madeUpFor); next.Before(latest) {
			next = latest
		}
	}
}

// halt lets every callback that has begun come to its end, and returns what
// was sent.
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
		c.CloseIdleConnections()
	}
}

// call plays one call.
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

// deliver sends a callback until it is answered 200, or cannot be.
func (s *sender) deliver(ctx context.Context, c *callback) {
	for n := 0; ; n++ {
		a := s.attempt(c, false)
		switch a.status {
		case 0, http.StatusServiceUnavailable, http.StatusInternalServerError:
			if c.kind != good {
				return // not worth another
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

// attempt posts a callback once, with a token of its own, and notes what came
// of it.
func (s *sender) attempt(c *callback, again bool) attempt {
	// A call stays with its bridge, and turns to the next one with each failure.
	failures := len(c.attempts)
	if again {
		failures = 0
	}
	s.mu.Lock()
	to := s.targets[(c.call+failures)%len(s.targets)]
	s.mu.Unlock()
	a := attempt{bridge: to.name, again: again}
	request, err := s.request(to, c, &a)
	if err != nil {
		s.t.Errorf("make a callback: %v", err)
		return a
	}
	a.sent = time.Now()
	response, err := s.clients[c.call%len(s.clients)].Do(request)
	a.answered = time.Now()
	if err != nil {
		if outer, ok := errors.AsType[*url.Error](err); ok {
			err = outer.Err
		}
		a.err = err.Error()
	} else {
		a.status = response.StatusCode
		_, _ = io.Copy(io.Discard, response.Body) // what cannot be read costs the connection
		response.Body.Close()
		if a.status == http.StatusServiceUnavailable && response.Header.Get("Retry-After") == "" {
			s.t.Errorf("an answer 503 without Retry-After")
		}
	}
	if a.status == http.StatusOK {
		s.oks.Add(1)
	}
	c.attempts = append(c.attempts, a)
	return a
}

func (s *sender) request(to target, c *callback, a *attempt) (*http.Request, error) {
	made := s.tokens.take()
	if c.kind == forged {
		var err error
		if made, err = s.tokens.forge(); err != nil {
			return nil, err
		}
	}
	a.token = made.id
	where := to.url
	if c.kind == astray {
		where += "-of-nobody"
	}
	request, err := http.NewRequest(http.MethodPost, where+"/"+c.path+"?"+c.query, bytes.NewReader(c.body()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	request.Header.Set("Authorization", "Bearer "+made.text)
	return request, nil
}

// tally sums up what was sent, for the log.
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
		text += fmt.Sprintf("; 200 in p50 %v, p99 %v, most %v", at(.5), at(.99), at(1))
	}
	return text
}
