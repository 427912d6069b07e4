package faults_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// echo is a server that sends back what it gets, and the link to it.
func echo(t *testing.T) *link {
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
	l := newLink(t)
	l.lead(listener.Addr().String())
	return l
}

func dial(t *testing.T, l *link) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", l.addr())
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

// TestLinkCarries: both directions at once, more than it can hold back.
func TestLinkCarries(t *testing.T) {
	conn := dial(t, echo(t))
	sent := bytes.Repeat([]byte("0123456789abcdef"), chunkSize*chunkQueue/8)
	go func() { _, _ = conn.Write(sent) }() // what is missing is not read back
	got := make([]byte, len(sent))
	if n, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes came back, or others: %v", n, len(sent), err)
	}
}

// TestLinkHolds: what is held in either direction comes when it is healed, and
// not before; a connection made meanwhile gets no answer, and then one.
func TestLinkHolds(t *testing.T) {
	const soon = 50 * time.Millisecond
	for name, hold := range map[string]func(*link){
		"there": func(l *link) { l.shape(conditions{held: true}, conditions{}) },
		"back":  func(l *link) { l.shape(conditions{}, conditions{held: true}) },
		"both":  func(l *link) { l.shape(conditions{held: true}, conditions{held: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			l := echo(t)
			open := dial(t, l)
			if got, err := reply(t, open, "first", 5*time.Second); got != "first" {
				t.Fatalf("got %q, %v", got, err)
			}
			hold(l)
			late := dial(t, l)
			for _, conn := range []net.Conn{open, late} {
				if got, err := reply(t, conn, "held", soon); got != "" || !isTimeout(err) {
					t.Fatalf("got %q, %v through a link that holds", got, err)
				}
			}
			l.heal()
			for _, conn := range []net.Conn{open, late} {
				if got, err := reply(t, conn, "+", 5*time.Second); got != "h" {
					t.Errorf("got %q, %v after healing", got, err)
				}
			}
		})
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// TestLinkResets: at once, and after so many bytes from the server.
func TestLinkResets(t *testing.T) {
	l := echo(t)
	conn := dial(t, l)
	if got, err := reply(t, conn, "first", 5*time.Second); got != "first" {
		t.Fatalf("got %q, %v", got, err)
	}
	l.reset()
	if got, err := reply(t, conn, "x", 5*time.Second); got != "" || err == nil || isTimeout(err) {
		t.Errorf("got %q, %v after a reset", got, err)
	}
	l.resetAfter(3)
	got, err := reply(t, dial(t, l), "middle", 5*time.Second)
	if got != "mid" && got != "" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q, %v, want a reset after 3 bytes at most", got, err)
	}
	if got, err := reply(t, dial(t, l), "whole", 5*time.Second); got != "whole" {
		t.Errorf("got %q, %v on the next connection", got, err)
	}
}

// TestLinkLeadsNowhere: without a target nobody answers, and with another one
// the next connection goes there.
func TestLinkLeadsNowhere(t *testing.T) {
	l := newLink(t)
	if conn, err := net.Dial("tcp", l.addr()); err == nil { // the reset may be quicker
		defer conn.Close()
		if got, err := reply(t, conn, "x", 5*time.Second); got != "" || err == nil || isTimeout(err) {
			t.Errorf("got %q, %v from nobody", got, err)
		}
	}
	l.lead(echo(t).addr())
	if got, err := reply(t, dial(t, l), "x", 5*time.Second); got != "x" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestLinkTakesItsTime holds latency, jitter and bandwidth against a clock that
// stands still meanwhile.
func TestLinkTakesItsTime(t *testing.T) {
	for name, test := range map[string]struct {
		conditions conditions
		bytes      int
		from, upTo time.Duration
	}{
		"nothing":   {conditions{}, 1000, 0, 0},
		"latency":   {conditions{latency: time.Second}, 1000, time.Second, time.Second},
		"jitter":    {conditions{latency: time.Second, jitter: time.Second}, 1000, time.Second, 2 * time.Second},
		"bandwidth": {conditions{rate: 100}, 1000, 10 * time.Second, 10 * time.Second},
		"both":      {conditions{latency: time.Second, rate: 100}, 1000, 11 * time.Second, 11 * time.Second},
		"trickle":   {conditions{rate: 1}, 5, 5 * time.Second, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &link{changed: make(chan struct{}), back: test.conditions}
				from, sender := net.Pipe()
				to, receiver := net.Pipe()
				ended := make(chan error)
				go func() { ended <- l.carry(t.Context(), from, to, true) }()
				begin := time.Now()
				go func() {
					_, _ = sender.Write(make([]byte, test.bytes))
					sender.Close()
				}()
				if _, err := io.ReadFull(receiver, make([]byte, test.bytes)); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begin); took < test.from || took > test.upTo {
					t.Errorf("took %v, want %v to %v", took, test.from, test.upTo)
				}
				if err := <-ended; !errors.Is(err, io.EOF) {
					t.Errorf("ended with %v, want %v", err, io.EOF)
				}
			})
		})
	}
}
