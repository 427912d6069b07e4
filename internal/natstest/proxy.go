package natstest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/internal/backoff"
)

const (
	// chunkSize and chunkQueue bound what a proxy keeps of one direction of a
	// connection; beyond that its writer blocks, as with a full TCP window.
	chunkSize  = 32 << 10
	chunkQueue = 64
)

// Conditions are those of one direction of a [Proxy]. The zero value lets
// everything pass.
type Conditions struct {
	Latency time.Duration
	Jitter  time.Duration // added to Latency, evenly from zero up to this
	Rate    int           // bytes a second; zero means no limit
	// Held keeps everything until it is lifted, like a partition: nothing is lost,
	// since TCP would send it again.
	Held bool
	// Lost discards everything.
	Lost bool
	// Old is replaced by New where it comes in one piece.
	Old, New string
}

// Proxy is a TCP proxy between a client and a server, for the faults of a network.
type Proxy struct {
	listener net.Listener

	mu                 sync.Mutex
	target             string
	toServer, toClient Conditions
	resetAfter         int // bytes from the server until a reset; zero is never
	changed            chan struct{}
	conns              map[net.Conn]bool
}

// NewProxy listens on loopback until the test ends, and connects its clients to
// target (host:port). An empty target is a server that does not listen.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: listener, target: target, changed: make(chan struct{}), conns: make(map[net.Conn]bool)}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(ctx, client) })
		}
	})
	t.Cleanup(func() {
		cancel()
		listener.Close()
		p.Reset()
		serving.Wait()
	})
	return p
}

// Addr returns where clients connect, and URL the same for a client of NATS.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

func (p *Proxy) URL() string { return "nats://" + p.Addr() }

// set changes the proxy, and wakes everything that waits for a change.
func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Target returns the server of new connections, and SetTarget changes it.
func (p *Proxy) Target() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.target
}

func (p *Proxy) SetTarget(target string) { p.set(func() { p.target = target }) }

// Shape sets the conditions of both directions.
func (p *Proxy) Shape(toServer, toClient Conditions) {
	p.set(func() { p.toServer, p.toClient = toServer, toClient })
}

// Clear lets everything pass again.
func (p *Proxy) Clear() {
	p.set(func() { p.toServer, p.toClient, p.resetAfter = Conditions{}, Conditions{}, 0 })
}

// LoseAnswers discards what the server sends from now on, or stops doing so. What
// clients send still arrives.
func (p *Proxy) LoseAnswers(on bool) { p.Shape(Conditions{}, Conditions{Lost: on}) }

// Cut closes every connection.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		conn.Close()
	}
}

// Reset ends every connection with a TCP reset.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		abort(conn)
	}
}

// ResetAfter resets the connection that carries the nth byte from the server from
// now on, after that byte: most likely in the middle of a message.
func (p *Proxy) ResetAfter(n int) { p.set(func() { p.resetAfter = n }) }

// abort closes a connection so that its peer sees a reset.
func abort(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

// serve carries one connection. A client that connects while its direction is held
// waits for the server without an answer.
func (p *Proxy) serve(ctx context.Context, client net.Conn) {
	defer abort(client)
	if p.Target() == "" {
		return
	}
	defer p.keep(client)()
	if !p.wait(ctx, func() bool { return !p.toServer.Held }) {
		return
	}
	target := p.Target()
	if target == "" {
		return
	}
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer abort(server)
	defer p.keep(server)()

	ctx, cancel := context.WithCancel(ctx)
	var directions sync.WaitGroup
	carry := func(from, to net.Conn, answers bool) {
		directions.Go(func() {
			defer cancel()
			if err := p.carry(ctx, from, to, answers); !errors.Is(err, io.EOF) {
				abort(from)
				abort(to)
			}
			from.Close()
			to.Close()
		})
	}
	carry(client, server, false)
	carry(server, client, true)
	directions.Wait()
}

// keep adds an open connection, and returns the function that removes it.
func (p *Proxy) keep(conn net.Conn) (remove func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[conn] = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, conn)
	}
}

// wait returns true once ok holds, which is called with the lock after each change,
// and false when ctx ended first.
func (p *Proxy) wait(ctx context.Context, ok func() bool) bool {
	for {
		p.mu.Lock()
		done, changed := ok(), p.changed
		p.mu.Unlock()
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

// carry passes bytes on under the conditions of its direction. It returns io.EOF
// when from has ended.
func (p *Proxy) carry(ctx context.Context, from io.Reader, to io.Writer, answers bool) error {
	type chunk struct {
		data []byte
		due  time.Time
	}
	chunks := make(chan chunk, chunkQueue)
	var end error
	go func() {
		defer close(chunks)
		buffer := make([]byte, chunkSize)
		for {
			n, err := from.Read(buffer)
			if n > 0 {
				data := bytes.Clone(buffer[:n])
				p.mu.Lock()
				c := p.direction(answers)
				p.mu.Unlock()
				if c.Jitter > 0 {
					c.Latency += rand.N(c.Jitter)
				}
				if c.Old != "" {
					data = bytes.ReplaceAll(data, []byte(c.Old), []byte(c.New))
				}
				select {
				case chunks <- chunk{data, time.Now().Add(c.Latency)}:
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
		if wait := time.Until(c.due); wait > 0 && wait <= 2*time.Millisecond {
			sleep(wait)
		} else if err := backoff.Wait(ctx, wait); err != nil {
			return err
		}
		if err := p.pass(ctx, c.data, to, answers); err != nil {
			return err
		}
	}
	return end
}

// direction returns the conditions of a direction. The caller has the lock.
func (p *Proxy) direction(answers bool) Conditions {
	if answers {
		return p.toClient
	}
	return p.toServer
}

var errReset = errors.New("reset after so many bytes")

// pass writes data as fast as the direction allows.
func (p *Proxy) pass(ctx context.Context, data []byte, to io.Writer, answers bool) error {
	for len(data) > 0 {
		var c Conditions
		if !p.wait(ctx, func() bool { c = p.direction(answers); return !c.Held }) {
			return ctx.Err()
		}
		piece := data
		if c.Rate > 0 { // in steps of 20 ms or a byte
			piece = data[:min(len(data), max(c.Rate/50, 1))]
			if err := backoff.Wait(ctx, time.Duration(len(piece))*time.Second/time.Duration(c.Rate)); err != nil {
				return err
			}
		}
		p.mu.Lock()
		reset := answers && p.resetAfter > 0 && len(piece) >= p.resetAfter
		if reset {
			piece, p.resetAfter = piece[:p.resetAfter], 0
		} else if answers && p.resetAfter > 0 {
			p.resetAfter -= len(piece)
		}
		p.mu.Unlock()
		if !c.Lost {
			if _, err := to.Write(piece); err != nil {
				return err
			}
		}
		if reset {
			return errReset
		}
		data = data[len(piece):]
	}
	return nil
}
