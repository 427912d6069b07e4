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

// defaultTimeout is how long the caller waits for one answer. ACS publishes no
// figure; a bridge answers within five seconds.
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
	// Attempts bounds the POSTs of one callback. Zero means seven, which with
	// their pauses ride out a restart of the bridge.
	Attempts int
	// Transport carries the requests. Nil means one of the caller's own that
	// keeps connections open.
	Transport http.RoundTripper
	// Observe is told of every POST, from several goroutines at a time. Nil
	// means nobody.
	Observe func(Attempt)
	// EventGrid makes the caller play Event Grid as well. Nil means that it cannot
	// send events that come that way.
	EventGrid *EventGridOptions
	// KeepIDs makes the report list the ids of the events that must be stored.
	// They take 150 bytes or so each, so it suits runs with an end.
	KeepIDs bool
}

// Caller plays the side of ACS that posts callbacks. It is safe for concurrent
// use.
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
		audience:  o.Audience,
		grid:      grid,
		attempts:  o.Attempts,
		observe:   o.Observe,
		closeIdle: func() {},
		ledger:    newLedger(o.KeepIDs),
	}
	if c.audience == "" {
		c.audience = DemoAudience
	}
	if c.attempts == 0 {
		c.attempts = defaultAttempts
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
	if err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	if target.Scheme != "http" && target.Scheme != "https" || target.Host == "" {
		return nil, fmt.Errorf("target %q is no http URL, such as http://127.0.0.1:8080/callbacks", text)
	}
	return target, nil
}

// Close closes the connections that the caller kept open.
func (c *Caller) Close() { c.closeIdle() }

// Report returns what the caller has sent and got so far.
func (c *Caller) Report() Report { return c.ledger.snapshot() }

// Run plays a load to its end, or until ctx ends. Then no callback is started
// any more, those on their way are waited for, and the rest of their calls is
// left out. That is no error, and neither is a wrong answer: see
// [Caller.Report].
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

// play sends the deliveries of one call, each after the answer to the one
// before.
func (c *Caller) play(ctx context.Context, call int, script []Delivery) {
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

// Send posts one delivery, with retries, and returns its last attempt. Its
// pause is the business of whoever plays a call.
func (c *Caller) Send(ctx context.Context, d Delivery) Attempt {
	events := make(callEvents)
	last := c.send(ctx, 0, d)
	events.note(&d, last)
	c.ledger.callDone(events, false)
	return last
}

// pacer spaces the starts of calls.
type pacer struct {
	rate float64 // a second; zero is no limit
	next time.Time
}

// wait blocks until the next start and reports false when ctx ended first. A
// pacer that fell behind does not catch up: a stalled bridge gets no burst.
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
