package ingest

import (
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/net/netutil"
)

// Bound returns l with at most [Config.MaxConnections] connections open at a
// time, which are counted. More of them wait in the system's queue until one is
// closed, which a connection without a good token is within seconds.
func (h *Handler) Bound(l net.Listener) net.Listener {
	return &countingListener{netutil.LimitListener(l, h.config.MaxConnections), &h.connections}
}

// countingListener knows how many of its connections are open.
type countingListener struct {
	net.Listener
	open *atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.open.Add(1)
	return &countedConn{Conn: c, closed: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
}

type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}
