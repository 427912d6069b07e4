package acstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/acsbridge/acsbridge/internal/backoff"
)

// The retries of one delivery. ACS has some and publishes none of their
// figures.
const (
	defaultAttempts = 7
	maxRetryAfter   = 10 * time.Second // a longer one is cut to this
)

var betweenAttempts = backoff.Doubling{First: 200 * time.Millisecond, Last: 5 * time.Second}

// maxAnswerBody is how much of an answer's body is read so that its connection
// can be used again. Answers to callbacks have next to none.
const maxAnswerBody = 64 << 10

// Attempt is one POST and what came of it.
type Attempt struct {
	Call     int    // number of the call in its load
	Kind     string // [Delivery.Kind]
	Type     string // short type of the first event
	Events   int    // events in the body
	Number   int    // 1, and more for retries
	Sent     time.Time
	Latency  time.Duration // until the answer's headers
	Bytes    int           // of the body
	Status   int           // zero when there was no answer
	Expected bool          // whether it is an answer that the delivery must get
	Final    bool          // whether no retry follows

	// Err says why there is no answer.
	Err error

	// Abandoned marks a final attempt that would have been repeated, had the
	// caller not been told to stop.
	Abandoned bool

	retryAfter time.Duration
}

// send posts a delivery until it gets an answer that stands: one that must
// come, one that no retry can change, or that of the last attempt.
func (c *Caller) send(ctx context.Context, call int, d Delivery) Attempt {
	c.ledger.begin()
	for number := 1; ; number++ {
		a := Attempt{
			Call: call, Kind: d.Kind(), Type: d.eventType(), Events: len(d.Events),
			Number: number, Sent: time.Now(),
		}
		request, err := c.request(&d, number)
		if a.Err = err; err == nil {
			c.post(ctx, request, &a)
		}
		a.Expected = a.Status != 0 && d.Bearer.accepts(a.Status)
		a.Final = err != nil || a.Expected || !d.retryable(a.Status) || number >= c.attempts
		if !a.Final && ctx.Err() != nil {
			a.Final, a.Abandoned = true, true
		}
		c.ledger.attempt(&d, &a)
		c.observe(a)
		if a.Final {
			return a
		}
		// The end of ctx cuts the pause, not the last attempt after it.
		pause(ctx, max(betweenAttempts.After(number), a.retryAfter))
	}
}

// post makes one request and fills in what came back. A request under way is
// not cut by the end of ctx: its answer is wanted, for without it nobody knows
// whether the events are stored.
func (c *Caller) post(ctx context.Context, request *http.Request, a *Attempt) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	a.Bytes = int(request.ContentLength)
	a.Sent = time.Now()
	response, err := c.client.Do(request.WithContext(ctx))
	a.Latency = time.Since(a.Sent)
	if err != nil {
		a.Err = withoutURL(err)
		return
	}
	defer response.Body.Close()
	a.Status = response.StatusCode
	a.retryAfter = backoff.RetryAfter(response.Header.Get("Retry-After"), time.Now(), maxRetryAfter)
	// What cannot be read costs the connection and nothing else.
	_, _ = io.CopyN(io.Discard, response.Body, maxAnswerBody)
}

// withoutURL returns an error of the client without the URL, whose query may have
// a phone number or a key.
func withoutURL(err error) error {
	if outer, ok := errors.AsType[*url.Error](err); ok {
		return outer.Err
	}
	return err
}

// request makes the POST of a delivery for the attempt of that number, with a token
// of its own.
func (c *Caller) request(d *Delivery, number int) (*http.Request, error) {
	if d.Grid {
		if c.grid == nil {
			return nil, errors.New("an event of event grid, which the caller does not play")
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
	target := c.target.JoinPath(d.Path)
	if target.RawQuery != "" && d.Query != "" {
		target.RawQuery += "&"
	}
	target.RawQuery += d.Query
	request, err := http.NewRequest(http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make a callback: %w", err)
	}
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	if d.Bearer != BearerMissing {
		token, err := c.signer.Sign(d.Bearer.token(c.audience))
		if err != nil {
			return nil, fmt.Errorf("sign a callback: %w", err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return request, nil
}

// retryable reports whether the same delivery may fare better later: no answer,
// overload, or the bridge's own trouble; and for Event Grid whatever its own rules
// say.
func (d *Delivery) retryable(status int) bool {
	if d.Grid {
		return gridRetryable(status)
	}
	return status == 0 || status == http.StatusTooManyRequests || status >= http.StatusInternalServerError
}
