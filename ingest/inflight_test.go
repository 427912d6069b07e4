package ingest_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/natstest"
)

func TestInFlight_isLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for configured, limit := range map[int]int{0: ingest.DefaultMaxInFlight, 2: 2} {
			release := make(chan struct{})
			h := newHandler(t, ingest.Config{MaxInFlight: configured, EventGrid: grid(), Publisher: waiting(release)})
			for round := range 2 { // in the second round, all permits are free again
				go serve(h, fromGrid(incomingCall)) // the limit is for both routes
				for range limit - 1 {
					go serve(h, callback(defaultBody))
				}
				synctest.Wait()
				for _, r := range []*http.Request{fromGrid(incomingCall), callback(defaultBody)} {
					if w := serve(h, r); w.Code != 503 {
						t.Errorf("limit %d, round %d, %s: got %d, want 503", limit, round, r.URL.Path, w.Code)
					}
				}
				for range limit {
					release <- struct{}{}
				}
				synctest.Wait()
			}
			close(release)
			if w := serve(h, callback(defaultBody)); w.Code != 200 {
				t.Errorf("limit %d: got %d after all were answered", limit, w.Code)
			}
		}
	})
}

// TestInFlight_countsRecords posts small bodies of a hundred events, whose records take
// more than their bodies.
func TestInFlight_countsRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := newHandler(t, ingest.Config{Publisher: waiting(release)})
		event := strings.TrimSuffix(strings.TrimPrefix(defaultBody, "["), "]")
		body := "[" + strings.TrimSuffix(strings.Repeat(event+",", ingest.MaxEvents), ",") + "]"
		answers := make(chan int, ingest.DefaultMaxInFlight)
		for range cap(answers) {
			go func() { answers <- serve(h, callback(body)).Code }()
		}
		synctest.Wait()
		most := ingest.DefaultMaxInFlight * 32 << 10 / (len(body) + (ingest.MaxEvents-1)*4<<10)
		if n := cap(answers) - len(answers); n < most/2 || n > most {
			t.Errorf("%d callbacks of %d events are in flight, want %d to %d", n, ingest.MaxEvents, most/2, most)
		}
		close(release)
		for range cap(answers) {
			if status := <-answers; status != 200 && status != 503 {
				t.Errorf("got %d", status)
			}
		}
	})
}

func TestInFlight_unverifiedRequestsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := fakeVerifier{verdict: make(chan struct{})}
		h := newHandler(t, ingest.Config{MaxInFlight: 2, Verifier: v})
		for range 16 {
			go serve(h, callback(defaultBody))
		}
		synctest.Wait()
		if w := serve(h, callback(defaultBody)); w.Code != 503 || w.Header().Get("Retry-After") == "" {
			t.Errorf("the 17th got %d, want 503", w.Code)
		}
		close(v.verdict)
		synctest.Wait()
		if w := serve(h, callback(defaultBody)); w.Code != 200 {
			t.Errorf("after the verdicts: %d, want 200", w.Code)
		}
	})
}

// TestInFlight_slowBodiesAreEvicted holds every permit with a body that does not end,
// as a client with one good token can.
func TestInFlight_slowBodiesAreEvicted(t *testing.T) {
	const limit = 4
	reg := prometheus.NewRegistry()
	h := newHandler(t, ingest.Config{MaxInFlight: limit, Registerer: reg})
	address := startServer(t, h, nil)
	answers := make(chan int, limit)
	for range limit {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST /callbacks HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer x\r\nContent-Length: 1000\r\n\r\n["); err != nil {
			t.Fatal(err)
		}
		go func() {
			if response, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
				response.Body.Close()
				answers <- response.StatusCode
			}
		}()
	}
	natstest.Until(t, func() bool { return counts(t, reg, "acsbridge_inflight")[""] == limit })
	natstest.Until(t, func() bool { return post(t, http.DefaultClient, address).StatusCode == 200 })
	select {
	case status := <-answers:
		if status != 503 {
			t.Errorf("the evicted body was answered %d, want 503", status)
		}
	case <-time.After(5 * time.Second): // before the server's own limit
		t.Error("the evicted body is still read")
	}
	if refused := h.Activity().Refused; len(refused) > 0 {
		t.Errorf("an evicted body counts as a fault of its sender: %+v", refused)
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestConnections_areLimited opens all connections that may be open. The next one is
// answered when, and only when, one of them is closed.
func TestConnections_areLimited(t *testing.T) {
	const limit = 3
	reg := prometheus.NewRegistry()
	address := startServer(t, newHandler(t, ingest.Config{MaxConnections: limit, Registerer: reg}), nil)
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	await := func(n float64) {
		t.Helper()
		natstest.Until(t, func() bool { return counts(t, reg, "acsbridge_connections")[""] == n })
	}
	held := []net.Conn{dial(), dial(), dial()}
	await(limit)

	next := dial() // the system completes it; the bridge does not accept it
	if _, err := io.WriteString(next, "GET / HTTP/1.1\r\nHost: b\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answered := make(chan int, 1)
	go func() {
		response, err := http.ReadResponse(bufio.NewReader(next), nil)
		if err != nil {
			answered <- 0
			return
		}
		response.Body.Close()
		answered <- response.StatusCode
	}()
	select {
	case status := <-answered:
		t.Fatalf("one connection too many was answered %d", status)
	case <-time.After(100 * time.Millisecond):
	}
	await(limit)
	held[0].Close()
	if status := <-answered; status != 404 {
		t.Errorf("after one was closed: %d, want 404", status)
	}
	held[1].Close()
	held[2].Close()
	await(0)
}

// TestConnections_ofRejectedClientsAreClosed requests twice over HTTP/2, where other
// refusals leave the connection open.
func TestConnections_ofRejectedClientsAreClosed(t *testing.T) {
	elsewhere := ranges("198.51.100.0/24")
	for name, test := range map[string]struct {
		config ingest.Config
		status int
		closed bool
	}{
		"from elsewhere":                 {ingest.Config{SourceRanges: elsewhere}, 403, true},
		"from elsewhere, behind a proxy": {ingest.Config{SourceRanges: elsewhere, TrustedProxies: ranges("127.0.0.1/32")}, 403, false},
		"no token":                       {ingest.Config{}, 401, false},
	} {
		t.Run(name, func(t *testing.T) {
			var opened, closed atomic.Int64
			address := startServer(t, newHandler(t, test.config), serverTLS(t), func(s *http.Server) {
				s.ConnState = func(_ net.Conn, state http.ConnState) {
					switch state {
					case http.StateNew:
						opened.Add(1)
					case http.StateClosed:
						closed.Add(1)
					}
				}
			})
			transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
			defer transport.CloseIdleConnections()
			client := http.Client{Transport: transport}
			for n := range int64(2) {
				response, err := client.Post("https://"+address+"/callbacks", "application/json", nil)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				if response.StatusCode != test.status || response.ProtoMajor != 2 {
					t.Errorf("got %s %s, want %d", response.Proto, response.Status, test.status)
				}
				if test.closed {
					natstest.Until(t, func() bool { return closed.Load() == n+1 })
				}
			}
			if got := opened.Load(); (got == 2) != test.closed {
				t.Errorf("%d connections, want them closed after each answer: %v", got, test.closed)
			}
		})
	}
}

// TestConnections_rejectedAreSaid has a client open more than a quarter of all.
func TestConnections_rejectedAreSaid(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := newHandler(t, ingest.Config{MaxConnections: 4, Registerer: reg})
	queue := make(chan net.Conn, 2)
	front, back := net.Pipe()
	defer front.Close()
	l := h.LimitListener(&queuedListener{queue: queue})
	for range cap(queue) {
		queue <- connFrom{back, "198.51.100.7:1"}
	}
	close(queue)
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("a second connection was accepted")
	}
	if got := counts(t, reg, "acsbridge_connections_rejected_total")[""]; got != 1 {
		t.Errorf("%v are counted", got)
	}
	if refused := h.Activity().Refused; len(refused) != 1 || refused[0].Reason != "connection_limit" {
		t.Errorf("activity: %+v", refused)
	}
}
