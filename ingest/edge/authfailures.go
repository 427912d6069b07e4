package edge

import (
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	// failuresPerSecond is how many tokens of one client may be refused in a second
	// before its requests are rejected unread. A forged token costs an RSA
	// verification, about 30 µs, so that one client costs 0.03 % of a core.
	failuresPerSecond = 10
	// failureBurst is how many may be refused at once.
	failureBurst = 50
	// failureMemory is how long an empty bucket takes to fill. A bucket without a
	// failure for so long can be forgotten.
	failureMemory = failureBurst * time.Second / failuresPerSecond
	// maxFailingClients bounds each generation, and so the memory to 4 MiB. With
	// more addresses than that, counting them stops no client, and the oldest are
	// forgotten.
	maxFailingClients = 8192
)

// AuthFailures limits how many tokens of one client are refused in a time. Only
// clients with failures have a bucket, so that a good callback costs next to nothing.
type AuthFailures struct {
	addresses *Addresses
	clients   atomic.Int64 // in both generations

	mu                sync.Mutex
	current, previous map[netip.Addr]*rate.Limiter
	rotated           time.Time // when current became previous
}

// NewAuthFailures returns a limiter that tells clients apart by addresses.
func NewAuthFailures(addresses *Addresses) *AuthFailures { return &AuthFailures{addresses: addresses} }

// Exceeded reports whether too many tokens of the client of a request were refused.
func (f *AuthFailures) Exceeded(r *http.Request, now time.Time) bool {
	if f.clients.Load() == 0 {
		return false
	}
	client, limited := LimitKey(f.addresses.Client(r))
	if !limited {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expire(now)
	bucket := f.current[client]
	if bucket == nil {
		bucket = f.previous[client]
	}
	return bucket != nil && bucket.TokensAt(now) < 1
}

// Add counts a refused token of the client of a request.
func (f *AuthFailures) Add(r *http.Request, now time.Time) {
	client, limited := LimitKey(f.addresses.Client(r))
	if !limited {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expire(now)
	bucket := f.current[client]
	if bucket == nil {
		if bucket = f.previous[client]; bucket == nil {
			bucket = rate.NewLimiter(failuresPerSecond, failureBurst)
		}
		delete(f.previous, client)
		if len(f.current) == maxFailingClients {
			f.rotate(now)
		}
		f.current[client] = bucket
	}
	bucket.AllowN(now, 1)
	f.clients.Store(int64(len(f.current) + len(f.previous)))
}

// expire forgets the buckets that have had the time to fill again.
func (f *AuthFailures) expire(now time.Time) {
	if f.current == nil || now.Sub(f.rotated) > failureMemory {
		f.rotate(now)
	}
}

// rotate begins a generation and forgets the one before the last.
func (f *AuthFailures) rotate(now time.Time) {
	f.current, f.previous, f.rotated = make(map[netip.Addr]*rate.Limiter), f.current, now
	f.clients.Store(int64(len(f.previous)))
}

// SetRate changes how many failures a second the present buckets forgive. Zero is for
// tests, which may be slower than buckets fill.
func (f *AuthFailures) SetRate(perSecond float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, bucket := range f.current {
		bucket.SetLimit(rate.Limit(perSecond))
	}
}
