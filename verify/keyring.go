package verify

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// When keys are fetched.
const (
	refreshEvery = 10 * time.Minute // a withdrawn key is gone after this long
	retryFirst   = 1 * time.Second  // after a failed fetch, doubled each time …
	retryLast    = 30 * time.Second // … up to this
	cooldown     = 10 * time.Second // between a fetch and one that an unknown kid asks for
	maxAge       = 24 * time.Hour   // a set that nobody has confirmed for so long is not trusted
)

// How long, and how many, requests wait for a key that is not there yet. More
// would let tokens with made-up kids hold connections.
const (
	maxWait    = 2 * time.Second
	maxWaiters = 64
	// usualFetch is left of maxWait when a fetch begins that a request waits
	// for. Without it, who asks again and again would each time give up just
	// before the answer.
	usualFetch = 500 * time.Millisecond
)

// KeyStatus is the state of the keys.
type KeyStatus struct {
	Held      int       // keys that tokens are checked with; without any, there is no verdict
	FetchedAt time.Time // when the newest good fetch began; zero before the first
	LastError error     // why the newest fetch failed; nil when it did not
}

// keyring holds the newest good key set and runs the loop that replaces it.
//
// Requests read the set without a lock. One that meets a kid it does not hold
// asks the loop for a fetch, and the loop obeys once a cooldown: any number of
// made-up kids costs one fetch. Whether such a kid is made up is certain only
// when a fetch that began after the token came does not have it either; so
// fetches are numbered, and a request notes how many had begun when it came.
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

// key returns the key of that name.
func (k *keyring) key(ctx context.Context, kid string) (any, error) {
	if set := k.trusted(); set != nil {
		if key, ok := set.keys[kid]; ok {
			return key, nil
		}
	}
	set, err := k.await(ctx, kid)
	if err != nil {
		return nil, err
	}
	return set.keys[kid], nil
}

// trusted returns the set that tokens are checked with, nil when there is none
// that is young enough.
func (k *keyring) trusted() *keySet {
	set := k.current.Load()
	if set == nil || time.Since(set.began) > maxAge {
		return nil
	}
	return set
}

// await asks for a fetch and waits for a set that holds kid. It refuses the
// kid only when it is certain that the issuer does not publish it.
func (k *keyring) await(ctx context.Context, kid string) (*keySet, error) {
	before, _, _ := k.progress()
	select {
	case k.wake <- struct{}{}:
	default: // somebody else asked
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
		switch set := k.trusted(); {
		case set != nil && set.keys[kid] != nil:
			return set, nil
		case set != nil && set.number > before && !set.cached && !set.listed[kid]:
			return nil, refuse(UnknownKey, "the issuer publishes no such key")
		case !soon:
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

// run fetches keys until ctx ends: at once, again soon after a failure, every
// refreshEvery after a success, and when a request asks, once a cooldown.
func (k *keyring) run(ctx context.Context) error {
	if !k.running.CompareAndSwap(false, true) {
		return errors.New("verify: Run is running already: one loop fetches the keys")
	}
	defer k.running.Store(false)
	defer k.server.client.CloseIdleConnections()
	retry := retryFirst
	for {
		pause := refreshEvery
		if k.refresh(ctx) {
			retry = retryFirst
		} else {
			pause, retry = retry, min(2*retry, retryLast)
		}
		if !k.pause(ctx, jitter(pause)) {
			return nil
		}
	}
}

// jitter spreads the fetches of several bridges: up to a tenth earlier.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/10) }

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

// refresh fetches once. A failed fetch leaves the set as it is: the keys that
// were good ten minutes ago most likely still are, and without any, every
// callback would be lost.
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
		err = ctx.Err() // we are stopping; the key server is not to blame
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

// report logs a fetch. Without any key no callback is taken, so that is an
// error; so long as the last good set is there, it is a warning.
func (k *keyring) report(set *keySet, err error) {
	before := k.status()
	switch {
	case err != nil && before.Held == 0:
		k.logger.Error("keys not fetched, trying again; until then no token is good", "error", err)
	case err != nil:
		k.logger.Warn("keys not fetched, trying again", "error", err, "held", before.Held)
	case len(set.causes) > 0:
		k.logger.Warn("keys fetched, some of no use", "keys", len(set.keys), "skipped", set.causes)
	case before.Held == 0 || before.LastError != nil:
		k.logger.Info("keys fetched", "keys", len(set.keys))
	default:
		k.logger.Debug("keys fetched", "keys", len(set.keys))
	}
}

func (k *keyring) status() KeyStatus {
	k.mu.Lock()
	defer k.mu.Unlock()
	status := KeyStatus{LastError: k.lastError}
	if set := k.current.Load(); set != nil {
		status.FetchedAt = set.began
	}
	if set := k.trusted(); set != nil {
		status.Held = len(set.keys)
	}
	return status
}

// age returns how old the set is, or how long none was ever there.
func (k *keyring) age() time.Duration {
	if set := k.current.Load(); set != nil {
		return time.Since(set.began)
	}
	return time.Since(k.made)
}
