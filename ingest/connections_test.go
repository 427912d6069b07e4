package ingest_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/natstest"
)

// TestConnectionsAreBounded holds all connections that there may be. The next
// one is answered when, and only when, one of them is closed.
func TestConnectionsAreBounded(t *testing.T) {
	const limit = 3
	reg := prometheus.NewRegistry()
	l := listen(t, ingest.Config{MaxConnections: limit, Registerer: reg})
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", l.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	count := func(n int) {
		t.Helper()
		want := fmt.Sprintf("# HELP acsbridge_connections Connections for callbacks that are open.\n# TYPE acsbridge_connections gauge\nacsbridge_connections %d\n", n)
		natstest.Until(t, func() bool {
			return testutil.GatherAndCompare(reg, strings.NewReader(want), "acsbridge_connections") == nil
		})
	}
	held := []net.Conn{dial(), dial(), dial()}
	count(limit)

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
		t.Fatalf("one connection more than may be was answered %d", status)
	case <-time.After(100 * time.Millisecond):
	}
	count(limit)
	held[0].Close()
	if status := <-answered; status != 404 {
		t.Errorf("after one was closed: %d, want 404", status)
	}
	held[1].Close()
	held[2].Close()
	count(0)
}

// TestWhoIsTurnedAwayIsDisconnected asks twice over HTTP/2, whose connections
// another refusal leaves open.
func TestWhoIsTurnedAwayIsDisconnected(t *testing.T) {
	files := newCertificateFiles(t)
	files.renew("bridge.test", time.Now().Add(time.Hour))
	certificate, err := ingest.OpenCertificate(files.cert, files.key, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	stranger := ingest.Config{SourceRanges: ranges(t, "198.51.100.0/24")}
	proxied := stranger
	proxied.TrustedProxies = ranges(t, "127.0.0.1")
	for name, test := range map[string]struct {
		config ingest.Config
		status int
		closed bool
	}{
		"stranger":                {stranger, 403, true},
		"stranger behind a proxy": {proxied, 403, false},
		"no token":                {ingest.Config{}, 401, false},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server := handler(t, test.config).Server(certificate.TLS())
			var opened, closed atomic.Int64
			server.ConnState = func(_ net.Conn, state http.ConnState) {
				switch state {
				case http.StateNew:
					opened.Add(1)
				case http.StateClosed:
					closed.Add(1)
				}
			}
			served := make(chan error, 1)
			go func() { served <- server.ServeTLS(listener, "", "") }()
			transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
			defer func() {
				transport.CloseIdleConnections()
				server.Close()
				<-served
			}()
			client := http.Client{Transport: transport}
			for n := range int64(2) {
				response, err := client.Post("https://"+listener.Addr().String()+"/callbacks", "application/json", nil)
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
