package ingest

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/net/netutil"
)

// clientShare is the part of all connections that one client may hold. Without
// it, a stranger needs no more than idle connections to keep all others out.
const clientShare = 4

// Bound returns l with at most [Config.MaxConnections] connections open at a
// time, which are counted. More of them wait in the system's queue until one is
// closed, which a connection without a good token is within a minute. One client
// has a quarter of them: what it opens beyond that is closed at once. Loopback,
// private addresses and trusted proxies stand for many clients and have no such
// bound.
func (h *Handler) Bound(l net.Listener) net.Listener {
	return &countingListener{netutil.LimitListener(l, h.config.MaxConnections), h}
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
		return &countedConn{Conn: conn, closed: sync.OnceFunc(func() { h.connections.close(client, counted) })}, nil
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

type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}
