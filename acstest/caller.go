package acstest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/internal/webhook"
)

// defaultTimeout bounds the wait for one answer. That of ACS is not published; a
// bridge answers within five seconds.
const defaultTimeout = 10 * time.Second

// maxIdleConns bounds the connections kept open for the next callback.
const maxIdleConns = 256

// Signer makes the tokens. [Issuer] is one.
type Signer interface {
	Sign(TokenSpec) (string, error)
}

// CallerOptions are the settings of a [Caller].
type CallerOptions struct {
	// Target is the callback URL of the bridge. Required.
	Target string
	// Signer makes a token for each POST. Required.
	Signer Signer
	// Audience is the aud of good tokens. Empty means [DemoAudience].
	Audience string
	// Timeout bounds the wait for one answer. Zero means ten seconds.
	Timeout time.Duration
	// Attempts bounds the POSTs of one callback. Zero means seven, which with their
	// pauses are enough for a restart of the bridge.
	Attempts int
	// Transport carries the requests. Nil means one that keeps connections open.
	Transport http.RoundTripper
	// Observe is called after every POST, from several goroutines at a time. It may
	// be nil.
	Observe func(Attempt)
	// EventGrid makes the caller simulate Event Grid as well. With nil it cannot send
	// its events.
	EventGrid *EventGridOptions
	// KeepIDs makes the report list the ids of the events that must be stored, some
	// 150 bytes each.
	KeepIDs bool
}

// Caller is the part of ACS that posts callbacks. It is safe for concurrent use.
type Caller struct {
	target    *url.URL
	signer    Signer
	audience  string
	grid      *eventGrid // nil without Event Grid
	attempts  int
	client    webhook.Client
	closeIdle func()
	observe   func(Attempt)
	ledger    ledger
}

// NewCaller checks the options and returns a caller. Close it after use.
func NewCaller(o CallerOptions) (*Caller, error) {
	target, err := parseTarget(o.Target)
	if err != nil {
		return nil, err
	}
	if o.Signer == nil {
		return nil, errors.New("the caller has no signer")
	}
	grid, err := newEventGrid(o.EventGrid, o.Signer)
	if err != nil {
		return nil, err
	}
	c := &Caller{
		target:    target,
		signer:    o.Signer,
		audience:  cmp.Or(o.Audience, DemoAudience),
		grid:      grid,
		attempts:  cmp.Or(o.Attempts, defaultAttempts),
		observe:   o.Observe,
		closeIdle: func() {},
		ledger:    newLedger(o.KeepIDs),
	}
	if c.observe == nil {
		c.observe = func(Attempt) {}
	}
	if o.Transport == nil {
		own := webhook.NewTransport(maxIdleConns)
		o.Transport, c.closeIdle = own, own.CloseIdleConnections
	}
	c.client = webhook.Client{Transport: o.Transport, Timeout: cmp.Or(o.Timeout, defaultTimeout)}
	return c, nil
}

func parseTarget(text string) (*url.URL, error) {
	target, err := url.Parse(text)
	if err != nil || target.Scheme != "http" && target.Scheme != "https" || target.Host == "" {
		return nil, fmt.Errorf("target %q is not an http URL, such as http://127.0.0.1:8080/callbacks", text)
	}
	return target, nil
}

// Close closes the connections that the caller kept open.
func (c *Caller) Close() { c.closeIdle() }

// Report returns what was sent and answered so far.
func (c *Caller) Report() Report { return c.ledger.snapshot() }

// Run plays a load to its end, or until ctx ends: then it starts no further callback,
// waits for those in flight, and leaves out the rest of their calls. Neither that nor
// a wrong answer is an error: see [Caller.Report].
func (c *Caller) Run(ctx context.Context, load Load) error {
	load, err := load.withDefaults()
	if err != nil {
		return err
	}
	starting, cancel := ctx, context.CancelFunc(func() {})
	if load.Duration > 0 {
		starting, cancel = context.WithTimeout(ctx, load.Duration)
	}
	defer cancel()

	var calls sync.WaitGroup
	defer calls.Wait()
	free := make(chan struct{}, load.Concurrency)
	pace := pacer{rate: load.Rate}
	for i := 0; load.Calls == 0 || i < load.Calls; i++ {
		select {
		case free <- struct{}{}:
		case <-starting.Done():
			return nil
		}
		if !pace.wait(starting) {
			return nil
		}
		script, err := load.script(i, time.Now())
		if err != nil {
			return err
		}
		calls.Go(func() {
			defer func() { <-free }()
			c.play(ctx, i, script)
		})
	}
	return nil
}

// play sends the callbacks of one call, each after the answer to the one before.
func (c *Caller) play(ctx context.Context, call int, script []Callback) {
	events := make(callEvents)
	cut := false
	for _, d := range script {
		if backoff.Wait(ctx, d.After) != nil {
			cut = true
			break
		}
		events.note(&d, c.send(ctx, call, d))
	}
	c.ledger.callDone(events, cut)
}

// Send posts one callback, with retries, and returns its last attempt. It ignores the
// pause of the callback.
func (c *Caller) Send(ctx context.Context, d Callback) Attempt {
	events := make(callEvents)
	last := c.send(ctx, 0, d)
	events.note(&d, last)
	c.ledger.callDone(events, false)
	return last
}

// pacer starts calls at a rate.
type pacer struct {
	rate float64 // a second; zero means no limit
	next time.Time
}

// wait blocks until the next start and reports false when ctx ended first. A
// pacer that fell behind does not catch up, so that a bridge gets no burst after a
// stall.
func (p *pacer) wait(ctx context.Context) bool {
	if p.rate == 0 {
		return ctx.Err() == nil
	}
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	due := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(float64(time.Second) / p.rate))
	return backoff.Wait(ctx, due) == nil
}

// defaultAttempts bounds the POSTs of one callback. The retries of ACS are not
// published.
const defaultAttempts = 7

var betweenAttempts = backoff.Doubling{First: 200 * time.Millisecond, Last: 5 * time.Second}

// Attempt is one POST and its answer.
type Attempt struct {
	Call     int        // number of the call in its load
	Kind     string     // [Callback.Kind]
	Type     string     // short type of the first event
	First    *WireEvent // first event
	Events   int        // events in the body
	Number   int        // 1, and more for retries
	Sent     time.Time
	Latency  time.Duration // until the answer's headers
	Bytes    int           // of the body
	Status   int           // zero when there was no answer
	Expected bool          // whether the callback must get this answer
	Final    bool          // whether no retry follows

	// Err is why there is no answer.
	Err error

	// Abandoned marks a final attempt that was not retried because ctx ended.
	Abandoned bool
}

// send posts a callback until it gets a final answer: the expected one, one that a
// retry cannot change, or that of the last attempt.
func (c *Caller) send(ctx context.Context, call int, d Callback) Attempt {
	c.ledger.begin()
	for number := 1; ; number++ {
		a := Attempt{
			Call: call, Kind: d.Kind(), Type: d.eventType(), First: &d.Events[0], Events: len(d.Events),
			Number: number, Sent: time.Now(),
		}
		request, err := c.request(&d, number)
		var answer webhook.Answer
		if a.Err = err; err == nil {
			a.Bytes, a.Sent = int(request.ContentLength), time.Now()
			answer = c.client.Do(ctx, request)
			a.Status, a.Latency, a.Err = answer.Status, answer.Latency, answer.Err
		}
		a.Expected = a.Status != 0 && d.Bearer.accepts(a.Status)
		a.Final = err != nil || a.Expected || !d.retryable(answer) || number >= c.attempts
		if !a.Final && ctx.Err() != nil {
			a.Final, a.Abandoned = true, true
		}
		c.ledger.attempt(&d, &a)
		c.observe(a)
		if a.Final {
			return a
		}
		// The end of ctx cuts the pause, not the last attempt after it.
		_ = backoff.Wait(ctx, max(betweenAttempts.After(number), answer.RetryAfter))
	}
}

// request makes the POST of a callback for the attempt of that number, with a new
// token.
func (c *Caller) request(d *Callback, number int) (*http.Request, error) {
	if d.Grid {
		if c.grid == nil {
			return nil, errors.New("an event of event grid, which the caller does not simulate")
		}
		return c.grid.request(d, number-1)
	}
	body := d.body
	if body == nil {
		var err error
		if body, err = Body(d.Events...); err != nil {
			return nil, err
		}
	}
	target, err := webhook.Below(c.target, d.Path, d.Query)
	if err != nil {
		return nil, fmt.Errorf("make a callback: %w", err)
	}
	token, err := d.Bearer.sign(c.signer, c.audience)
	if err != nil {
		return nil, fmt.Errorf("sign a callback: %w", err)
	}
	request, err := webhook.NewRequest(target, webhook.ContentType, body, token)
	if err != nil {
		return nil, fmt.Errorf("make a callback: %w", err)
	}
	return request, nil
}

// retryable reports whether the same callback may be accepted later.
func (d *Callback) retryable(a webhook.Answer) bool {
	if d.Grid {
		return gridRetryable(a.Status)
	}
	return a.Retryable()
}
