package ingest

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
)

// clientShare is the part of all connections that one client may hold. Without
// it, a stranger needs no more than idle connections to keep all others out.
const clientShare = 4

// Bounds of what is read, and thrown away, after an answer that was given before
// the body was read: see [countedConn.Close] and [callback.discard].
const (
	lingerBytes  = 512 << 10 // a body that is 413, and what is under way beside it
	lingerFor    = 2 * time.Second
	maxLingering = 64 // connections and streams at a time
)

// longAgo as read deadline means that nothing is read from a connection again.
var longAgo = time.Unix(1, 0)

// Bound returns l with at most [Config.MaxConnections] connections open at a
// time, which are counted. More of them wait in the system's queue until one is
// closed, which a connection without a good token is within a minute. One client
// has a quarter of them: what it opens beyond that is closed at once. Loopback,
// private addresses and trusted proxies stand for many clients and have no such
// bound.
func (h *Handler) Bound(l net.Listener) net.Listener {
	return netutil.LimitListener(&countingListener{l, h}, h.config.MaxConnections)
}

// countingListener knows how many of its connections are open.
type countingListener struct {
	net.Listener
	handler *Handler
}

func (l *countingListener) Accept() (net.Conn, error) {
	h := l.handler
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) { // no file descriptors, most often
				h.accepts.Log(h.config.Logger, slog.LevelError, "connection not accepted", slog.Any("error", err))
			}
			return nil, err
		}
		client, counted := h.sources.peer(conn.RemoteAddr())
		if !h.connections.open(client, counted, max(1, h.config.MaxConnections/clientShare)) {
			h.metrics.surplus.Inc()
			h.refused.add(refusalKind{routeOther, reasonSurplus}, 0, "connections were closed, since one client held a quarter of --max-connections", nil)
			h.config.Logger.Debug("connection closed, its client holds a quarter of all", "client", addressText(client))
			_ = conn.Close() // nothing was said on it
			continue
		}
		return &countedConn{Conn: conn, lingering: h.lingering, closed: sync.OnceFunc(func() { h.connections.close(client, counted) })}, nil
	}
}

// peer returns what stands for the client of a connection, and whether it may be
// told from others.
func (s *sources) peer(address net.Addr) (client netip.Addr, counted bool) {
	peer := parseAddress(address.String())
	if within(s.proxies, peer) {
		return netip.Addr{}, false
	}
	return bucketOf(peer)
}

// connections counts those that are open, and each client's.
type connections struct {
	all atomic.Int64

	mu      sync.Mutex
	clients map[netip.Addr]int // of those that have any
}

// open counts a connection, unless its client has its share already.
func (c *connections) open(client netip.Addr, counted bool, share int) bool {
	if counted {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.clients[client] >= share {
			return false
		}
		if c.clients == nil {
			c.clients = make(map[netip.Addr]int)
		}
		c.clients[client]++
	}
	c.all.Add(1)
	return true
}

func (c *connections) close(client netip.Addr, counted bool) {
	c.all.Add(-1)
	if !counted {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.clients[client]--; c.clients[client] == 0 {
		delete(c.clients, client)
	}
}

// What a connection did last.
const (
	hasRead int32 = iota
	isReading
	hasWritten
	isClosing
)

// countedConn counts an open connection and, when it is closed after an answer,
// sees to it that the answer arrives.
type countedConn struct {
	net.Conn
	lingering lingering
	closed    func()
	last      atomic.Int32
	cut       atomic.Bool // no more is read for the server
}

func (c *countedConn) Read(p []byte) (int, error) {
	if c.cut.Load() {
		return 0, os.ErrDeadlineExceeded // and the answer remains what was done last
	}
	c.last.Store(isReading)
	n, err := c.Conn.Read(p)
	c.last.Store(hasRead)
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	c.last.CompareAndSwap(hasRead, hasWritten)
	return c.Conn.Write(p)
}

func (c *countedConn) SetReadDeadline(t time.Time) error {
	c.cut.Store(t.Equal(longAgo))
	return c.Conn.SetReadDeadline(t)
}

// Close closes the connection. After an answer to a request that was not read to
// its end, it first lets the peer read the answer: the system resets a connection
// that is closed with bytes unread, and a reset overtakes the answer (RFC 9112,
// section 9.6). net/http reads on only where the request did not ask to close.
//
// Once it has read a request to its end, net/http reads on while the handler runs,
// to notice a peer that goes, and so the last thing done is a read: such a
// connection, and an idle one, is closed at once.
func (c *countedConn) Close() error {
	if c.last.CompareAndSwap(hasWritten, isClosing) {
		c.linger()
	}
	c.closed()
	return c.Conn.Close()
}

// linger ends the sending and throws away what still comes, unparsed.
func (c *countedConn) linger() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // a peer that has gone is found out by reading
	}
	c.lingering.discard(c.Conn, c.Conn.SetReadDeadline)
}

// lingering has room for those that throw away what their peers still send.
type lingering chan struct{}

// discard throws away what comes from r. It takes [lingerFor] at most, the wait for
// room included.
func (l lingering) discard(r io.Reader, setReadDeadline func(time.Time) error) {
	end := time.Now().Add(lingerFor)
	select {
	case l <- struct{}{}:
		defer func() { <-l }()
	case <-time.After(lingerFor):
		return
	}
	if setReadDeadline(end) == nil {
		_, _ = io.CopyN(io.Discard, r, lingerBytes)
	}
}
