package console_test

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/console"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// store stores an event of a call, with more members of its data.
func store(t *testing.T, js jetstream.JetStream, id, kind, call, more string) {
	t.Helper()
	m := nats.NewMsg(schemas.WithSlot("acs.contoso." + kind + "." + call))
	m.Data = fmt.Appendf(nil, `{"id":%q,"source":"calling/callConnections/%[3]s","type":"Microsoft.Communication.%[2]s","specversion":"1.0","data":{"callConnectionId":%[3]q%[4]s}}`, id, kind, call, more)
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

// livePages opens the live connections of pages.
type livePages struct {
	t   *testing.T
	url string
}

func newLivePages(t *testing.T, c *console.Console) livePages {
	go c.Run(t.Context())
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return livePages{t, server.URL}
}

func (p livePages) open(query string) (int, *bufio.Scanner) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.url+"/live?"+query, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { answer.Body.Close() })
	return answer.StatusCode, bufio.NewScanner(answer.Body)
}

// follow opens one, and calls refresh whenever its page is to ask for itself again.
func (p livePages) follow(query string, refresh func()) {
	p.t.Helper()
	_, lines := p.open(query)
	go func() {
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "data:") {
				refresh()
			}
		}
	}()
}

// TestLive tells the pages of a call and of all calls of a new event, and no other, and
// holds more than 64 live pages back.
func TestLive(t *testing.T) {
	t.Parallel()
	c, js := newConsole(t)
	store(t, js, "1", "CallConnected", "c-1", "")
	store(t, js, "1", "CallConnected", "c-2", "")
	pages := newLivePages(t, c)
	refreshed := make(chan string, 8)
	for name, query := range map[string]string{"all": "calls=all", "one": "call=c-1", "other": "call=c-2"} {
		pages.follow(query, func() {
			if name != "all" {
				request{path: "/calls/c-" + map[string]string{"one": "1", "other": "2"}[name]}.page(t, c)
			}
			refreshed <- name
		})
	}
	// When the following begins, the pages that are open are refreshed once.
	count := make(map[string]int)
	tick, end := time.NewTicker(300*time.Millisecond), time.After(30*time.Second)
	defer tick.Stop()
	for n := 0; count["one"] < 4 || count["all"] < 1; n++ {
		select {
		case <-tick.C:
			store(t, js, fmt.Sprint("more-", n), "PlayStarted", "c-1", "")
		case name := <-refreshed:
			count[name]++
		case <-end:
			t.Fatal("only these were refreshed:", count)
		}
	}
	if count["other"] > 2 {
		t.Error("the page of another call was refreshed", count["other"], "times")
	}
	for range 61 {
		if status, _ := pages.open("call=c-3"); status != http.StatusOK {
			t.Fatal("a page is not live:", status)
		}
	}
	if status, _ := pages.open("call=c-3"); status != http.StatusServiceUnavailable {
		t.Error("one page too many:", status)
	}
}

// TestLive_call searches for a call once: its later events, and a leg that shares an id with
// it, come by the reading that all live pages share. A leg makes it search once more, for
// what was stored before.
func TestLive_call(t *testing.T) {
	t.Parallel()
	c, js := newConsole(t)
	var searches, readings atomic.Int32
	if _, err := js.Conn().Subscribe("$JS.API.DIRECT.GET."+schemas.Stream, func(m *nats.Msg) {
		if strings.Contains(string(m.Data), "c-1") {
			searches.Add(1)
		}
		if strings.Contains(string(m.Data), "start_time") { // everything that was stored around the call
			readings.Add(1)
		}
	}); err != nil {
		t.Fatal(err)
	}
	store(t, js, "1", "CallConnected", "c-1", `,"serverCallId":"server-call-1"`)
	pages := newLivePages(t, c)
	shown := make(chan string, 64)
	pages.follow("call=c-1", func() {
		_, page := request{path: "/calls/c-1"}.page(t, c)
		shown <- page
	})
	until := func(want string) {
		t.Helper()
		for end := time.After(30 * time.Second); ; {
			select {
			case page := <-shown:
				if strings.Contains(page, want) {
					return
				}
			case <-end:
				t.Fatal("no page has", want)
			}
		}
	}
	until(">CallConnected</a>")
	for { // both refreshes, that of the connection and that of the following
		select {
		case <-shown:
			continue
		case <-time.After(4 * time.Second):
		}
		break
	}
	before, read := searches.Load(), readings.Load()
	store(t, js, "2", "PlayStarted", "c-1", `,"serverCallId":"server-call-1"`)
	until(">PlayStarted</a>")
	if n := searches.Load() - before; n != 0 || before == 0 {
		t.Errorf("an event made a page ask %d times for a call, and %d times before", n, before)
	}
	store(t, js, "3", "AddParticipantFailed", "c-3", `,"correlationId":"correlation-2"`)
	store(t, js, "4", "CallConnected", "c-2", `,"serverCallId":"server-call-1","correlationId":"correlation-2"`)
	until(">AddParticipantFailed</a>") // which nothing but the event after it shares an id with
	if n := readings.Load(); n != read || searches.Load() == before {
		t.Errorf("a leg made a page read everything around the call %d times", n-read)
	}
}

// TestLive_streamMadeAnew replaces the stream below a live page, whose list then has the calls
// of the new one alone.
func TestLive_streamMadeAnew(t *testing.T) {
	t.Parallel()
	c, js := newConsole(t)
	store(t, js, "1", "CallConnected", "c-before", "")
	pages := newLivePages(t, c)
	shown := make(chan string, 64)
	pages.follow("calls=all", func() {
		_, page := request{path: "/calls"}.page(t, c)
		shown <- page
	})
	until := func(want string) string {
		t.Helper()
		for end := time.After(40 * time.Second); ; {
			select {
			case page := <-shown:
				if strings.Contains(page, want) {
					return page
				}
			case <-end:
				t.Fatal("no list has", want)
			}
		}
	}
	until("c-before")
	if err := js.DeleteStream(t.Context(), schemas.Stream); err != nil {
		t.Fatal(err)
	}
	natstest.CreateStream(t, js, jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{"acs.>"}, AllowDirect: true})
	for n := range 3 { // as many as were read of the stream before, and more
		store(t, js, "1", "CallConnected", fmt.Sprint("c-after-", n), "")
	}
	if page := until("c-after-0"); strings.Contains(page, "c-before") {
		t.Error("the list has a call of the stream before")
	}
}

// TestLive_quietCall has a call without an event for long, and one that has just ended: their
// pages are live.
func TestLive_quietCall(t *testing.T) {
	t.Parallel()
	c, js := newConsole(t)
	m := nats.NewMsg(schemas.WithSlot("acs.contoso.CallConnected.c-1"))
	m.Data = fmt.Appendf(nil, `{"id":"1","source":"s","type":"Microsoft.Communication.CallConnected","specversion":"1.0","time":%q,"data":{"callConnectionId":"c-1"}}`,
		time.Now().Add(-20*time.Minute).Format(time.RFC3339))
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	store(t, js, "1", "CallDisconnected", "c-2", "")
	for call, state := range map[string]string{"c-1": ">silent<", "c-2": ">ended<"} {
		if _, page := (request{path: "/calls/" + call}).page(t, c); !strings.Contains(page, state) || !strings.Contains(page, "data-live") {
			t.Errorf("%s is not %s, or not live:\n%s", call, state, page)
		}
	}
}

// TestLive_largeCall has a call with more events than a live page keeps: its page is not live.
func TestLive_largeCall(t *testing.T) {
	t.Parallel()
	c, js := newConsole(t)
	store(t, js, "connected", "CallConnected", "c-1", "")
	context := strings.Repeat("context", 10<<10)
	for n := range 9 {
		_, page := request{path: "/calls/c-1"}.page(t, c)
		if live := strings.Contains(page, "data-live"); live != (n < 8) {
			t.Fatalf("with %d large events, live is %v", n, live)
		}
		store(t, js, fmt.Sprint(n), "PlayStarted", "c-1", fmt.Sprintf(`,"operationContext":%q`, context))
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
