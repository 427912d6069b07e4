package edge

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// queue is a listener with the connections of a test. A nil one is a failure.
type queue struct{ conns chan net.Conn }

func (q *queue) Accept() (net.Conn, error) {
	conn, more := <-q.conns
	switch {
	case !more:
		return nil, net.ErrClosed
	case conn == nil:
		return nil, errors.New("too many open files")
	}
	return conn, nil
}

func (q *queue) Close() error   { return nil }
func (q *queue) Addr() net.Addr { return &net.TCPAddr{} }

// fakeConn is a connection of a client. It records that it is closed.
type fakeConn struct {
	net.Conn
	client string
	closed bool
}

func (c *fakeConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.client))
}

func (c *fakeConn) Close() error {
	c.closed = true
	return nil
}

func TestConnections_limitOneClient(t *testing.T) {
	for name, test := range map[string]struct {
		client, other string
		limited       bool
	}{
		"IPv4":            {"203.0.113.5:1", "203.0.113.6:1", true},
		"an IPv6 network": {"[2001:db8::5]:1", "[2001:db8:0:1::5]:1", true},
		"loopback":        {"127.0.0.1:1", "203.0.113.6:1", false},
		"private":         {"10.1.2.3:1", "203.0.113.6:1", false},
		"a trusted proxy": {"198.51.100.7:1", "203.0.113.6:1", false},
	} {
		t.Run(name, func(t *testing.T) {
			rejected := 0
			addresses := &Addresses{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}
			c := NewConnections(8, addresses, slog.New(slog.DiscardHandler), func() { rejected++ })
			arriving := &queue{make(chan net.Conn, 8)}
			l := c.LimitListener(arriving)
			var conns []*fakeConn
			var served []net.Conn
			accept := func(want string) {
				t.Helper()
				conn, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				if got := conn.RemoteAddr().String(); got != want {
					t.Fatalf("accepted %s, want %s", got, want)
				}
				served = append(served, conn)
			}
			for range 3 {
				conn := &fakeConn{client: test.client}
				conns = append(conns, conn)
				arriving.conns <- conn
			}
			arriving.conns <- &fakeConn{client: test.other}
			accept(test.client)
			accept(test.client)
			if !test.limited {
				accept(test.client)
			}
			accept(test.other)
			if conns[2].closed != test.limited || (rejected == 1) != test.limited || c.Open() != int64(len(served)) {
				t.Errorf("the third connection: closed %v, %d rejected, %d open", conns[2].closed, rejected, c.Open())
			}
			if err := served[0].Close(); err != nil {
				t.Fatal(err)
			}
			arriving.conns <- &fakeConn{client: test.client}
			accept(test.client) // there is room for it again
		})
	}
}

func TestConnections_logFailedAccepts(t *testing.T) {
	var log bytes.Buffer
	arriving := &queue{make(chan net.Conn, 8)}
	l := NewConnections(8, &Addresses{}, slog.New(slog.NewTextHandler(&log, nil)), nil).LimitListener(arriving)
	for range 3 {
		arriving.conns <- nil
		if _, err := l.Accept(); err == nil {
			t.Error("no error")
		}
	}
	close(arriving.conns) // the bridge stops
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `level=ERROR msg="connection not accepted" error="too many open files"`) {
		t.Errorf("the log has %s", got)
	}
}

// answered returns the server's end of a connection on which an answer was written,
// and the peer's.
func answered(t *testing.T, c *Connections, closed func()) (*conn, net.Conn) {
	t.Helper()
	server, peer := net.Pipe()
	conn := &conn{Conn: server, connections: c, closed: closed}
	go func() { _, _ = io.ReadFull(peer, make([]byte, 1)) }()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	return conn, peer
}

func TestConnections_discardWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewConnections(8, &Addresses{}, nil, nil)

		// A peer that does not stop sending.
		conn, peer := answered(t, c, func() {})
		sent := make(chan int64, 1)
		go func() {
			n, _ := io.Copy(peer, endless{})
			sent <- n
		}()
		start := time.Now()
		_ = conn.Close()
		if n := <-sent; n < discardBytes || n > discardBytes+64<<10 || time.Since(start) != 0 {
			t.Errorf("%d bytes were read in %s", n, time.Since(start))
		}

		// Peers that send nothing, and one more than may be waited for.
		var closed atomic.Int32
		var slow []net.Conn
		for range maxDiscarding + 1 {
			conn, peer := answered(t, c, func() { closed.Add(1) })
			defer peer.Close()
			slow = append(slow, conn)
			go conn.Close()
		}
		synctest.Wait()
		time.Sleep(discardFor - time.Millisecond)
		synctest.Wait()
		if n := closed.Load(); n != 0 || len(c.discarding) != maxDiscarding {
			t.Errorf("%d were closed early, %d are read from, want 0 and %d", n, len(c.discarding), maxDiscarding)
		}
		// A server that ends does not wait for them.
		if err := slow[0].Close(); err != nil || closed.Load() == 0 { // the first Close may end as well
			t.Error("the second close:", err, closed.Load())
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if n := closed.Load(); n < maxDiscarding+1 || len(c.discarding) != 0 {
			t.Errorf("%d were closed in time, %d are still read from", n, len(c.discarding))
		}

		// A peer that has gone.
		conn, peer = answered(t, c, func() {})
		synctest.Wait()
		peer.Close()
		start = time.Now()
		if _ = conn.Close(); time.Since(start) != 0 {
			t.Errorf("closed after %s", time.Since(start))
		}
	})
}

// TestConn_closesAtOnce closes connections when the last thing done was not an answer,
// or when the server still reads.
func TestConn_closesAtOnce(t *testing.T) {
	for name, prepare := range map[string]func(c *conn, peer net.Conn){
		"nothing was sent": func(*conn, net.Conn) {},
		"idle for too long": func(c *conn, peer net.Conn) {
			_, _ = c.Write([]byte("x"))
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		},
		"waiting for a request": func(c *conn, peer net.Conn) {
			go func() { _, _ = c.Read(make([]byte, 1)) }()
			synctest.Wait()
			_, _ = c.Write([]byte("x"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, peer := net.Pipe()
				defer peer.Close()
				go func() { _, _ = io.ReadFull(peer, make([]byte, 1)) }()
				c := &conn{Conn: server, connections: NewConnections(8, &Addresses{}, nil, nil), closed: func() {}}
				prepare(c, peer)
				start := time.Now()
				if err := c.Close(); err != nil || time.Since(start) != 0 {
					t.Errorf("closed after %s: %v", time.Since(start), err)
				}
			})
		})
	}
}

// endless is what a peer sends that never stops.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestServer_hasBounds(t *testing.T) {
	newServer := func(tlsConfig *tls.Config) *http.Server {
		return NewServer(http.NotFoundHandler(), tlsConfig, slog.New(slog.DiscardHandler), nil)
	}
	s := newServer(nil)
	for name, d := range map[string]time.Duration{
		"read header": s.ReadHeaderTimeout, "read": s.ReadTimeout, "write": s.WriteTimeout, "idle": s.IdleTimeout,
		"ping": s.HTTP2.PingTimeout, "send ping": s.HTTP2.SendPingTimeout, "write byte": s.HTTP2.WriteByteTimeout,
	} {
		if d <= 0 || d > time.Minute {
			t.Errorf("%s: %s", name, d)
		}
	}
	if s.ReadHeaderTimeout > 5*time.Second || s.MaxHeaderBytes != 16<<10 {
		t.Errorf("got %+v", s)
	}
	if h2 := s.HTTP2; h2.MaxConcurrentStreams != 100 || h2.MaxReadFrameSize != 16<<10 ||
		h2.MaxReceiveBufferPerConnection != 1<<20 || h2.MaxReceiveBufferPerStream != 64<<10 {
		t.Errorf("HTTP/2: got %+v", h2)
	}
	if !s.Protocols.HTTP1() || !s.Protocols.HTTP2() || !s.Protocols.UnencryptedHTTP2() {
		t.Errorf("protocols: %v", s.Protocols)
	}
	if p := newServer(&tls.Config{}).Protocols; !p.HTTP1() || !p.HTTP2() || p.UnencryptedHTTP2() {
		t.Errorf("protocols with a certificate: %v", p)
	}
}

func TestServer_reportsErrorsOfHTTP(t *testing.T) {
	var log bytes.Buffer
	http2Errors := 0
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	server := NewServer(http.NotFoundHandler(), nil, logger, func() { http2Errors++ })
	for range 3 {
		server.ErrorLog.Print("http: TLS handshake error")
		server.HTTP2.CountError("conn_close_preface")
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `level=DEBUG msg="http: TLS handshake error"`) || http2Errors != 3 {
		t.Errorf("%d errors of HTTP/2; the log has %s", http2Errors, got)
	}
}
