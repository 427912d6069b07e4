// Package natsconn keeps a connection to NATS alive. The bridge and the commands
// that read the stream use the same one. It never gives up, knows why NATS is
// disconnected and which rights are missing, and logs neither secrets nor ids of calls.
package natsconn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/natscontext"

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/internal/lograte"
)

const (
	// RequestTimeout bounds the wait for one answer of JetStream. The client has
	// no bound of its own for a PubAck.
	RequestTimeout = 3 * time.Second

	pingInterval = 5 * time.Second // a half-open connection is found in 15 s
	maxPings     = 2
	maxAsync     = 1024 // publishes of package jetstream without an acknowledgement

	// dialTimeout is how long Connect waits for the first attempt. A mistake in
	// the configuration shows within it; a server that accepts connections and
	// says nothing must not hold up a start.
	dialTimeout = 500 * time.Millisecond
	// limitsAge is how long the server's limits are believed. It sends them when
	// a client connects, and not when they change.
	limitsAge = time.Minute
	// repeatLog is how long a line that would be the same is left out of the log.
	repeatLog = time.Minute
	// maxCauses bounds the texts that are remembered: a cluster has one cause a
	// server.
	maxCauses = 16
	// accountInfo ends the subject of a request that few logins may make, and
	// that callers can do without.
	accountInfo = ".API.INFO"
)

// BetweenAttempts are the pauses before another connection, or another try on one.
var BetweenAttempts = backoff.Doubling{First: 100 * time.Millisecond, Last: 5 * time.Second}

// Link is one connection to NATS that is made again whenever it is lost. The
// client gives up for good in a few cases (an over-long control line, say); then
// the link builds a new connection.
type Link struct {
	config Config
	logger *slog.Logger
	errors lograte.Limiter

	mu         sync.Mutex
	nc         *nats.Conn
	js         jetstream.JetStream
	lost       chan struct{}        // closed when the present connection is lost; nil without one
	cause      error                // why NATS is disconnected, nil while it is connected
	warned     map[string]bool      // the causes that were logged since it was connected
	violations map[string]time.Time // the rights that were missing, and when last
	changed    chan struct{}        // closed and replaced at each change of state
	since      time.Time            // of the present connection, or the last one
	closed     bool
	closing    chan struct{} // closed by Close
}

// Connect starts connecting to NATS and returns within half a second, also when
// the server cannot be reached. The error is about the configuration: an unreadable
// credentials file, an unknown context. A nil logger means silence.
func Connect(config Config, logger *slog.Logger) (*Link, error) {
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
	case <-time.After(dialTimeout):
		go func() {
			if err := <-dialed; err != nil {
				l.disconnected(err)
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
	defer l.mu.Unlock()
	l.nc, l.js = nc, js
	if l.closed { // Close came in between
		nc.Close()
	}
	l.wake()
	return nil
}

func newJetStream(nc *nats.Conn, s natscontext.Settings) (jetstream.JetStream, error) {
	opts := []jetstream.JetStreamOpt{
		jetstream.WithPublishAsyncTimeout(RequestTimeout),
		jetstream.WithPublishAsyncMaxPending(maxAsync),
		jetstream.WithDefaultTimeout(RequestTimeout),
	}
	switch {
	case s.JSDomain != "":
		// As NewWithDomain does it, but jetstreamext would make "$JS.<domain>."
		// of the domain, where nothing listens.
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
			l.connected()
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			l.logger.Info("connected to NATS again", "server", nc.ConnectedServerName())
			l.connected()
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			l.mu.Lock()
			if l.lost != nil {
				close(l.lost)
				l.lost = nil
			}
			l.wake()
			l.mu.Unlock()
			if err != nil { // nil when we close it ourselves
				l.logger.Warn("disconnected from NATS", "error", err)
				l.disconnected(err)
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { l.disconnected(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { l.reported(redact(err)) }),
		nats.ClosedHandler(func(*nats.Conn) { l.rebuild() }),
	}
}

// connected notes that a connection has begun.
func (l *Link) connected() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since, l.cause, l.warned = time.Now(), nil, nil
	l.lost = make(chan struct{})
	l.wake()
}

// wake reports a change of state. The caller holds mu.
func (l *Link) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// rebuild runs when the client has given up for good.
func (l *Link) rebuild() {
	for attempt := 1; ; attempt++ {
		select {
		case <-time.After(BetweenAttempts.After(attempt)):
		case <-l.closing:
			return
		}
		l.logger.Warn("NATS connection was closed, building a new one")
		err := l.dial()
		if err == nil {
			return
		}
		l.disconnected(err)
	}
}

// disconnected notes why NATS is not connected. Each cause is one line in the log, until
// it has been connected.
func (l *Link) disconnected(cause error) {
	if errors.Is(cause, nats.ErrNoServers) { // all of them were tried, and each has its own cause
		return
	}
	cause = withRemedy(redact(cause), l.config.SettingPrefix)
	// Without digits: a port of this side or the time of day is not another cause.
	text := strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, cause.Error())
	l.mu.Lock()
	if l.closed || l.nc != nil && l.nc.IsConnected() {
		l.mu.Unlock()
		return
	}
	l.cause = cause
	known := l.warned[text] || len(l.warned) >= maxCauses
	if !known {
		if l.warned == nil {
			l.warned = make(map[string]bool)
		}
		l.warned[text] = true
	}
	l.wake()
	l.mu.Unlock()
	if !known {
		l.logger.Warn("NATS cannot be reached; this is tried again", "error", cause)
	}
}

// watchLogin finds why a connection fails that was made, which reaches none of the
// client's handlers: TLS, a refused login, a server that disconnects.
func (l *Link) watchLogin() {
	tick := time.NewTicker(BetweenAttempts.First * 5)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-l.closing:
			return
		}
		nc := l.conn()
		if nc == nil || nc.IsConnected() {
			continue
		}
		if err := nc.LastError(); err != nil {
			l.disconnected(err)
		}
	}
}

// reported takes an error that the server reports apart from an answer. A missing
// right shows up only here: the request itself gets no answer.
func (l *Link) reported(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		if connected, _ := l.State(); connected {
			l.errors.Log(l.logger, slog.LevelError, "NATS reports an error", slog.Any("error", err))
		}
		l.disconnected(err) // a refused login comes here
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
	if time.Since(last) > repeatLog && !strings.Contains(text, accountInfo) {
		l.logger.Error("NATS reports a missing right", "error", err)
	}
}

// Violation returns a missing right that the server has reported since a time: to
// subscribe to answers, or to publish on a redacted subject that match takes.
// Nil means none.
func (l *Link) Violation(since time.Time, match func(subject string) bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, text := range slices.Sorted(maps.Keys(l.violations)) { // the same one each time
		_, rest, _ := strings.Cut(text, `"`)
		if !l.violations[text].Before(since) && (match(strings.TrimSuffix(rest, `"`)) || strings.Contains(text, "Subscription")) {
			return &permissionError{text}
		}
	}
	return nil
}

// JetStream waits until NATS is connected and returns the way to publish. It
// fails only when ctx ends, with a [*DisconnectedError].
func (l *Link) JetStream(ctx context.Context) (jetstream.JetStream, error) {
	for {
		l.mu.Lock()
		js, changed, cause := l.js, l.changed, l.cause
		connected := l.isConnected()
		l.mu.Unlock()
		if connected {
			return js, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, &DisconnectedError{ctx.Err(), cause}
		}
	}
}

// isConnected reports whether NATS is connected and the link knows of it. The
// caller holds mu.
func (l *Link) isConnected() bool {
	return l.js != nil && l.nc.IsConnected() && l.lost != nil
}

// During returns a context that ends with ctx or with the present connection,
// whichever is first. Answers to requests that were sent before are lost then; the
// cause is [nats.ErrDisconnected].
func (l *Link) During(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	l.mu.Lock()
	lost := l.lost
	l.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	if lost == nil {
		cancel(nats.ErrDisconnected)
		return ctx, cancel
	}
	go func() {
		select {
		case <-lost:
			cancel(nats.ErrDisconnected)
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// Refresh connects again, so that the server sends its limits, and reports
// whether that was needed.
func (l *Link) Refresh() bool {
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
	return l.isConnected(), l.cause
}

// conn is the present connection, nil before the first.
func (l *Link) conn() *nats.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nc
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
