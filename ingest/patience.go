package ingest

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// answerWithin bounds the time until the answer, whatever happens behind.
	answerWithin = 5 * time.Second
	// patienceSpan is how much less it may be.
	patienceSpan = time.Second
)

// patience says how long callbacks may take. Those of one second share a
// context: one with a timer for each would cost a hundredth of a callback (see
// docs/benchmarks.md). It is not the request's: a sender that hangs up must not
// cancel a write that is half made.
type patience struct{ last atomic.Pointer[span] }

type span struct {
	began time.Time
	ctx   context.Context
}

// from returns a context that ends answerWithin after now, or up to a
// patienceSpan earlier.
func (p *patience) from(now time.Time) context.Context {
	if s := p.last.Load(); s != nil && now.Sub(s.began) < patienceSpan {
		return s.ctx
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	context.AfterFunc(ctx, cancel)
	p.last.Store(&span{now, ctx})
	return ctx
}
