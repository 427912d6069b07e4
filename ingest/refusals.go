package ingest

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/acsbridge/acsbridge/verify"
)

const (
	// refusalsPerSecond is how many tokens of one client may be refused in a
	// second before it is not listened to. A forged one costs us an RSA
	// verification, some 30 µs: this holds a client to a third of a per mille
	// of a core.
	refusalsPerSecond = 10
	// refusalBurst is how many may be refused at once.
	refusalBurst = 50
	// refusalMemory is how long it takes an empty bucket to be full again, so
	// one that was left alone as long can be forgotten.
	refusalMemory = refusalBurst * time.Second / refusalsPerSecond
	// maxRefusedClients bounds the memory to twice as many buckets, 4 MiB.
	// Beyond that the oldest are forgotten: who has that many addresses is not
	// stopped by counting them.
	maxRefusedClients = 8192
	// clientBitsIPv6 is the network that one IPv6 customer has at the least
	// (RFC 6177), so its addresses are one client.
	clientBitsIPv6 = 64
)

// sharedSpace is what carriers and clusters use inside (RFC 6598).
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// refusals keeps a bucket for each client whose tokens are refused. Nobody else
// has one, so that good callbacks cost next to nothing.
type refusals struct {
	held atomic.Int64 // buckets in both generations

	mu         sync.Mutex
	young, old map[netip.Addr]*rate.Limiter
	turned     time.Time // when the young were last made old
}

// exhausted reports whether a client has no refusal left.
func (f *refusals) exhausted(client netip.Addr, now time.Time) bool {
	key, counted := bucketOf(client)
	if !counted {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turn(now)
	bucket := f.young[key]
	if bucket == nil {
		bucket = f.old[key]
	}
	return bucket != nil && bucket.TokensAt(now) < 1
}

// charge takes a refusal from a client's bucket.
func (f *refusals) charge(client netip.Addr, now time.Time) {
	key, counted := bucketOf(client)
	if !counted {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turn(now)
	bucket := f.young[key]
	if bucket == nil {
		if bucket = f.old[key]; bucket == nil {
			bucket = rate.NewLimiter(refusalsPerSecond, refusalBurst)
		}
		delete(f.old, key)
		if len(f.young) == maxRefusedClients {
			f.age(now)
		}
		f.young[key] = bucket
	}
	bucket.AllowN(now, 1)
	f.held.Store(int64(len(f.young) + len(f.old)))
}

// turn forgets the buckets that have had the time to fill again.
func (f *refusals) turn(now time.Time) {
	if f.young == nil || now.Sub(f.turned) > refusalMemory {
		f.age(now)
	}
}

// age makes the young old and forgets the old.
func (f *refusals) age(now time.Time) {
	f.young, f.old, f.turned = make(map[netip.Addr]*rate.Limiter), f.young, now
	f.held.Store(int64(len(f.old)))
}

// bucketOf returns what stands for a client. A private address has no bucket:
// it is most likely a proxy or a gateway, behind which the good traffic is too.
func bucketOf(client netip.Addr) (key netip.Addr, counted bool) {
	switch {
	case !client.IsValid(), client.IsLoopback(), client.IsPrivate(), client.IsLinkLocalUnicast(), sharedSpace.Contains(client):
		return netip.Addr{}, false
	case client.Is6():
		network, err := client.Prefix(clientBitsIPv6)
		return network.Addr(), err == nil
	}
	return client, true
}

// chargeable reports whether a refusal is charged to the client. Those are not
// that ACS earns from the very addresses that our callbacks come from: with the
// callbacks of a resource that is missing in our configuration, or is somebody
// else's, or with a clock that is wrong. See decision 11.
func chargeable(err error) bool {
	var refused *verify.RefusedError
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Reason {
	case verify.MissingToken, verify.MalformedToken, verify.UnsupportedHeader, verify.BadAlgorithm,
		verify.UnknownKey, verify.BadSignature, verify.WrongIssuer:
		return true
	}
	return false
}
