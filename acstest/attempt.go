package acstest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/internal/webhook"
)

// defaultAttempts is how often a delivery is posted at most. ACS does not publish
// what it does.
const defaultAttempts = 7

var betweenAttempts = backoff.Doubling{First: 200 * time.Millisecond, Last: 5 * time.Second}

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
	target, err := webhook.Below(c.target, d.Path, d.Query)
	if err != nil {
		return nil, fmt.Errorf("make a callback: %w", err)
	}
	token := ""
	if d.Bearer != BearerMissing {
		if token, err = c.signer.Sign(d.Bearer.token(c.audience)); err != nil {
			return nil, fmt.Errorf("sign a callback: %w", err)
		}
	}
	request, err := webhook.NewRequest(target, webhook.ContentType, body, token)
	if err != nil {
		return nil, fmt.Errorf("make a callback: %w", err)
	}
	return request, nil
}

// retryable reports whether the same delivery may be accepted later; for Event Grid
// by its own rules.
func (d *Delivery) retryable(a webhook.Answer) bool {
	if d.Grid {
		return gridRetryable(a.Status)
	}
	return a.Retryable()
}
