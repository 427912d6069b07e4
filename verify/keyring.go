package verify

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/acsbridge/acsbridge/internal/backoff"
)

// When keys are fetched.
const (
	refreshEvery = 10 * time.Minute // a withdrawn key is gone after this long
	cooldown     = 10 * time.Second // between a fetch and one that an unknown kid causes
	maxAge       = 24 * time.Hour   // an older set is not trusted
)

// afterFailure is the pause after a failed fetch.
var afterFailure = backoff.Doubling{First: time.Second, Last: 30 * time.Second}

// How long, and how many, requests wait for a key that is not there yet. More
// would let tokens with made-up kids hold connections.
const (
	maxWait    = 2 * time.Second
	maxWaiters = 64
	// usualFetch is left of maxWait when a fetch begins that a request waits for.
	// Without it, a sender that retries at once could time out each time just
	// before the answer.
	usualFetch = 500 * time.Millisecond
)

// KeyStatus is the state of the keys.
type KeyStatus struct {
	Held      int       // keys that tokens are checked with; without any, no verdict is possible
	FetchedAt time.Time // when the newest good fetch began; zero before the first
	LastError error     // why the newest fetch failed; nil when it did not
}

// keySet is the outcome of one good fetch. It never changes.
type keySet struct {
	kids    map[string]any // the key by kid, nil for one that the issuer lists and that is not usable
	held    int            // usable keys
	skipped []string       // why each other key is not usable

	cached bool      // older than the request: see keyServer.read
	began  time.Time // when the fetch began
	number uint64    // of the fetch: see keyring
}

// keyring holds the newest good key set and runs the loop that replaces it.
//
// A request with a kid that the set lacks asks the loop for a fetch, which the loop
// makes once a cooldown: any number of made-up kids costs one fetch. That a kid is
// made up is certain only when a fetch that began after the token came lacks it too;
// so fetches are numbered, and a request notes how many had begun when it came.
type keyring struct {
	server  *keyServer
	logger  *slog.Logger
	made    time.Time
	outcome func(ok bool) // counts fetches; set before run

	current atomic.Pointer[keySet]
	running atomic.Bool
	wake    chan struct{} // holds one token when a request wants a fetch
	waiters chan struct{} // holds one token per waiting request

	mu        sync.Mutex
	begun     uint64    // fetches begun; the newest has this number
	began     time.Time // when it began
	fetching  bool
	ended     chan struct{} // closed when a fetch ends, then replaced
	lastError error
}

func newKeyring(server *keyServer, logger *slog.Logger) *keyring {
	return &keyring{
		server:  server,
		logger:  logger,
		made:    time.Now(),
		outcome: func(bool) {},
		wake:    make(chan struct{}, 1),
		waiters: make(chan struct{}, maxWaiters),
		ended:   make(chan struct{}),
	}
}

// held returns the key of that kid, nil when it is not held, and the set that
// tokens are checked with, nil when there is none or it is too old.
func (k *keyring) held(kid string) (key any, set *keySet) {
	set = k.current.Load()
	if set == nil || time.Since(set.began) > maxAge {
		return nil, nil
	}
	return set.kids[kid], set
}

// key returns the key of that kid. When it is not held, key asks for a fetch and
// waits. It refuses the kid only when it is certain that the issuer does not
// publish it.
func (k *keyring) key(ctx context.Context, kid string) (any, error) {
	if key, _ := k.held(kid); key != nil {
		return key, nil
	}
	before, _, _ := k.progress()
	select {
	case k.wake <- struct{}{}:
	default: // another request has asked
	}
	select {
	case k.waiters <- struct{}{}:
		defer func() { <-k.waiters }()
	default:
		return nil, ErrNoKeys
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	for {
		_, ended, soon := k.progress()
		key, set := k.held(kid)
		if key != nil {
			return key, nil
		}
		if set != nil && set.number > before && !set.cached {
			if _, listed := set.kids[kid]; !listed {
				return nil, refuse(UnknownKey, "the issuer does not publish this key")
			}
		}
		if !soon {
			return nil, ErrNoKeys
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return nil, ErrNoKeys
		}
	}
}

// progress returns the number of fetches begun, a channel that is closed when
// the next one ends, and whether that may be soon enough to wait for.
func (k *keyring) progress() (begun uint64, ended <-chan struct{}, soon bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	soon = k.fetching || time.Since(k.began) > cooldown-maxWait+usualFetch
	return k.begun, k.ended, soon
}

// run fetches keys until ctx ends: at once, soon after a failure, every
// refreshEvery after a success, and once a cooldown when a request asks.
func (k *keyring) run(ctx context.Context) error {
	if !k.running.CompareAndSwap(false, true) {
		return errors.New("verify: Run is running already: one loop fetches the keys")
	}
	defer k.running.Store(false)
	defer k.server.client.CloseIdleConnections()
	failed := 0
	for {
		// Several bridges spread their fetches: up to a tenth earlier.
		pause := refreshEvery - rand.N(refreshEvery/10)
		if k.refresh(ctx) {
			failed = 0
		} else {
			failed++
			pause = afterFailure.After(failed)
		}
		if !k.pause(ctx, pause) {
			return nil
		}
	}
}

// pause waits for d, or less when a request asks for a fetch. It reports
// whether to go on.
func (k *keyring) pause(ctx context.Context, d time.Duration) bool {
	due := time.Now().Add(d)
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-k.wake:
			k.mu.Lock()
			allowed := k.began.Add(cooldown)
			k.mu.Unlock()
			if allowed.Before(due) {
				due = allowed
				timer.Reset(time.Until(due))
			}
		}
	}
}

// refresh fetches once. A failed fetch leaves the set as it is: keys that were good
// ten minutes ago most likely still are.
func (k *keyring) refresh(ctx context.Context) (ok bool) {
	k.mu.Lock()
	k.begun++
	number := k.begun
	k.began = time.Now()
	began := k.began
	k.fetching = true
	k.mu.Unlock()

	set, err := k.server.fetch(ctx)
	if ctx.Err() != nil {
		err = ctx.Err() // a stop is not a failure of the key server
	} else {
		k.outcome(err == nil)
		k.report(set, err)
	}

	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		set.number, set.began = number, began
		k.current.Store(set)
	}
	k.fetching = false
	k.lastError = err
	close(k.ended)
	k.ended = make(chan struct{})
	return err == nil
}

// report logs a fetch. A failure is an error when no key is held, since then every
// callback is answered without a verdict.
func (k *keyring) report(set *keySet, err error) {
	before := k.status()
	switch {
	case err != nil && before.Held == 0:
		k.logger.Error("keys not fetched, trying again; until then no token can be verified (acsbridge check examines the way to them)", "error", err)
	case err != nil:
		k.logger.Warn("keys not fetched, trying again", "error", err, "held", before.Held)
	case len(set.skipped) > 0:
		k.logger.Warn("keys fetched, some are not usable", "keys", set.held, "skipped", set.skipped)
	case before.Held == 0 || before.LastError != nil:
		k.logger.Info("keys fetched", "keys", set.held)
	default:
		k.logger.Debug("keys fetched", "keys", set.held)
	}
}

func (k *keyring) status() KeyStatus {
	k.mu.Lock()
	defer k.mu.Unlock()
	status := KeyStatus{LastError: k.lastError}
	if set := k.current.Load(); set != nil {
		status.FetchedAt = set.began
	}
	if _, set := k.held(""); set != nil {
		status.Held = set.held
	}
	return status
}

// age returns the age of the set, or the time since the start without one.
func (k *keyring) age() time.Duration {
	if set := k.current.Load(); set != nil {
		return time.Since(set.began)
	}
	return time.Since(k.made)
}
