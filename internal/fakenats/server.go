package fakenats

import (
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Request is a message that a client publishes to a stream or to the JetStream
// API.
type Request struct {
	Client  string // that sent it
	Subject string
	MsgID   string // of a publish
}

// Fate is the outcome of a request. The zero value is that of a healthy server.
type Fate struct {
	// Wait is the time from the request's arrival until it is acted on. Later
	// requests may overtake it.
	Wait time.Duration
	// Lost requests are neither acted on nor answered.
	Lost bool
	// Refusal is answered, instead of acting or, with Stored, after it. Without
	// an error code it means "no responders".
	Refusal *jetstream.APIError
	Stored  bool
	// Behind is how far the replica is behind that answers a direct get.
	Behind time.Duration
	// Delay is the time from the act to the answer.
	Delay time.Duration
	// Silent requests are acted on, and the answer is lost.
	Silent bool
}

// Options of a [Server].
type Options struct {
	// Fate decides about each request. Nil means that all goes well. It is
	// called with the server locked.
	Fate func(Request) Fate
	// Trace gets what happens to requests, in a few words. Nil means silence. It is called with the server locked.
	Trace func(r Request, what string)
	// MaxBatch bounds the messages that answer one batched direct get, as a
	// nats-server bounds their bytes. Zero means no bound.
	MaxBatch int
}

// Server is the model. Its methods may be called from any goroutine of the
// bubble that it was made in.
type Server struct {
	opts Options

	mu      sync.Mutex
	streams []*stream
	conns   []*conn
	refuses bool
	stalled bool
	backlog []func() // what arrived while stalled
	forget  time.Duration
	unknown []string
	dialed  int
}

// New returns a server that is up.
func New(opts Options) *Server {
	if opts.Fate == nil {
		opts.Fate = func(Request) Fate { return Fate{} }
	}
	if opts.Trace == nil {
		opts.Trace = func(Request, string) {}
	}
	return &Server{opts: opts}
}

// Client connects to the server: a nats.InProcessConnProvider.
type Client struct {
	server  *Server
	name    string
	severed bool
}

// Client returns a way to connect to the server.
func (s *Server) Client(name string) *Client { return &Client{server: s, name: name} }

var errRefused = errors.New("fakenats: connection refused")

// InProcessConn connects.
func (c *Client) InProcessConn() (net.Conn, error) {
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuses || s.stalled || c.severed {
		return nil, errRefused
	}
	theirs, ours := net.Pipe()
	s.dialed++
	k := newConn(s, c, ours)
	s.conns = append(s.conns, k)
	k.start()
	return theirs, nil
}

// Sever takes a client off the network for good. Late says whether the server
// still acts on what it has received from it.
func (c *Client) Sever(late bool) {
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	c.severed = true
	for _, k := range slices.Clone(s.conns) {
		if k.client == c {
			k.drop = !late
			k.close()
		}
	}
}

// Break breaks every connection, each after some more bytes in either
// direction. Late says whether the server still acts on what it received.
func (s *Server) Break(late bool, in, out int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range slices.Clone(s.conns) {
		k.drop = !late
		k.inLeft, k.outLeft = in, out
		if in == 0 || out == 0 {
			k.close()
		}
	}
}

// Refuse makes the server refuse connections, or no longer. Those that exist
// stay.
func (s *Server) Refuse(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuses = on
}

// Stall stops the server like SIGSTOP: it takes bytes and does nothing.
func (s *Server) Stall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalled = true
}

// Resume ends a stall like SIGCONT: the server acts on all that arrived, in
// order. Without keep it has been killed instead, and that is lost.
func (s *Server) Resume(keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalled = false
	backlog := s.backlog
	s.backlog = nil
	if !keep {
		for _, k := range slices.Clone(s.conns) {
			k.close()
		}
		return
	}
	for _, act := range backlog {
		act()
	}
}

// ForgetAfter makes every stream forget message ids after d, whatever window
// it is configured with. Zero restores that.
func (s *Server) ForgetAfter(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget = d
}

// Lose takes from every stream what it stored in the last d, as a power cut
// takes it from a server that acknowledges before it syncs.
func (s *Server) Lose(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.streams {
		for n := len(st.messages); n > 0 && time.Since(st.messages[n-1].Time) < d; n-- {
			lost := st.messages[n-1]
			st.messages = st.messages[:n-1]
			delete(st.ids, lost.Header.Get(jetstream.MsgIDHeader))
			s.opts.Trace(Request{MsgID: lost.Header.Get(jetstream.MsgIDHeader)}, "lost in a power cut")
		}
	}
}

// Messages returns what a stream holds, in its order.
func (s *Server) Messages(stream string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.named(stream)
	if st == nil {
		return nil
	}
	return slices.Clone(st.messages)
}

// Unknown returns the subjects of requests that the model does not know.
func (s *Server) Unknown() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.unknown)
}

// Close breaks every connection and refuses new ones.
func (s *Server) Close() {
	s.Refuse(true)
	s.Break(false, 0, 0)
}

// later runs act with the server locked after d, at once when d is zero. While
// the server is stalled nothing is run.
func (s *Server) later(d time.Duration, act func()) {
	run := func() {
		if s.stalled {
			s.backlog = append(s.backlog, act)
			return
		}
		act()
	}
	if d <= 0 {
		run()
		return
	}
	time.AfterFunc(d, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		run()
	})
}
