package publish_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// outcome of an attempt, as the sender knows it.
type outcome string

const (
	answered outcome = "answered: it is durable"
	failed   outcome = "answered: unavailable"
	unknown  outcome = "not answered"
	omitted  outcome = "not sent"
)

// maxAttempts is how often a sender sends a callback that is not answered.
const maxAttempts = 4

// send is the sender of one call: it publishes one callback after another, and
// those that fail again, as often as it may.
func (w *world) send(c *call, dice *rand.Rand) {
	for i := range c.callbacks {
		cb := &c.callbacks[i]
		time.Sleep(cb.pause)
		for range maxAttempts {
			result := w.attempt(c, cb, dice)
			if result == answered || result == omitted {
				break
			}
			time.Sleep(spread(dice, 100*time.Millisecond, 2*time.Second))
		}
	}
}

// attempt publishes a callback once.
func (w *world) attempt(c *call, cb *callback, dice *rand.Rand) outcome {
	ctx := context.Background()
	if dice.IntN(8) == 0 { // a sender that disconnects
		short, cancel := context.WithTimeout(ctx, spread(dice, 0, 300*time.Millisecond))
		defer cancel()
		ctx = short
	}
	d := delivery()
	if dice.IntN(2) == 0 {
		d.Path = "tenant-7"
	}
	i := w.bridge()
	var err error
	var done func(outcome)
	if cb.quarantine != "" {
		if !w.mayRepeat(cb.quarantine) {
			return omitted
		}
		done = w.history.quarantine(cb.quarantine)
		err = i.Quarantine(ctx, claims(w.t), d, "not_json", "application/json", []byte(cb.quarantine))
	} else {
		var events []schemas.Inbound
		for _, n := range cb.events {
			if e := simulated(c.name, n); w.mayRepeat(e.MsgID()) {
				events = append(events, e)
			}
		}
		if len(events) == 0 {
			return omitted
		}
		done = w.history.publish(c.name, d, events)
		err = i.Publish(ctx, claims(w.t), d, events)
	}
	result := answered
	switch {
	case i.crashed.Load(), err != nil && ctx.Err() != nil:
		result = unknown
	case errors.Is(err, publish.ErrUnavailable):
		result = failed
	case err != nil:
		w.t.Errorf("publish: %v", err)
	}
	done(result)
	return result
}

// mayRepeat reports whether something is new, or was published so lately that
// it must be stored once although it is published again. It waits half a window
// at most without a look at the stream, see simulatedWindow.
func (w *world) mayRepeat(id string) bool {
	first := w.history.firstTry(id)
	return first.IsZero() || w.plan.repeats && time.Since(first) <= w.plan.window/4
}

// simulated returns the n-th event of a call, always the same.
func simulated(call string, n int) schemas.Inbound {
	dice := rand.New(rand.NewPCG(uint64(n), uint64(len(call))))
	e := event(call, n)
	if call == "" {
		e.ID = fmt.Sprint("none-", n)
	}
	types := []string{"CallConnected", "PlayCompleted", "ParticipantsUpdated"}
	e.Type = schemas.TypePrefix + types[dice.IntN(len(types))]
	if dice.IntN(2) == 0 {
		e.Time = "2026-03-01T12:00:00Z"
	}
	e.Raw = fmt.Appendf(nil, `{"id":%q,"data":%q}`, e.ID, strings.Repeat("x", dice.IntN(600)))
	return e
}
