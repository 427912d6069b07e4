package ingest

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// What a resource may put into quarantine. A sender with a token can post nonsense,
// and all of it goes through the journal of the quarantine, so that what it takes
// there is bounded to 160 KiB a second: with NATS away, 256 MiB last half an hour.
// ACS itself sends bodies of about 1 KiB.
const (
	quarantinePerSecond = 10
	quarantineBurst     = 100
	// quarantineUnit bytes count as one callback, and a larger body as several.
	quarantineUnit = 16 << 10
)

// quarantineBuckets has a bucket for each resource.
type quarantineBuckets struct {
	mu        sync.Mutex
	resources map[string]*rate.Limiter // as many as are configured at most
}

// allow reports whether a malformed callback of a resource may be kept, and
// takes its size from the bucket if so.
func (q *quarantineBuckets) allow(resource string, size int, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	bucket := q.resources[resource]
	if bucket == nil {
		if q.resources == nil {
			q.resources = make(map[string]*rate.Limiter)
		}
		bucket = rate.NewLimiter(quarantinePerSecond, quarantineBurst)
		q.resources[resource] = bucket
	}
	return bucket.AllowN(now, 1+size/quarantineUnit)
}
