package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/natscontext"

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/internal/lograte"
)

const (
	pingInterval = 5 * time.Second // a half-open connection is found in 15 s
	maxPings     = 2
	// ackTimeout bounds the wait for one PubAck. The client has no bound of
	// its own: a lost acknowledgement would be waited for without end.
	ackTimeout = 3 * time.Second
)

// betweenAttempts are the pauses before another connection or session.
var betweenAttempts = backoff.Doubling{First: 100 * time.Millisecond, Last: 5 * time.Second}

// Link keeps one connection to NATS alive. The client gives up for good in a
// few cases (an over-long control line, say); then the link builds a new
// connection.
type Link struct {
	config NATS
	logger *slog.Logger
	errors lograte.Limiter

	mu         sync.Mutex
	nc         *nats.Conn
	js         jetstream.JetStream
	cause      error                // why NATS is away, nil while it is connected
	warned     map[string]bool      // the causes that were logged since it was connected
	violations map[string]time.Time // the rights that were missing, and when last
	changed    chan struct{}        // closed and replaced at each change of state
	since      time.Time            // of the present connection, or the last one
	closed     bool
	closing    chan struct{} // closed by Close

	connected atomic.Bool
}

// dialPatience is how long Connect waits for the first attempt. A mistake in the
// configuration shows within it; a server that accepts connections and says
// nothing must not hold up a start.
const dialPatience = 500 * time.Millisecond

// Connect starts connecting to NATS and returns within half a second, also when
// the server is away. The error is about the configuration: an unreadable
// credentials file, an unknown context.
func Connect(config NATS, logger *slog.Logger) (*Link, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	l := &Link{config: config, logger: logger, changed: make(chan struct{}), closing: make(chan struct{})}
	go l.watchLogin()
	dialed := make(chan error, 1)
	go func() { dialed <- l.dial() }()
	select {
	case err := <-dialed:
		if err != nil {
			l.Close()
			return nil, fmt.Errorf("connect to NATS: %w", err)
		}
	case <-time.After(dialPatience):
		go func() {
			if err := <-dialed; err != nil {
				l.away(err)
				l.rebuild()
			}
		}()
	}
	return l, nil
}

// dial builds a connection and puts it in the place of the old one.
func (l *Link) dial() error {
	opts, err := l.config.options()
	if err != nil {
		return err
	}
	opts = append(opts, l.handlers()...)
	var settings natscontext.Settings
	var nc *nats.Conn
	if l.config.Context != "" {
		nc, settings, err = natscontext.Connect(l.config.Context, opts...)
	} else {
		url := l.config.URL
		if url == "" {
			url = nats.DefaultURL
		}
		nc, err = nats.Connect(url, opts...)
		settings.JSDomain = l.config.Domain
	}
	if err != nil {
		return err
	}
	js, err := newJetStream(nc, settings)
	if err != nil {
		nc.Close()
		return err
	}
	l.mu.Lock()
	l.nc, l.js, l.since = nc, js, time.Now()
	closed := l.closed
	l.mu.Unlock()
	if closed { // Close came in between
		nc.Close()
	}
	l.update()
	return nil
}

func newJetStream(nc *nats.Conn, s natscontext.Settings) (jetstream.JetStream, error) {
	opts := []jetstream.JetStreamOpt{
		jetstream.WithPublishAsyncTimeout(ackTimeout),
		jetstream.WithPublishAsyncMaxPending(2 * window),
		jetstream.WithDefaultTimeout(ackTimeout),
	}
	switch {
	case s.JSDomain != "":
		// As NewWithDomain does it, but jetstreamext would make "$JS.<domain>."
		// of the domain, where nobody listens.
		return jetstream.NewWithAPIPrefix(nc, "$JS."+s.JSDomain+".API", opts...)
	case s.JSAPIPrefix != "":
		return jetstream.NewWithAPIPrefix(nc, s.JSAPIPrefix, opts...)
	}
	return jetstream.New(nc, opts...)
}

func (l *Link) handlers() []nats.Option {
	return []nats.Option{
		nats.ConnectHandler(func(nc *nats.Conn) {
			l.logger.Info("connected to NATS", "server", nc.ConnectedServerName())
			l.begin()
			l.update()
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			l.logger.Info("connected to NATS again", "server", nc.ConnectedServerName())
			l.begin()
			l.update()
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // nil when we close it ourselves
				l.logger.Warn("disconnected from NATS", "error", err)
				l.away(err)
			}
			l.update()
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { l.away(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { l.reported(discreet(err)) }),
		nats.ClosedHandler(func(*nats.Conn) { l.rebuild() }),
	}
}

// rebuild runs when the client has given up for good.
func (l *Link) rebuild() {
	for attempt := 1; ; attempt++ {
		select {
		case <-time.After(betweenAttempts.After(attempt)):
		case <-l.closing:
			return
		}
		l.logger.Warn("NATS connection was closed, building a new one")
		err := l.dial()
		if err == nil {
			return
		}
		l.away(err)
	}
}

// update notes whether NATS is connected, and wakes those who wait for a change.
func (l *Link) update() {
	l.mu.Lock()
	defer l.mu.Unlock()
	connected := l.nc != nil && l.nc.IsConnected()
	l.connected.Store(connected)
	if connected {
		l.cause, l.warned = nil, nil
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// maxCauses bounds the texts that are remembered: a cluster has one cause a server.
const maxCauses = 16

// away notes why NATS is not connected. Each cause is one line in the log, until
// it has been connected.
func (l *Link) away(cause error) {
	if errors.Is(cause, nats.ErrNoServers) { // all of them were tried, and each has its own cause
		return
	}
	cause = withRemedy(discreet(cause))
	l.mu.Lock()
	if l.closed || l.nc != nil && l.nc.IsConnected() {
		l.mu.Unlock()
		return
	}
	l.cause = cause
	// Without digits: a port of this side or the time of day is not another cause.
	text := strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, cause.Error())
	known := l.warned[text] || len(l.warned) >= maxCauses
	if !known {
		if l.warned == nil {
			l.warned = make(map[string]bool)
		}
		l.warned[text] = true
	}
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
	if !known {
		l.logger.Warn("NATS cannot be reached; this is tried again", "error", cause)
	}
}

// watchLogin finds why a connection fails that was made, which reaches none of the
// client's handlers: TLS, a refused login, a server that hangs up.
func (l *Link) watchLogin() {
	tick := time.NewTicker(betweenAttempts.First * 5)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-l.closing:
			return
		}
		l.mu.Lock()
		nc := l.nc
		l.mu.Unlock()
		if nc == nil || nc.IsConnected() {
			continue
		}
		if err := nc.LastError(); err != nil {
			l.away(err)
		}
	}
}

// reported takes an error that the server reports apart from an answer. A missing
// right shows up only here: what was asked for gets no answer.
func (l *Link) reported(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		if l.connected.Load() {
			l.errors.Log(l.logger, slog.LevelError, "NATS reports an error", slog.Any("error", err))
		}
		l.away(err) // a refused login comes here
		return
	}
	text := err.Error()
	l.mu.Lock()
	last := l.violations[text]
	if l.violations == nil || len(l.violations) >= maxCauses {
		l.violations = make(map[string]time.Time)
	}
	l.violations[text] = time.Now()
	l.mu.Unlock()
	if time.Since(last) > repeatLine && !strings.Contains(text, accountInfo) {
		l.logger.Error("NATS reports a missing right", "error", err)
	}
}

// repeatLine is how long a line that would be the same is left out of the log.
const repeatLine = time.Minute

// violation returns the missing right to one of the subjects, or to the answers, when
// the server has reported it since a time. A subject that ends in a dot means those
// that begin like it, but for trial publishes.
func (l *Link) violation(since time.Time, subjects ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, text := range slices.Sorted(maps.Keys(l.violations)) { // the same one each time
		at := l.violations[text]
		_, rest, _ := strings.Cut(text, `"`)
		missing := strings.TrimSuffix(rest, `"`)
		ours := slices.ContainsFunc(subjects, func(subject string) bool {
			rest, begins := strings.CutPrefix(missing, subject)
			return missing == shown(subject) || begins && strings.HasSuffix(subject, ".") && !strings.HasPrefix(rest, trialToken)
		})
		if !at.Before(since) && (ours || strings.Contains(text, "Subscription")) {
			return &missingRight{text}
		}
	}
	return nil
}

// JetStream waits until NATS is connected and returns the way to publish. It
// fails only when ctx ends, with what NATS said last.
func (l *Link) JetStream(ctx context.Context) (jetstream.JetStream, error) {
	for {
		l.mu.Lock()
		js, changed, cause := l.js, l.changed, l.cause
		connected := l.nc != nil && l.nc.IsConnected()
		l.mu.Unlock()
		if connected {
			return js, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), cause)
		}
	}
}

// changes returns a channel that is closed at the next change of state.
func (l *Link) changes() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// begin notes that a connection has begun.
func (l *Link) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since = time.Now()
}

// limitsAge is how long the server's limits are believed. It tells them when a
// client connects, and not when they change.
const limitsAge = time.Minute

// refresh connects again, so that the server tells its limits, and reports
// whether that was needed.
func (l *Link) refresh() bool {
	l.mu.Lock()
	nc, old := l.nc, time.Since(l.since) > limitsAge
	l.mu.Unlock()
	if !old {
		return false
	}
	l.logger.Info("connecting again to learn the server's limits")
	return nc.ForceReconnect() == nil
}

// State reports whether NATS is connected, and why it is not.
func (l *Link) State() (connected bool, cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nc != nil && l.nc.IsConnected(), l.cause
}

// Close ends the connection for good. Nothing is drained: a drain would take
// the inbox away from acknowledgements that are still to come.
func (l *Link) Close() {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.closing)
	}
	nc := l.nc
	l.mu.Unlock()
	if nc != nil { // else dial closes what it makes
		nc.Close()
	}
}
