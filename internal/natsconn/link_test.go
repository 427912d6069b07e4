package natsconn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"github.com/synadia-io/orbit.go/natscontext"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
)

// connect returns a link that is connected.
func connect(t *testing.T, config Config, logger *slog.Logger) *Link {
	t.Helper()
	l, err := Connect(config, logger)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := l.JetStream(ctx); err != nil {
		t.Fatal(err)
	}
	return l
}

// What a stream is asked must not cost the answers of a reading twice.
func TestLink_batchComesOnce(t *testing.T) {
	l := connect(t, Config{URL: natstest.Start(t).URL()}, nil)
	js, err := l.JetStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	config := jetstream.StreamConfig{Name: "ACS", Subjects: []string{"acs.>"}, AllowDirect: true}
	natstest.CreateStream(t, js, config)
	const stored = 100
	for range stored {
		if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "acs.contoso.CallConnected.c.a"}); err != nil {
			t.Fatal(err)
		}
	}
	before := l.nc.Stats().InMsgs
	batch, err := jetstreamext.GetBatch(t.Context(), js, "ACS", stored)
	if err != nil {
		t.Fatal(err)
	}
	read := uint64(0)
	for _, err := range batch {
		if err != nil {
			t.Fatal(err)
		}
		read++
	}
	if came := l.nc.Stats().InMsgs - before; read != stored || came != stored+1 { // and the end of the batch
		t.Errorf("%d messages came and %d were read, want %d", came, read, stored)
	}
}

// A client that buffers would send later what was answered with an error.
func TestLink_publishWithoutConnection(t *testing.T) {
	s := natstest.Start(t)
	l := connect(t, Config{URL: s.URL()}, nil)
	js := l.js
	s.Stop()
	natstest.Until(t, func() bool { connected, _ := l.State(); return !connected })
	if _, err := js.PublishAsync("acs.a", nil); !errors.Is(err, nats.ErrReconnectBufExceeded) {
		t.Errorf("got %v, want %v", err, nats.ErrReconnectBufExceeded)
	}
}

// Nothing that the client does by default may make it give up, or wait longer
// than a callback can.
func TestConfig_optionsNeverGiveUp(t *testing.T) {
	l := connect(t, Config{URL: natstest.Start(t).URL()}, nil)
	o := l.nc.Opts
	if o.MaxReconnect >= 0 || !o.IgnoreAuthErrorAbort || !o.RetryOnFailedConnect {
		t.Errorf("it gives up: %d reconnects, ignore auth errors %v, retry %v", o.MaxReconnect, o.IgnoreAuthErrorAbort, o.RetryOnFailedConnect)
	}
	if found := o.PingInterval * time.Duration(o.MaxPingsOut+1); found > 15*time.Second {
		t.Errorf("a half-open connection is found after %s", found)
	}
	if o.FlusherTimeout > 3*time.Second {
		t.Errorf("a server that does not read holds callers for %s", o.FlusherTimeout)
	}
	for attempt := range 100 {
		if d := o.CustomReconnectDelayCB(attempt); d < BetweenAttempts.First/2 || d > BetweenAttempts.Last {
			t.Errorf("pause before attempt %d: %s", attempt, d)
		}
	}
}

// Without a right there is an error for each natsconn.
func TestLink_errorsDoNotFloodTheLog(t *testing.T) {
	var log bridgetest.Log
	l := connect(t, Config{URL: natstest.Start(t).URL()}, log.Logger())
	begin := time.Now()
	for range 1000 {
		l.nc.Opts.AsyncErrorCB(l.nc, nil, nats.ErrPermissionViolation)
		l.nc.Opts.AsyncErrorCB(l.nc, nil, nats.ErrSlowConsumer)
	}
	most := 1 + int(time.Since(begin)/time.Second)
	for _, line := range []string{"NATS reports a missing right", "NATS reports an error"} {
		if n := log.Count(line); n == 0 || n > most {
			t.Errorf("%q: %d lines for 1000 errors, want 1 to %d", line, n, most)
		}
	}
}

// The server closes the connection on a subject above its limit of 4 KiB, and
// the client does not connect again.
func TestLink_closedConnection(t *testing.T) {
	s := natstest.Start(t)
	var log bridgetest.Log
	l := connect(t, Config{URL: s.URL()}, log.Logger())
	first := l.nc
	if err := first.Publish(strings.Repeat("x", 5000), nil); err != nil {
		t.Fatal(err)
	}
	natstest.Until(t, first.IsClosed)
	natstest.Until(t, func() bool { connected, problem := l.State(); return connected && problem == nil })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	js, err := l.JetStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.AccountInfo(ctx); err != nil {
		t.Errorf("the new connection does not work: %v", err)
	}
	if n := log.Count("building a new one"); n != 1 {
		t.Errorf("%d new connections", n)
	}
	l.Close()
	natstest.Until(t, l.nc.IsClosed)
	if connected, _ := l.State(); connected {
		t.Error("connected after Close")
	}
}

func TestConnect_absentSeed(t *testing.T) {
	if _, err := Connect(Config{NKey: filepath.Join(t.TempDir(), "absent")}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// The rights of a shared server hang on the inbox prefix.
func TestConfig_domainAndInboxPrefix(t *testing.T) {
	s := natstest.Start(t, func(o *server.Options) {
		o.JetStreamDomain = "hub"
		o.Users = []*server.User{{Username: "bridge", Password: "p", Permissions: &server.Permissions{
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_bridge.>"}},
		}}}
	})
	config := Config{URL: s.URL(), User: "bridge", Password: "p", Domain: "hub", InboxPrefix: "_INBOX_bridge"}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := connect(t, config, nil).js.AccountInfo(ctx); err != nil {
		t.Error(err)
	}
	config.Domain = "elsewhere"
	if _, err := connect(t, config, nil).js.AccountInfo(ctx); err == nil {
		t.Error("another domain than the configured one was asked")
	}
}

// The batched direct get finds the prefix of the API in other ways than the
// client itself.
func TestLink_batchInADomain(t *testing.T) {
	s := natstest.Start(t, func(o *server.Options) { o.JetStreamDomain = "hub" })
	own := s.JetStream()
	natstest.CreateStream(t, own, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, AllowDirect: true})
	if _, err := own.Publish(t.Context(), "s", nil); err != nil {
		t.Fatal(err)
	}
	for _, settings := range []natscontext.Settings{{}, {JSDomain: "hub"}, {JSAPIPrefix: "$JS.hub.API"}} {
		js, err := newJetStream(own.Conn(), settings)
		if err != nil {
			t.Fatal(err)
		}
		batch, err := jetstreamext.GetBatch(t.Context(), js, "S", 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range batch {
			if err != nil {
				t.Errorf("domain %q, prefix %q: %v", settings.JSDomain, settings.JSAPIPrefix, err)
			}
		}
	}
}

// Wrong credentials may be put right on the server.
func TestLink_refusedLoginIsTriedAgain(t *testing.T) {
	s := natstest.Start(t, func(o *server.Options) { o.Username, o.Password = "u", "p" })
	var log bridgetest.Log
	l := connect(t, Config{URL: s.URL(), User: "u", Password: "p"}, log.Logger())
	s.Restrict(func(o *server.Options) { o.Password = "other" })
	s.Restart()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for refused := 0; refused < 3 && ctx.Err() == nil; {
		select {
		case <-changes(l):
		case <-ctx.Done():
		}
		if _, problem := l.State(); errors.Is(problem, nats.ErrAuthorization) {
			refused++
		}
	}
	if ctx.Err() != nil {
		_, problem := l.State()
		t.Fatalf("not refused three times: %v", problem)
	}
	s.Restrict(func(o *server.Options) { o.Password = "p" })
	s.Restart()
	natstest.Until(t, func() bool { connected, problem := l.State(); return connected && problem == nil })
	if n := log.Count("building a new one"); n != 0 {
		t.Error("the client gave up")
	}
}

// changes returns the channel that is closed at the next change of state.
func changes(l *Link) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// Servers that accept connections and say nothing must not hold up a start.
func TestConnect_silentServers(t *testing.T) {
	var urls []string
	for range 5 { // the client gives each of them two seconds
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		urls = append(urls, "nats://"+l.Addr().String())
	}
	server := natstest.Start(t)
	begin := time.Now()
	l, err := Connect(Config{URL: strings.Join(urls, ",")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("Connect took %s", took)
	}
	if connected, _ := l.State(); connected {
		t.Error("connected to no server")
	}
	l.Close()

	// And it goes on where it was: the last one of the list does answer.
	connect(t, Config{URL: urls[0] + "," + server.URL()}, nil)
}

// The server sends its limits when a client connects: a record is above them
// only by what a new connection says.
func TestLink_Refresh(t *testing.T) {
	s := natstest.Start(t, func(o *server.Options) { o.MaxPayload = 4 << 10 })
	var log bridgetest.Log
	l := connect(t, Config{URL: s.URL()}, log.Logger())
	if l.Refresh() {
		t.Error("limits that are new were asked for again")
	}
	l.mu.Lock()
	l.since = time.Now().Add(-limitsAge - time.Second)
	l.mu.Unlock()
	if !l.Refresh() {
		t.Error("limits that are old were not asked for again")
	}
	natstest.Until(t, func() bool { return log.Count("connected to NATS again") == 1 })
	natstest.Until(t, func() bool { connected, _ := l.State(); return connected })
	if l.Refresh() {
		t.Error("a new connection was made anew")
	}
}

// A right that was missing an hour ago says nothing about an answer that is missing
// now, and one right nothing about another.
func TestLink_Violation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Link{logger: slog.New(slog.DiscardHandler)}
		below := func(prefix string) func(string) bool {
			return func(subject string) bool { return strings.HasPrefix(subject, prefix) }
		}
		before := time.Now()
		time.Sleep(time.Second)
		l.reported(redact(fmt.Errorf("%w: Permissions Violation for Publish to \"acs.contoso.CallConnected.2.x\"", nats.ErrPermissionViolation)))
		time.Sleep(time.Second)
		if err := l.Violation(before, below("acs.")); !errors.Is(err, nats.ErrPermissionViolation) || strings.Contains(err.Error(), ".x") {
			t.Errorf("got %v", err)
		}
		if err := l.Violation(time.Now(), below("acs.")); err != nil {
			t.Errorf("an old one: %v", err)
		}
		if err := l.Violation(before, below("acs-quarantine.")); err != nil {
			t.Errorf("another subject: %v", err)
		}
		for _, resource := range []string{"d", "b", "e"} {
			l.reported(redact(fmt.Errorf("%w: Permissions Violation for Publish to \"acs.%s.CallConnected.x\"", nats.ErrPermissionViolation, resource)))
		}
		for range 20 { // a note that changes each time would be logged each time
			if err := l.Violation(before, below("acs.")); err == nil || !strings.Contains(err.Error(), "acs.b.") {
				t.Fatalf("of several: %v", err)
			}
		}
	})
}

// Why a connection fails is said again when it changes, also when it fails after it was
// made, which reaches no handler of the client.
func TestLink_causeChanges(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	var log bridgetest.Log
	link, err := Connect(Config{URL: "nats://" + free.Addr().String()}, log.Logger())
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	natstest.Until(t, func() bool { return log.Has("NATS cannot be reached", "connection refused") })
	files := certificates(t)
	natstest.Start(t, func(o *server.Options) {
		o.JetStream = false
		o.Port = free.Addr().(*net.TCPAddr).Port
		files.require(o)
	})
	natstest.Until(t, func() bool { return log.Has("level=WARN", "NATS cannot be reached", "name it with --nats-ca") })
	if _, cause := link.State(); cause == nil || !strings.Contains(cause.Error(), "--nats-ca") {
		t.Errorf("State says %v", cause)
	}
}

// Why the first connection fails is said, once, and again when it changes.
func TestLink_firstConnection(t *testing.T) {
	files := certificates(t)
	expired := certificatesUntil(t, time.Now().Add(-time.Minute))
	plain := natstest.Start(t, func(o *server.Options) { o.JetStream = false })
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	for name, c := range map[string]struct {
		server func(*server.Options)
		login  Config
		says   string
	}{
		"refused":           {login: Config{URL: "nats://127.0.0.1:1"}, says: "connection refused; is NATS running there? --nats-url"},
		"unknown name":      {login: Config{URL: "nats://nats.invalid:4222"}, says: "the name of the server in --nats-url cannot be looked up"},
		"login":             {server: func(o *server.Options) { o.Authorization = "secret" }, says: "Authorization Violation; check the login"},
		"unknown authority": {server: files.require, says: "signed by an authority that is not known here: name it with --nats-ca"},
		"no client certificate": {server: files.require, login: Config{CA: files.ca},
			says: "it may want a certificate (--nats-cert, --nats-key)"},
		"TLS of a plain server": {login: Config{URL: strings.Replace(plain.URL(), "nats://", "tls://", 1)}, says: "the server does not speak TLS there"},
		"expired certificate":   {server: expired.require, login: Config{CA: expired.ca}, says: "renew its certificate, or check the clock of this host"},
		"nothing answers":       {login: Config{URL: "nats://" + silent.Addr().String()}, says: "the server does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.server != nil {
				server := natstest.Start(t, func(o *server.Options) {
					o.JetStream = false
					c.server(o)
				})
				c.login.URL = server.URL()
			}
			var log bridgetest.Log
			link, err := Connect(c.login, log.Logger())
			if err != nil {
				t.Fatal(err)
			}
			defer link.Close()
			until := time.Now().Add(10 * time.Second)
			natstest.Until(t, func() bool {
				return log.Has("level=WARN", "NATS cannot be reached", c.says) || time.Now().After(until)
			})
			_, cause := link.State()
			if cause == nil || !strings.Contains(cause.Error(), c.says) {
				t.Errorf("State says %v", cause)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, _ = link.JetStream(ctx) // further attempts say nothing new
			if n := log.Count("NATS cannot be reached"); n > 2 {
				t.Errorf("%d lines:\n%s", n, log.String())
			}
		})
	}
}
