package verify

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/acsbridge/acsbridge/internal/lograte"
)

// maxBindings bounds the memory of reuse to some 20 MiB. A token is remembered
// for six minutes, so this is full above 700 callbacks a second; then the
// tokens that expire first are forgotten early, and counted.
const maxBindings = 1 << 18

// bucketSpan is the span of expiry times in one bucket.
const bucketSpan = 60 // seconds

// digest identifies a token or a body. Half a SHA-256 is enough: an attacker with a
// token would have to find a second preimage of the first body.
type digest [16]byte

// reuse remembers which body each token came with first, until the token has
// expired. Tokens are kept in one bucket for each minute of their expiry, so that
// expired ones are dropped together.
type reuse struct {
	policy ReusePolicy
	limit  int // maxBindings, or less in a test
	leeway time.Duration
	now    func() time.Time
	logger *slog.Logger
	report lograte.Limiter // a client with a token can repeat it at will

	mu        sync.Mutex
	buckets   map[int64]map[digest]digest // body by token, by exp / bucketSpan
	held      int
	forgotten int // dropped before they expired
	reused    int // tokens that came with another body
}

func newReuse(c Config) *reuse {
	return &reuse{
		policy:  c.TokenReuse,
		limit:   maxBindings,
		leeway:  c.Leeway,
		now:     c.Now,
		logger:  c.Logger,
		buckets: map[int64]map[digest]digest{},
	}
}

// CheckReuse binds a token to the body it came with first. The same body again
// is a retry. Another body is counted and logged, and refused with
// [TokenReused] when the policy says so. Call it once a callback, with the
// claims of its token.
func (v *Verifier) CheckReuse(c *Claims, body []byte) error {
	if c.Resource() == "" {
		return errors.New("verify: claims that Verify did not make")
	}
	if v.reuse.policy == ReuseOff || v.reuse.bind(c, body) {
		return nil
	}
	v.reuse.report.Log(v.reuse.logger, slog.LevelWarn, "token came again with another body",
		slog.String("resource", c.resource), slog.String("policy", string(v.reuse.policy)),
		slog.String("token", hex.EncodeToString(c.signing[:4])))
	if v.reuse.policy == ReuseRefuse {
		return refuse(TokenReused, "the token came with another body before")
	}
	return nil
}

// bind reports whether the token of c is new or belongs to this body.
func (r *reuse) bind(c *Claims, body []byte) bool {
	sum := sha256.Sum256(body)
	token, content := digest(c.signing[:16]), digest(sum[:16])
	minute := c.registered.ExpiresAt.Unix() / bucketSpan

	r.mu.Lock()
	defer r.mu.Unlock()
	if first, held := r.buckets[minute][token]; held {
		if first != content {
			r.reused++
		}
		return first == content
	}

	// Forget expired tokens, and those that expire first when there are too many.
	// There are never more than some twenty buckets: no token that expires later
	// than ten minutes from now is good.
	expired, oldest := r.now().Add(-r.leeway).Unix()/bucketSpan, int64(lastDate)
	for at, bucket := range r.buckets {
		if at < expired {
			r.held -= len(bucket)
			delete(r.buckets, at)
		} else {
			oldest = min(oldest, at)
		}
	}
	if r.held >= r.limit {
		r.forgotten += len(r.buckets[oldest])
		r.held -= len(r.buckets[oldest])
		delete(r.buckets, oldest)
	}

	bucket := r.buckets[minute]
	if bucket == nil {
		bucket = map[digest]digest{}
		r.buckets[minute] = bucket
	}
	bucket[token] = content
	r.held++
	return true
}
