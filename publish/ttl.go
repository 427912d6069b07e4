package publish

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/schemas"
)

// minTTL is the shortest that JetStream takes.
const minTTL = time.Second

// expiry has the stream remove what is of no use any more. A stream that does
// not allow that would refuse the message, so it is done only where the stream
// was seen to allow it. The journal keeps records without a TTL: how much of it
// is left, and whether it may be sent, is known only when they are.
type expiry struct{ allowed atomic.Bool }

// refused takes the stream's refusal of a publish: one that was made anew may
// not allow what the one before it did.
func (e *expiry) refused(err error) {
	if natsconn.Code(err) == natsconn.CodeTTLDisabled {
		e.allowed.Store(false)
	}
}

// set gives the message of a record what is left of its time, in whole seconds.
// What goes to quarantine stays there for somebody to look at.
func (e *expiry) set(m *nats.Msg, r *record, now time.Time) {
	if !e.allowed.Load() || r.stream == schemas.QuarantineStream {
		return
	}
	for _, h := range r.headers {
		if h.name != schemas.HeaderExpiresAt {
			continue
		}
		if at, err := time.Parse(time.RFC3339, h.value); err == nil {
			left := max(at.Sub(now), minTTL)
			m.Header[schemas.HeaderTTL] = []string{strconv.FormatInt(int64((left+time.Second-1)/time.Second), 10)}
		}
	}
}
