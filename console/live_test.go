package console_test

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/schemas"
)

// TestLive tells the pages of a call and of all calls of a new event, and no other, and
// holds more than 64 live pages back.
func TestLive(t *testing.T) {
	t.Parallel()
	c, js := newConsole(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go c.Run(ctx)
	server := httptest.NewServer(c)
	defer server.Close()
	defer server.CloseClientConnections()
	follow := func(query string) (int, *bufio.Scanner) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/live?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { answer.Body.Close() })
		return answer.StatusCode, bufio.NewScanner(answer.Body)
	}
	_, all := follow("calls=all")
	_, one := follow("call=c-1")
	_, other := follow("call=c-2")
	told := make(chan string, 8)
	for name, lines := range map[string]*bufio.Scanner{"all": all, "one": one, "other": other} {
		go func() {
			for lines.Scan() {
				if strings.HasPrefix(lines.Text(), "data:") {
					told <- name
				}
			}
		}()
	}
	// When the following begins, the pages that are there are told once.
	heard := make(map[string]int)
	tick, end := time.NewTicker(300*time.Millisecond), time.After(30*time.Second)
	defer tick.Stop()
	for heard["one"] < 3 || heard["all"] < 1 {
		select {
		case <-tick.C:
			if _, err := js.Publish(ctx, schemas.WithSlot("acs.contoso.CallConnected.c-1"), []byte(`{}`)); err != nil {
				t.Fatal(err)
			}
		case name := <-told:
			heard[name]++
		case <-end:
			t.Fatal("only these were told:", heard)
		}
	}
	if heard["other"] > 1 {
		t.Error("the page of another call was told", heard["other"], "times")
	}
	for range 61 {
		if status, _ := follow("call=c-3"); status != http.StatusOK {
			t.Fatal("a page is not live:", status)
		}
	}
	if status, _ := follow("call=c-3"); status != http.StatusServiceUnavailable {
		t.Error("one page too many:", status)
	}
}

// pipes is a listener whose connections buffer nothing.
type pipes struct{ conns chan net.Conn }

func (p pipes) Accept() (net.Conn, error) {
	if conn, ok := <-p.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { close(p.conns); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestLive_stuckBrowser keeps a live page beyond the read timeout of the listener while
// its browser reads, and closes the connection of one that does not.
func TestLive_stuckBrowser(t *testing.T) {
	t.Parallel()
	c, _ := newConsole(t)
	closed := make(chan time.Duration, 1)
	began := time.Now()
	server := &http.Server{Handler: c, ReadTimeout: 100 * time.Millisecond, ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			closed <- time.Since(began)
		}
	}}
	listener := pipes{make(chan net.Conn)}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	conn, browser := net.Pipe()
	defer browser.Close()
	listener.conns <- conn
	if _, err := browser.Write([]byte("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(browser)
	for lines.Scan() && lines.Text() != "data: changed" { // which comes after five seconds
	}
	if err := lines.Err(); err != nil {
		t.Fatal("the read timeout of the listener ended a live page:", err)
	}
	read := time.Since(began)
	select {
	case after := <-closed:
		if after-read > 15*time.Second {
			t.Errorf("closed %v after the last reading", after-read)
		}
	case <-time.After(20 * time.Second):
		t.Error("the connection of a browser that does not read is kept")
	}
}
