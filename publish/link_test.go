package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"github.com/synadia-io/orbit.go/natscontext"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// logged collects log lines.
type logged struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(b)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.lines.String(), text)
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// connect returns a link that is connected.
func connect(t *testing.T, config NATS, logger *slog.Logger) *Link {
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
func TestEachMessageOfABatchComesOnce(t *testing.T) {
	l := connect(t, NATS{URL: natstest.Start(t).URL()}, nil)
	js, err := l.JetStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	config := jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{schemas.SubjectPrefix + ".>"}, AllowDirect: true}
	if _, err := js.CreateStream(t.Context(), config); err != nil { // a request
		t.Fatal(err)
	}
	const stored = 100
	for range stored {
		if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: schemas.SubjectPrefix + ".contoso.CallConnected.c.a"}); err != nil {
			t.Fatal(err)
		}
	}
	before := l.nc.Stats().InMsgs
	batch, err := jetstreamext.GetBatch(t.Context(), js, schemas.Stream, stored)
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
		t.Errorf("%d messages came of which %d were read, want %d", came, read, stored)
	}
}

// A client that buffers would send later what was answered with an error.
func TestAPublishWithoutAConnectionFailsAtOnce(t *testing.T) {
	s := natstest.Start(t)
	l := connect(t, NATS{URL: s.URL()}, nil)
	js := l.js
	s.Stop()
	natstest.Until(t, func() bool { connected, _ := l.State(); return !connected })
	if _, err := js.PublishAsync("acs.a", nil); !errors.Is(err, nats.ErrReconnectBufExceeded) {
		t.Errorf("got %v, want %v", err, nats.ErrReconnectBufExceeded)
	}
}

// Nothing that the client does by default may make it give up, or wait longer
// than a callback can.
func TestTheClientIsToldNeverToGiveUp(t *testing.T) {
	l := connect(t, NATS{URL: natstest.Start(t).URL()}, nil)
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
		if d := o.CustomReconnectDelayCB(attempt); d < betweenAttempts.First/2 || d > betweenAttempts.Last {
			t.Errorf("pause before attempt %d: %s", attempt, d)
		}
	}
}

// Without a right there is an error for each publish.
func TestErrorsOfNATSDoNotFloodTheLog(t *testing.T) {
	var log logged
	l := connect(t, NATS{URL: natstest.Start(t).URL()}, log.logger())
	begin := time.Now()
	for range 1000 {
		l.nc.Opts.AsyncErrorCB(l.nc, nil, nats.ErrPermissionViolation)
	}
	most := 1 + int(time.Since(begin)/time.Second)
	if n := log.count("NATS reports a missing right"); n == 0 || n > most {
		t.Errorf("%d lines for 1000 errors, want 1 to %d", n, most)
	}
}

// The server closes the connection on a subject above its limit of 4 KiB, and
// the client does not connect again.
func TestAConnectionThatTheClientGaveUpIsBuiltAnew(t *testing.T) {
	s := natstest.Start(t)
	var log logged
	l := connect(t, NATS{URL: s.URL()}, log.logger())
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
	if n := log.count("building a new one"); n != 1 {
		t.Errorf("%d new connections", n)
	}
	l.Close()
	natstest.Until(t, l.nc.IsClosed)
	if connected, _ := l.State(); connected {
		t.Error("connected after Close")
	}
}

func TestEachWayToLogIn(t *testing.T) {
	dir := t.TempDir()
	seed := filepath.Join(dir, "seed")
	// Made for this test, with the public key below.
	if err := os.WriteFile(seed, []byte("SUAOGHQJJDIISZWFPVHLK2P4ZOHUJYRF63C5WAZERM4MDYF6S2ABFW3LGY"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		server func(*server.Options)
		config NATS
	}{
		{"user", func(o *server.Options) { o.Username, o.Password = "u", "p" }, NATS{User: "u", Password: "p"}},
		{"token", func(o *server.Options) { o.Authorization = "t" }, NATS{Token: "t"}},
		{"nkey", func(o *server.Options) {
			o.Nkeys = []*server.NkeyUser{{Nkey: "UCRZXD6RIZOCOJ3UUZ6H57Z7T4RE3O43NLB7NPZM3H3Q6CSPJKKDNY6H"}}
		}, NATS{NKey: seed}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.config.URL = natstest.Start(t, c.server).URL()
			connect(t, c.config, nil)
		})
	}
	if _, err := Connect(NATS{NKey: filepath.Join(dir, "absent")}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an absent seed: got %v", err)
	}
}

// The rights of a shared server hang on the inbox prefix.
func TestDomainAndInboxPrefixAreUsed(t *testing.T) {
	s := natstest.Start(t, func(o *server.Options) {
		o.JetStreamDomain = "hub"
		o.Users = []*server.User{{Username: "bridge", Password: "p", Permissions: &server.Permissions{
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_bridge.>"}},
		}}}
	})
	config := NATS{URL: s.URL(), User: "bridge", Password: "p", Domain: "hub", InboxPrefix: "_INBOX_bridge"}
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
func TestTheTailIsReadInADomain(t *testing.T) {
	s := natstest.Start(t, func(o *server.Options) { o.JetStreamDomain = "hub" })
	nc := s.JetStream().Conn()
	for _, settings := range []natscontext.Settings{{}, {JSDomain: "hub"}, {JSAPIPrefix: "$JS.hub.API"}} {
		js, err := newJetStream(nc, settings)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ensure(t.Context(), js, StreamConfig{}.withDefaults().events(), "acs", false); err != nil {
			t.Fatal(err)
		}
		c := newRecall(js, "a")
		old := &record{receivedAt: time.Now().Add(-time.Hour), stream: schemas.Stream}
		if _, err := c.knows(t.Context(), 1, old, time.Hour); err != nil {
			t.Errorf("domain %q, prefix %q: %v", settings.JSDomain, settings.JSAPIPrefix, err)
		}
	}
}

// Wrong credentials may be put right on the server.
func TestALoginThatIsRefusedIsTriedAgain(t *testing.T) {
	s := natstest.Start(t, func(o *server.Options) { o.Username, o.Password = "u", "p" })
	var log logged
	l := connect(t, NATS{URL: s.URL(), User: "u", Password: "p"}, log.logger())
	s.Restrict(func(o *server.Options) { o.Password = "other" })
	s.Restart()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for refused := 0; refused < 3 && ctx.Err() == nil; {
		select {
		case <-l.changes():
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
	if n := log.count("building a new one"); n != 0 {
		t.Error("the client gave up")
	}
}

// Servers that accept connections and say nothing must not hold up a start.
func TestSilentServersHoldUpNoStart(t *testing.T) {
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
	l, err := Connect(NATS{URL: strings.Join(urls, ",")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("Connect took %s", took)
	}
	if connected, _ := l.State(); connected {
		t.Error("connected to nobody")
	}
	l.Close()

	// And it goes on where it was: the last one of the list does answer.
	connect(t, NATS{URL: urls[0] + "," + server.URL()}, nil)
}

// The server tells its limits when a client connects: a record is above them
// only by what a new connection says.
func TestARaisedLimitIsNoticed(t *testing.T) {
	s := natstest.Start(t, func(o *server.Options) { o.MaxPayload = 4 << 10 })
	var log logged
	l := connect(t, NATS{URL: s.URL()}, log.logger())
	if l.refresh() {
		t.Error("limits that are new were asked for again")
	}
	l.mu.Lock()
	l.since = time.Now().Add(-limitsAge - time.Second)
	l.mu.Unlock()
	if !l.refresh() {
		t.Error("limits that are old were not asked for again")
	}
	natstest.Until(t, func() bool { return log.count("connected to NATS again") == 1 })
	natstest.Until(t, func() bool { connected, _ := l.State(); return connected })
	if l.refresh() {
		t.Error("a new connection was made anew")
	}
}

// A right that was missing an hour ago says nothing about an answer that stays away
// now, and one right nothing about another.
func TestLink_violation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Link{logger: slog.New(slog.DiscardHandler)}
		before := time.Now()
		time.Sleep(time.Second)
		l.reported(discreet(fmt.Errorf("%w: Permissions Violation for Publish to \"acs.contoso.CallConnected.2.x\"", nats.ErrPermissionViolation)))
		time.Sleep(time.Second)
		if err := l.violation(before, "acs."); !errors.Is(err, nats.ErrPermissionViolation) || strings.Contains(err.Error(), ".x") {
			t.Errorf("got %v", err)
		}
		if err := l.violation(time.Now(), "acs."); err != nil {
			t.Errorf("an old one: %v", err)
		}
		if err := l.violation(before, "acs-quarantine."); err != nil {
			t.Errorf("another subject: %v", err)
		}
		for _, resource := range []string{"d", "b", "e"} {
			l.reported(discreet(fmt.Errorf("%w: Permissions Violation for Publish to \"acs.%s.CallConnected.x\"", nats.ErrPermissionViolation, resource)))
		}
		for range 20 { // a note that changes each time would be logged each time
			if err := l.violation(before, "acs."); err == nil || !strings.Contains(err.Error(), "acs.b.") {
				t.Fatalf("of several: %v", err)
			}
		}
	})
}
