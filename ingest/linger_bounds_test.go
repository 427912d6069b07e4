package ingest

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// pipeConn returns the server's end of a connection on which an answer was given,
// and the peer's.
func pipeConn(t *testing.T, l lingering, closed func()) (*countedConn, net.Conn) {
	t.Helper()
	server, peer := net.Pipe()
	c := &countedConn{Conn: server, lingering: l, closed: closed}
	go func() { _, _ = io.ReadFull(peer, make([]byte, 1)) }()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	return c, peer
}

func TestCountedConn_ReadsOnWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := make(lingering, maxLingering)

		// A peer that does not stop gets rid of so many bytes.
		c, peer := pipeConn(t, l, func() {})
		sent := make(chan int64, 1)
		go func() {
			n, _ := io.Copy(peer, endless{})
			sent <- n
		}()
		start := time.Now()
		_ = c.Close()
		if n := <-sent; n < lingerBytes || n > lingerBytes+64<<10 || time.Since(start) != 0 {
			t.Errorf("%d bytes were taken in %s", n, time.Since(start))
		}

		// One that sends nothing has so much time, and one more than may linger has
		// no more than that.
		var closed atomic.Int32
		var slow []*countedConn
		for range maxLingering + 1 {
			c, peer := pipeConn(t, l, func() { closed.Add(1) })
			defer peer.Close()
			slow = append(slow, c)
			go c.Close()
		}
		synctest.Wait()
		time.Sleep(lingerFor - time.Millisecond)
		synctest.Wait()
		if n := closed.Load(); n != 0 {
			t.Errorf("%d were closed early", n)
		}
		// A server that ends does not wait for them.
		if err := slow[0].Close(); err != nil || closed.Load() == 0 { // the first Close may end as well
			t.Error("the second close:", err, closed.Load())
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if n := closed.Load(); n < maxLingering+1 || len(l) != 0 {
			t.Errorf("%d were closed in time, %d linger", n, len(l))
		}

		// A peer that has gone is not waited for.
		c, peer = pipeConn(t, l, func() {})
		synctest.Wait()
		peer.Close()
		start = time.Now()
		if _ = c.Close(); time.Since(start) != 0 {
			t.Errorf("closed after %s", time.Since(start))
		}
	})
}

// TestCountedConn_ClosesAtOnce closes connections on which nothing was answered
// last, or that the server still reads from.
func TestCountedConn_ClosesAtOnce(t *testing.T) {
	for name, prepare := range map[string]func(c *countedConn, peer net.Conn){
		"nothing was said": func(*countedConn, net.Conn) {},
		"idle for too long": func(c *countedConn, peer net.Conn) {
			_, _ = c.Write([]byte("x"))
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		},
		"waiting for a request": func(c *countedConn, peer net.Conn) {
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
				c := &countedConn{Conn: server, lingering: make(lingering, 1), closed: func() {}}
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
