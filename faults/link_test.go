package faults_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

const (
	// chunkSize and chunkQueue bound what a link holds back in one direction
	// of a connection; beyond that the sender feels it, as in a full window.
	chunkSize  = 32 << 10
	chunkQueue = 64
)

// conditions of one direction of a link. The zero value lets everything pass.
type conditions struct {
	latency time.Duration
	jitter  time.Duration // added to latency, evenly from zero up to this
	rate    int           // bytes a second; zero is no limit
	// held keeps everything back until it is lifted: a partition. Nothing is
	// lost, as TCP would send it again.
	held bool
}

// delay returns how long a chunk takes.
func (c conditions) delay() time.Duration {
	if c.jitter == 0 {
		return c.latency
	}
	return c.latency + rand.N(c.jitter)
}

// link is a TCP proxy on the way from a client to a server. The target can be
// changed when the server comes back on another port; while there is none,
// connections are closed at once, as if nobody listened.
type link struct {
	listener net.Listener

	mu          sync.Mutex
	target      string
	there, back conditions // from the client, from the server
	cutAfter    int        // bytes from the server until a reset; zero is never
	changed     chan struct{}
	conns       map[net.Conn]bool
}

// newLink listens on loopback and forwards until the test ends.
func newLink(t testing.TB) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{listener: listener, changed: make(chan struct{}), conns: make(map[net.Conn]bool)}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { l.serve(ctx, client) })
		}
	})
	t.Cleanup(func() {
		cancel()
		listener.Close()
		l.reset()
		serving.Wait()
	})
	return l
}

// addr is where clients connect.
func (l *link) addr() string { return l.listener.Addr().String() }

// set changes the link, and wakes whatever is held back.
func (l *link) set(change func(*link)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
	close(l.changed)
	l.changed = make(chan struct{})
}

// lead makes the link lead to a server, or to nobody when address is empty.
func (l *link) lead(address string) { l.set(func(l *link) { l.target = address }) }

// shape sets the conditions of both directions.
func (l *link) shape(there, back conditions) {
	l.set(func(l *link) { l.there, l.back = there, back })
}

// heal lets everything pass again.
func (l *link) heal() {
	l.set(func(l *link) { l.there, l.back, l.cutAfter = conditions{}, conditions{}, 0 })
}

// reset ends every connection with a TCP reset.
func (l *link) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn := range l.conns {
		abort(conn)
	}
}

// resetAfter ends the connection that carries the nth byte from the server
// from now on, after that byte: in the middle of a message, as likely as not.
func (l *link) resetAfter(n int) { l.set(func(l *link) { l.cutAfter = n }) }

// abort closes a connection so that its peer sees a reset.
func abort(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // the close below is what counts
	}
	conn.Close()
}

// serve carries one connection. A client that comes while its direction is
// held waits for the server without an answer.
func (l *link) serve(ctx context.Context, client net.Conn) {
	defer abort(client)
	if !l.keep(client) {
		return
	}
	defer l.forget(client)
	if !l.wait(ctx, func() bool { return !l.there.held }) {
		return
	}
	l.mu.Lock()
	target := l.target
	l.mu.Unlock()
	if target == "" {
		return
	}
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer abort(server)
	l.keep(server)
	defer l.forget(server)
	l.join(ctx, client, server)
}

// join carries bytes in both directions until one of the ends is gone.
func (l *link) join(ctx context.Context, client, server net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	var directions sync.WaitGroup
	end := func(from, to net.Conn, back bool) func() {
		return func() {
			defer cancel()
			err := l.carry(ctx, from, to, back)
			if errors.Is(err, io.EOF) { // an orderly end; anything else is a reset
				from.Close()
				to.Close()
				return
			}
			abort(from)
			abort(to)
		}
	}
	directions.Go(end(client, server, false))
	directions.Go(end(server, client, true))
	directions.Wait()
}

// keep notes an open connection, unless the link is for nobody.
func (l *link) keep(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.target == "" {
		return false
	}
	l.conns[conn] = true
	return true
}

func (l *link) forget(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, conn)
}

// wait returns true once ok holds, which is asked under the lock after each
// change, and false when ctx ended first.
func (l *link) wait(ctx context.Context, ok func() bool) bool {
	for {
		l.mu.Lock()
		done, changed := ok(), l.changed
		l.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// chunk is what was read at once, and when it may be passed on.
type chunk struct {
	data []byte
	due  time.Time
}

// carry passes bytes on under the conditions of its direction. It returns
// io.EOF when the sender was done.
func (l *link) carry(ctx context.Context, from io.Reader, to io.Writer, back bool) error {
	chunks := make(chan chunk, chunkQueue)
	var end error
	go func() {
		defer close(chunks)
		for {
			data := make([]byte, chunkSize)
			n, err := from.Read(data)
			if n > 0 {
				select {
				case chunks <- chunk{data[:n], time.Now().Add(l.now(back).delay())}:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				end = err
				return
			}
		}
	}()
	for c := range chunks {
		if !sleep(ctx, time.Until(c.due)) {
			return ctx.Err()
		}
		if err := l.pass(ctx, c.data, to, back); err != nil {
			return err
		}
	}
	return end
}

func (l *link) now(back bool) conditions {
	l.mu.Lock()
	defer l.mu.Unlock()
	if back {
		return l.back
	}
	return l.there
}

// pass writes data as fast as the direction allows.
func (l *link) pass(ctx context.Context, data []byte, to io.Writer, back bool) error {
	for len(data) > 0 {
		var now conditions
		held := func() bool {
			now = l.there
			if back {
				now = l.back
			}
			return !now.held
		}
		if !l.wait(ctx, held) {
			return ctx.Err()
		}
		piece := data
		if now.rate > 0 { // in steps of 20 ms or a byte
			piece = data[:min(len(data), max(now.rate/50, 1))]
			if !sleep(ctx, time.Duration(len(piece))*time.Second/time.Duration(now.rate)) {
				return ctx.Err()
			}
		}
		piece, last := l.cut(piece, back)
		if _, err := to.Write(piece); err != nil {
			return err
		}
		if last {
			return errCut
		}
		data = data[len(piece):]
	}
	return nil
}

var errCut = errors.New("the connection was to be cut here")

// cut counts down to a reset and returns what may still pass.
func (l *link) cut(piece []byte, back bool) (rest []byte, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !back || l.cutAfter == 0 {
		return piece, false
	}
	if len(piece) < l.cutAfter {
		l.cutAfter -= len(piece)
		return piece, false
	}
	piece = piece[:l.cutAfter]
	l.cutAfter = 0
	return piece, true
}

// sleep waits and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
