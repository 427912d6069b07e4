package edge

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"github.com/acsbridge/acsbridge/internal/lograte"
)

const (
	// perClientLimit is the part of all connections that one client may hold, one in
	// so many. Without it, a client can lock all others out with idle connections.
	perClientLimit = 4

	// Bounds of [Connections.Discard].
	discardBytes  = 512 << 10 // a body that is 413, and what is on its way beside it
	discardFor    = 2 * time.Second
	maxDiscarding = 64 // connections and streams at a time
)

// longAgo as read deadline means that nothing is read from a connection again.
var longAgo = time.Unix(1, 0)

// StopReading ends the reading of a request's body.
func StopReading(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(longAgo) // fails without a connection, in a test
}

// Connections limits and counts the open connections.
type Connections struct {
	limit       int
	addresses   *Addresses
	logger      *slog.Logger
	rejected    func()
	acceptFails lograte.Limiter
	discarding  chan struct{} // semaphore
	open        atomic.Int64

	mu      sync.Mutex
	clients map[netip.Addr]int // open connections of each client that has any
}

// NewConnections returns a limit of so many connections. rejected is called for each
// connection that is closed because its client holds a quarter of them.
func NewConnections(limit int, addresses *Addresses, logger *slog.Logger, rejected func()) *Connections {
	return &Connections{
		limit: limit, addresses: addresses, logger: logger, rejected: rejected,
		discarding: make(chan struct{}, maxDiscarding), clients: make(map[netip.Addr]int),
	}
}

// LimitListener returns l with at most so many connections open at a time. More of them
// wait in the system's queue until one is closed, which a connection without a good
// token is within a minute. One client has a quarter of them: what it opens beyond that
// is closed at once. Loopback, private addresses and trusted proxies stand for many
// clients and have no such limit.
func (c *Connections) LimitListener(l net.Listener) net.Listener {
	return netutil.LimitListener(&listener{l, c}, c.limit)
}

// Open returns how many connections are open.
func (c *Connections) Open() int64 { return c.open.Load() }

type listener struct {
	net.Listener
	connections *Connections
}

func (l *listener) Accept() (net.Conn, error) {
	c := l.connections
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) { // no file descriptors, most often
				c.acceptFails.Log(c.logger, slog.LevelError, "connection not accepted", slog.Any("error", err))
			}
			return nil, err
		}
		peer := ParseAddr(accepted.RemoteAddr().String())
		client, limited := LimitKey(peer)
		limited = limited && !within(c.addresses.TrustedProxies, peer)
		if limited && !c.acquire(client) {
			c.rejected()
			c.logger.Debug("connection closed, its client holds a quarter of all", "client", client)
			_ = accepted.Close()
			continue
		}
		c.open.Add(1)
		return &conn{Conn: accepted, connections: c, closed: sync.OnceFunc(func() {
			c.open.Add(-1)
			if limited {
				c.release(client)
			}
		})}, nil
	}
}

// acquire counts a connection of a client, unless it has its quarter already.
func (c *Connections) acquire(client netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.clients[client] >= max(1, c.limit/perClientLimit) {
		return false
	}
	c.clients[client]++
	return true
}

func (c *Connections) release(client netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.clients[client]--; c.clients[client] == 0 {
		delete(c.clients, client)
	}
}

// Discard reads and drops what comes from r after an answer that was given before the
// body was read. It takes two seconds at most, the wait for one of its 64 places
// included, and reads 512 KiB.
func (c *Connections) Discard(r io.Reader, setReadDeadline func(time.Time) error) {
	end := time.Now().Add(discardFor)
	select {
	case c.discarding <- struct{}{}:
		defer func() { <-c.discarding }()
	case <-time.After(discardFor):
		return
	}
	if setReadDeadline(end) == nil {
		_, _ = io.CopyN(io.Discard, r, discardBytes)
	}
}

// What a connection did last.
const (
	hasRead int32 = iota
	isReading
	hasWritten
	isClosing
)

// conn is a counted connection. When it is closed after an answer, it makes sure that
// the answer arrives.
type conn struct {
	net.Conn
	connections *Connections
	closed      func()
	last        atomic.Int32
	stopped     atomic.Bool // no more is read for the server
}

func (c *conn) Read(p []byte) (int, error) {
	if c.stopped.Load() {
		return 0, os.ErrDeadlineExceeded // and the answer remains what was done last
	}
	c.last.Store(isReading)
	n, err := c.Conn.Read(p)
	c.last.Store(hasRead)
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	c.last.CompareAndSwap(hasRead, hasWritten)
	return c.Conn.Write(p)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.stopped.Store(t.Equal(longAgo))
	return c.Conn.SetReadDeadline(t)
}

// Close closes the connection. After an answer to a request that was not read to its
// end, it first lets the peer read the answer: the system resets a connection that is
// closed with bytes unread, and a reset overtakes the answer (RFC 9112, section 9.6).
// net/http reads on only where the request did not ask to close.
//
// Once it has read a request to its end, net/http reads on while the handler runs, to
// notice a peer that goes, and so the last thing done is a read: such a connection, and
// an idle one, is closed at once.
func (c *conn) Close() error {
	if c.last.CompareAndSwap(hasWritten, isClosing) {
		if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite() // reading finds out that a peer has gone
		}
		c.connections.Discard(c.Conn, c.Conn.SetReadDeadline)
	}
	c.closed()
	return c.Conn.Close()
}

// Timeouts and sizes of a connection. A callback is small and comes from a data
// centre, so that a good sender needs none of them.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	idleTimeout       = 60 * time.Second
	maxHeaderBytes    = 16 << 10 // a token has at most 8 KiB

	// WriteTimeout bounds the time from a request's header to the end of its answer. It
	// is longer than reading the body and storing its events may take.
	WriteTimeout = 15 * time.Second

	// maxStreams of one HTTP/2 connection is the least that RFC 9113, section
	// 6.5.2 recommends. A proxy that needs more opens another connection.
	maxStreams           = 100
	maxReadFrame         = 16 << 10
	maxReceiveConnection = 1 << 20
	maxReceiveStream     = 64 << 10
	pingAfter            = 15 * time.Second
	pingTimeout          = 5 * time.Second
	writeByteTimeout     = 10 * time.Second
)

// NewServer returns a server for HTTP/1.1 and HTTP/2, with every wait and size
// bounded. tlsConfig is nil for plain HTTP behind a proxy; there a client speaks
// HTTP/2 by prior knowledge (RFC 9113, section 3.3), and an "Upgrade: h2c" has no
// effect. http2Error is called for each HTTP/2 connection or stream that ends
// because of the client.
func NewServer(h http.Handler, tlsConfig *tls.Config, logger *slog.Logger, http2Error func()) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true) // over TLS
	protocols.SetUnencryptedHTTP2(tlsConfig == nil)
	return &http.Server{
		Handler:           h,
		TLSConfig:         tlsConfig,
		Protocols:         &protocols,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      WriteTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReadFrameSize:              maxReadFrame,
			MaxReceiveBufferPerConnection: maxReceiveConnection,
			MaxReceiveBufferPerStream:     maxReceiveStream,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTimeout,
			WriteByteTimeout:              writeByteTimeout,
			CountError:                    func(string) { http2Error() },
		},
		ErrorLog: slog.NewLogLogger(lograte.Handler(logger.Handler()), slog.LevelDebug),
		// net/http would answer "OPTIONS *" with 200; the handler refuses it.
		DisableGeneralOptionsHandler: true,
	}
}
