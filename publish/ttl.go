package publish

import (
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/schemas"
)

// codeTTLDisabled is JetStream's refusal of a TTL in a stream that does not
// allow one (ADR-43: per-message TTL).
const codeTTLDisabled = 10166

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
	var js jetstream.JetStreamError
	if errors.As(err, &js) && js.APIError() != nil && js.APIError().ErrorCode == codeTTLDisabled {
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
		if h.Name != schemas.HeaderExpiresAt {
			continue
		}
		if at, err := time.Parse(time.RFC3339, h.Value); err == nil {
			left := max(at.Sub(now), minTTL)
			m.Header[schemas.HeaderTTL] = []string{strconv.FormatInt(int64((left+time.Second-1)/time.Second), 10)}
		}
	}
}
