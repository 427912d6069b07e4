package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/natscontext"

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/internal/quiet"
)

// NATS says how to reach the server. The zero value connects to
// nats://127.0.0.1:4222 without credentials.
type NATS struct {
	// URL is one server or several, separated by commas. Context names a
	// context of the nats command line instead; "" together with UseContext
	// means the selected one.
	URL     string
	Context string

	// One way to log in, or none.
	Creds          string // credentials file
	NKey           string // file with an nkey seed
	User, Password string
	Token          string

	CA, Cert, Key string // PEM files for TLS

	Domain      string // JetStream domain
	InboxPrefix string // private inbox prefix; see docs/deployment.md

	// InProcess connects to a server in this process instead of URL.
	InProcess nats.InProcessConnProvider
}

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
	errors quiet.Line // without a right there is one for each publish

	mu      sync.Mutex
	nc      *nats.Conn
	js      jetstream.JetStream
	problem error         // the last error that NATS reported, nil after a connect
	told    time.Time     // when it reported that
	changed chan struct{} // closed and replaced at each change of state
	since   time.Time     // of the present connection, or the last one
	closed  bool
	closing chan struct{} // closed by Close

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
	dialed := make(chan error, 1)
	go func() { dialed <- l.dial() }()
	select {
	case err := <-dialed:
		if err != nil {
			return nil, fmt.Errorf("connect to NATS: %w", err)
		}
	case <-time.After(dialPatience):
		go func() {
			if err := <-dialed; err != nil {
				l.announce(err)
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
	l.announce(nil)
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

// options turns the configuration into client options. Each of the fixed ones
// closes a way to lose an event or to stop for good.
func (c *NATS) options() ([]nats.Option, error) {
	opts := []nats.Option{
		nats.Name("acsbridge"),
		// A publish during an outage fails at once. With a buffer it would
		// report a timeout and be sent on reconnect all the same.
		nats.ReconnectBufSize(-1),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(func(attempt int) time.Duration { return betweenAttempts.After(attempt) }),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(maxPings),
		// A server that stops reading would hold every caller for a minute.
		nats.FlusherTimeout(ackTimeout),
		// Otherwise the first request subscribes to the answers of all, and
		// those to a batched direct get, which natsext.RequestMany subscribes to
		// itself, come twice: the whole stream, when it is read.
		nats.UseOldRequestStyle(),
	}
	if c.InProcess != nil {
		return append(opts, nats.InProcessServer(c.InProcess)), nil
	}
	switch {
	case c.Creds != "":
		opts = append(opts, nats.UserCredentials(c.Creds))
	case c.NKey != "":
		nkey, err := nkeyOption(c.NKey)
		if err != nil {
			return nil, fmt.Errorf("read nkey seed: %w", err)
		}
		opts = append(opts, nkey)
	case c.User != "":
		opts = append(opts, nats.UserInfo(c.User, c.Password))
	case c.Token != "":
		opts = append(opts, nats.Token(c.Token))
	}
	if c.CA != "" || c.Cert != "" {
		opts = append(opts, tlsOption(c.CA, c.Cert, c.Key))
	}
	if c.InboxPrefix != "" {
		opts = append(opts, nats.CustomInboxPrefix(c.InboxPrefix))
	}
	return opts, nil
}

func (l *Link) handlers() []nats.Option {
	return []nats.Option{
		nats.ConnectHandler(func(nc *nats.Conn) {
			l.logger.Info("connected to NATS", "server", nc.ConnectedServerName())
			l.begin()
			l.announce(nil)
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			l.logger.Info("connected to NATS again", "server", nc.ConnectedServerName())
			l.begin()
			l.announce(nil)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // nil when we close it ourselves
				l.logger.Warn("disconnected from NATS", "error", err)
			}
			l.announce(err)
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { l.announce(err) }),
		// Missing rights show up only here: the publish itself times out.
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			err = discreet(err)
			l.errors.Log(l.logger, slog.LevelError, "NATS reports an error", slog.Any("error", err))
			l.announce(err)
		}),
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
		l.announce(err)
	}
}

// announce records what NATS last said and wakes those who wait for a change.
func (l *Link) announce(problem error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.problem, l.told = problem, time.Now()
	l.connected.Store(l.nc != nil && l.nc.IsConnected())
	close(l.changed)
	l.changed = make(chan struct{})
}

// JetStream waits until NATS is connected and returns the way to publish. It
// fails only when ctx ends, with what NATS said last.
func (l *Link) JetStream(ctx context.Context) (jetstream.JetStream, error) {
	for {
		l.mu.Lock()
		js, changed, problem := l.js, l.changed, l.problem
		connected := l.nc != nil && l.nc.IsConnected()
		l.mu.Unlock()
		if connected {
			return js, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), problem)
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

// problemLasts is how long what NATS said counts while it is connected: a right
// that is missing is missed again at the next attempt.
const problemLasts = time.Minute

// State reports whether NATS is connected, and what it said last when not all
// is well.
func (l *Link) State() (connected bool, problem error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nc == nil {
		return false, l.problem
	}
	if connected = l.nc.IsConnected(); !connected && l.problem == nil {
		// Some failures of a login reach no handler: a server that asks for an
		// nkey, say, and a client that has none.
		return false, discreet(l.nc.LastError())
	}
	if connected && time.Since(l.told) > problemLasts {
		return true, nil
	}
	return connected, l.problem
}

// problemSince returns what NATS said last, when that was after a time.
func (l *Link) problemSince(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.told.Before(t) {
		return nil
	}
	return l.problem
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
