package publish

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/acsbridge/acsbridge/publish/journal"
)

// handOver gives a record to the forwarder of the quarantine, which has a journal of
// its own: what waits for the quarantine stream holds up no event. The record is
// refused when that journal has no room.
func (f *forwarder) handOver(ctx context.Context, q *record) (handed bool, refused string, err error) {
	_, err = f.quarantine.journal.Append(ctx, encodeAll([]*record{q})...)
	if errors.Is(err, journal.ErrFull) {
		return false, reasonQuarantine, nil
	}
	return err == nil, "", err
}

// What a resource may put into quarantine, as malformed callbacks and again as
// conflicts. A sender with a token can post nonsense, and all of it goes through the
// journal of the quarantine, so that what it takes there is bounded to 160 KiB a
// second: with NATS disconnected, a journal of 256 MiB lasts half an hour. The quarantine
// stream drops its oldest messages at 256 MiB, so that the sender could otherwise push
// everything else out of it. ACS itself sends bodies of about 1 KiB.
const (
	quarantinePerSecond = 10
	quarantineBurst     = 100
	// quarantineUnit bytes count as one callback, and a larger body as several.
	quarantineUnit = 16 << 10
)

// QuarantineLimit has a rate limiter for each resource. The zero value is ready; it is
// safe for concurrent use.
type QuarantineLimit struct {
	mu        sync.Mutex
	resources map[string]*rate.Limiter // as many as are configured at most
}

// Allow reports whether a body of so many bytes may go to quarantine for a resource,
// and takes it from the resource's limiter if so.
func (q *QuarantineLimit) Allow(resource string, size int, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	limiter := q.resources[resource]
	if limiter == nil {
		if q.resources == nil {
			q.resources = make(map[string]*rate.Limiter)
		}
		limiter = rate.NewLimiter(quarantinePerSecond, quarantineBurst)
		q.resources[resource] = limiter
	}
	return limiter.AllowN(now, 1+size/quarantineUnit)
}

// SetRate changes the rate of the limiters that there are, in bodies a second.
func (q *QuarantineLimit) SetRate(perSecond rate.Limit) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, limiter := range q.resources {
		limiter.SetLimit(perSecond)
	}
}
