package console_test

import (
	"bufio"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acsbridge/acsbridge/console"
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
	refreshed := make(chan string, 8)
	for name, lines := range map[string]*bufio.Scanner{"all": all, "one": one, "other": other} {
		go func() {
			for lines.Scan() {
				if strings.HasPrefix(lines.Text(), "data:") {
					refreshed <- name
				}
			}
		}()
	}
	// When the following begins, the pages that are open are refreshed once.
	count := make(map[string]int)
	tick, end := time.NewTicker(300*time.Millisecond), time.After(30*time.Second)
	defer tick.Stop()
	for count["one"] < 3 || count["all"] < 1 {
		select {
		case <-tick.C:
			if _, err := js.Publish(ctx, schemas.WithSlot("acs.contoso.CallConnected.c-1"), []byte(`{}`)); err != nil {
				t.Fatal(err)
			}
		case name := <-refreshed:
			count[name]++
		case <-end:
			t.Fatal("only these were refreshed:", count)
		}
	}
	if count["other"] > 1 {
		t.Error("the page of another call was refreshed", count["other"], "times")
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
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan struct{})
		c := console.New(console.Options{Logger: slog.New(slog.DiscardHandler)})
		server := &http.Server{Handler: c, ReadTimeout: 100 * time.Millisecond, ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				close(closed)
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
		if lines.Text() == "" {
			t.Fatal("the read timeout of the listener ended a live page:", lines.Err())
		}
		select {
		case <-closed:
		case <-time.After(15 * time.Second): // ten until the next event, five to read it
			t.Error("the connection of a browser that does not read is kept")
		}
	})
}
