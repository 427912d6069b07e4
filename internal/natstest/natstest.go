// Package natstest runs real NATS servers with JetStream for tests: in this
// process, on loopback, with the store in a temporary directory that survives
// a stop.
package natstest

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Server is a NATS server that can be stopped and started again on the same
// port and the same store.
type Server struct {
	t      testing.TB
	opts   server.Options
	server *server.Server
}

// Start starts a server. It is stopped when the test ends. Functions may
// change its options first.
func Start(t testing.TB, change ...func(*server.Options)) *Server {
	t.Helper()
	address := netip.MustParseAddrPort(bridgetest.FreeAddress(t)) // a stopped server's port stays its own
	s := &Server{t: t, opts: server.Options{
		Host: "127.0.0.1", Port: int(address.Port()),
		JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	}}
	for _, f := range change {
		f(&s.opts)
	}
	s.Restart()
	t.Cleanup(s.Stop)
	return s
}

// StartRights starts a server with the configuration in a file, which is that of
// deploy/nats/rights.conf, but with the addresses and the store of a test. The test itself is
// the operator. The password of $BRIDGE_PASSWORD is of-the-bridge_password, and so on.
func StartRights(t testing.TB, file string) *Server {
	t.Helper()
	for _, name := range []string{"OPERATOR_PASSWORD", "BRIDGE_PASSWORD", "HANGUPS_PASSWORD", "VIEWER_PASSWORD", "SERVICE_IVR_PASSWORD"} {
		t.Setenv(name, "of-the-"+strings.ToLower(name))
	}
	configured, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return Start(t, func(o *server.Options) {
		configured.Host, configured.Port, configured.StoreDir = o.Host, o.Port, o.StoreDir
		configured.HTTPHost, configured.HTTPPort = "", 0
		configured.NoSigs, configured.NoLog = true, true
		configured.NoAuthUser = "operator"
		*o = *configured
	})
}

// Restart stops the server when it runs and starts it again.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	opts := s.opts // the server keeps and changes what it gets
	srv, err := server.NewServer(&opts)
	if err != nil {
		s.t.Fatal(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(20 * time.Second) {
		srv.Shutdown()
		s.t.Fatal("nats-server does not start")
	}
	s.server = srv
}

// Stop stops the server. Its store stays.
func (s *Server) Stop() {
	if s.server == nil {
		return
	}
	s.server.Shutdown()
	s.server.WaitForShutdown()
	s.server = nil
}

// EnableJetStream starts the JetStream of a running server that has none.
func (s *Server) EnableJetStream() {
	s.t.Helper()
	if err := s.server.EnableJetStream(&server.JetStreamConfig{StoreDir: s.opts.StoreDir}); err != nil {
		s.t.Fatal(err)
	}
}

// Wipe removes the store of a stopped server, as a lost disk would.
func (s *Server) Wipe() { s.opts.StoreDir = s.t.TempDir() }

// Restrict changes the options that the next Restart uses.
func (s *Server) Restrict(change func(*server.Options)) { change(&s.opts) }

// URL returns where clients connect, also while the server is stopped.
func (s *Server) URL() string {
	return "nats://" + net.JoinHostPort(s.opts.Host, strconv.Itoa(s.opts.Port))
}

// JetStream returns a client's view of the running server.
func (s *Server) JetStream() jetstream.JetStream {
	s.t.Helper()
	return JetStream(s.t, s.URL())
}

// JetStream returns a client's view of the server at a URL, until the test ends.
func JetStream(t testing.TB, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// CreateStream makes a stream.
func CreateStream(t testing.TB, js jetstream.JetStream, config jetstream.StreamConfig) {
	t.Helper()
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
}

// Messages returns everything that a stream holds, from the first to the last
// message.
func (s *Server) Messages(stream string) []*jetstream.RawStreamMsg {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	str, err := s.JetStream().Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		s.t.Fatal(err)
	}
	state := str.CachedInfo().State
	var list []*jetstream.RawStreamMsg
	for seq := max(state.FirstSeq, 1); seq <= state.LastSeq; seq++ {
		msg, err := str.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			s.t.Fatal(err)
		}
		for _, name := range []string{jetstream.StreamHeader, jetstream.SequenceHeader, jetstream.SubjectHeader, jetstream.TimeStampHeaer} {
			msg.Header.Del(name) // of the direct get, not of the message
		}
		list = append(list, msg)
	}
	return list
}

// Await returns the messages of a stream once there are n, or fails.
func (s *Server) Await(stream string, n int) []*jetstream.RawStreamMsg {
	s.t.Helper()
	Until(s.t, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		str, err := s.JetStream().Stream(ctx, stream)
		return err == nil && str.CachedInfo().State.Msgs >= uint64(n)
	})
	return s.Messages(stream)
}

// Until waits for a condition that other processes or goroutines bring about.
func Until(t testing.TB, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the condition did not come true within 30 s")
		}
	}
}

// LimitAccount enables JetStream with limits for an account of a running server, or changes
// the limits.
func (s *Server) LimitAccount(name string, limits server.JetStreamAccountLimits) {
	s.t.Helper()
	account, err := s.server.LookupAccount(name)
	if err == nil && account.JetStreamEnabled() {
		err = account.UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{"": limits})
	} else if err == nil {
		err = account.EnableJetStream(map[string]server.JetStreamAccountLimits{"": limits}, nil)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}
