package natstest

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// echo returns a proxy to a server that sends back what it receives.
func echo(t *testing.T) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
	return NewProxy(t, listener.Addr().String())
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// reply writes a text and returns what comes back within the time.
func reply(t *testing.T, conn net.Conn, text string, within time.Duration) (string, error) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	n, err := io.ReadFull(conn, got)
	return string(got[:n]), err
}

// TestProxy_held: nothing passes until it is cleared, also on a new connection.
func TestProxy_held(t *testing.T) {
	for name, c := range map[string][2]Conditions{
		"to the server": {{Held: true}, {}},
		"to the client": {{}, {Held: true}},
		"both":          {{Held: true}, {Held: true}},
	} {
		t.Run(name, func(t *testing.T) {
			p := echo(t)
			open := dial(t, p)
			if got, err := reply(t, open, "first", 5*time.Second); got != "first" {
				t.Fatalf("got %q, %v", got, err)
			}
			p.Shape(c[0], c[1])
			late := dial(t, p)
			for _, conn := range []net.Conn{open, late} {
				if got, err := reply(t, conn, "held", 50*time.Millisecond); got != "" || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("got %q, %v while held", got, err)
				}
			}
			p.Clear()
			for _, conn := range []net.Conn{open, late} {
				if got, err := reply(t, conn, "+", 5*time.Second); got != "h" {
					t.Errorf("got %q, %v afterwards", got, err)
				}
			}
		})
	}
}

// TestProxy_lost: answers are discarded, and later ones come.
func TestProxy_lost(t *testing.T) {
	p := echo(t)
	conn := dial(t, p)
	p.LoseAnswers(true)
	if got, err := reply(t, conn, "lost", 50*time.Millisecond); got != "" || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %q, %v", got, err)
	}
	p.LoseAnswers(false)
	if got, err := reply(t, conn, "new", 5*time.Second); got != "new" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestProxy_reset: at once, and after some bytes from the server.
func TestProxy_reset(t *testing.T) {
	p := echo(t)
	conn := dial(t, p)
	if got, err := reply(t, conn, "first", 5*time.Second); got != "first" {
		t.Fatalf("got %q, %v", got, err)
	}
	p.Reset()
	if got, err := reply(t, conn, "x", 5*time.Second); got != "" || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %q, %v after a reset", got, err)
	}
	p.ResetAfter(3)
	if got, err := reply(t, dial(t, p), "middle", 5*time.Second); got != "mid" && got != "" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q, %v, want a reset after at most 3 bytes", got, err)
	}
	if got, err := reply(t, dial(t, p), "whole", 5*time.Second); got != "whole" {
		t.Errorf("got %q, %v on the next connection", got, err)
	}
}

// TestProxy_conditions compares latency, jitter and rate with the clock of a bubble.
func TestProxy_conditions(t *testing.T) {
	for name, test := range map[string]struct {
		conditions  Conditions
		bytes       int
		least, most time.Duration
	}{
		"none":    {Conditions{}, 1000, 0, 0},
		"jitter":  {Conditions{Latency: time.Second, Jitter: time.Second}, 1000, time.Second, 2 * time.Second},
		"both":    {Conditions{Latency: time.Second, Rate: 100}, 1000, 11 * time.Second, 11 * time.Second},
		"trickle": {Conditions{Rate: 1}, 5, 5 * time.Second, 5 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &Proxy{changed: make(chan struct{}), toClient: test.conditions}
			from, sender := net.Pipe()
			to, receiver := net.Pipe()
			ended := make(chan error)
			go func() { ended <- p.carry(t.Context(), from, to, true) }()
			begin := time.Now()
			go func() {
				_, _ = sender.Write(make([]byte, test.bytes))
				sender.Close()
			}()
			if _, err := io.ReadFull(receiver, make([]byte, test.bytes)); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took < test.least || took > test.most {
				t.Errorf("%s: took %v, want %v to %v", name, took, test.least, test.most)
			}
			if err := <-ended; !errors.Is(err, io.EOF) {
				t.Errorf("%s: ended with %v, want %v", name, err, io.EOF)
			}
		})
	}
}
