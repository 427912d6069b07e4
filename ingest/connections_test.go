package ingest_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
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
