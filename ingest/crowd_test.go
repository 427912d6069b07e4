package ingest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/verify"
)

// visitors is a listener at which clients of any address arrive.
type visitors struct{ queue chan net.Conn }

func (v *visitors) Accept() (net.Conn, error) {
	conn, more := <-v.queue
	switch {
	case !more:
		return nil, net.ErrClosed
	case conn == nil:
		return nil, errors.New("too many open files")
	}
	return conn, nil
}

func (v *visitors) Close() error   { return nil }
func (v *visitors) Addr() net.Addr { return &net.TCPAddr{} }

// visitor is a connection from an address that is closed when it is told so.
type visitor struct {
	net.Conn
	from   string
	closed bool
}

func (v *visitor) RemoteAddr() net.Addr {
	address, err := net.ResolveTCPAddr("tcp", v.from)
	if err != nil {
		panic(err)
	}
	return address
}

func (v *visitor) Close() error {
	v.closed = true
	return nil
}

// TestOneClientHasAQuarterOfTheConnections has a stranger open more than that,
// between clients that are not to notice.
func TestOneClientHasAQuarterOfTheConnections(t *testing.T) {
	for name, test := range map[string]struct {
		from, other string
		bounded     bool
	}{
		"IPv4":            {"203.0.113.5:1", "203.0.113.6:1", true},
		"an IPv6 network": {"[2001:db8::5]:1", "[2001:db8:0:1::5]:1", true},
		"loopback":        {"127.0.0.1:1", "203.0.113.6:1", false},
		"private":         {"10.1.2.3:1", "203.0.113.6:1", false},
		"a trusted proxy": {"198.51.100.7:1", "203.0.113.6:1", false},
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			h := handler(t, ingest.Config{MaxConnections: 8, TrustedProxies: ranges(t, "198.51.100.0/24"), Registerer: reg})
			arriving := &visitors{make(chan net.Conn, 8)}
			listener := h.Bound(arriving)
			var stranger []*visitor
			var served []net.Conn
			accept := func(want string) {
				t.Helper()
				conn, err := listener.Accept()
				if err != nil {
					t.Fatal(err)
				}
				if got := conn.RemoteAddr().String(); got != want {
					t.Fatalf("accepted %s, want %s", got, want)
				}
				served = append(served, conn)
			}
			for range 3 {
				v := &visitor{from: test.from}
				stranger = append(stranger, v)
				arriving.queue <- v
			}
			arriving.queue <- &visitor{from: test.other}
			accept(test.from)
			accept(test.from)
			if !test.bounded {
				accept(test.from)
			}
			accept(test.other)
			if stranger[2].closed != test.bounded {
				t.Errorf("the third connection was closed: %v", stranger[2].closed)
			}
			if err := served[0].Close(); err != nil {
				t.Fatal(err)
			}
			arriving.queue <- &visitor{from: test.from}
			accept(test.from) // there is room for it again
			surplus := 0
			if refused := h.Activity().Refused; (len(refused) == 1 && refused[0].Reason == "surplus_connection") != test.bounded {
				t.Errorf("refused: %+v", refused)
			}
			if test.bounded {
				surplus = 1
			}
			want := fmt.Sprintf("# HELP acsbridge_surplus_connections_total Connections closed at once because their client held a quarter of all that there may be.\n"+
				"# TYPE acsbridge_surplus_connections_total counter\nacsbridge_surplus_connections_total %d\n", surplus)
			if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "acsbridge_surplus_connections_total"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestConnectionsThatCannotBeAcceptedAreAnError(t *testing.T) {
	log := &lines{}
	arriving := &visitors{make(chan net.Conn, 8)}
	listener := handler(t, ingest.Config{Logger: slog.New(log)}).Bound(arriving)
	for range 3 {
		arriving.queue <- nil
		if _, err := listener.Accept(); err == nil {
			t.Error("no error")
		}
	}
	if len(log.list) != 1 || log.list[0] != "ERROR connection not accepted" || !strings.Contains(log.all, "too many open files") {
		t.Errorf("the log has %v: %s", log.list, log.all)
	}
	close(arriving.queue) // the bridge stops
	if _, err := listener.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if len(log.list) != 1 {
		t.Errorf("the log has %v", log.list)
	}
}

// deliberating is a verifier that takes its time.
type deliberating struct {
	trusting
	verdict chan struct{}
}

func (d deliberating) VerifyBearer(ctx context.Context, authorization []string) (*verify.Claims, error) {
	<-d.verdict
	return d.trusting.VerifyBearer(ctx, authorization)
}

func TestRequestsWithoutAVerdictAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := deliberating{verdict: make(chan struct{})}
		h := handler(t, ingest.Config{MaxInFlight: 2, Verifier: v})
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

// TestManyEventsTakeMoreRoom posts small bodies of a hundred events, whose records
// take more than their bodies.
func TestManyEventsTakeMoreRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := handler(t, ingest.Config{Publisher: storing(func(context.Context, *publish.Delivery) error {
			<-release
			return nil
		})})
		event := strings.TrimSuffix(strings.TrimPrefix(defaultBody, "["), "]")
		body := "[" + strings.TrimSuffix(strings.Repeat(event+",", ingest.MaxEvents), ",") + "]"
		answers := make(chan int, ingest.DefaultMaxInFlight)
		for range cap(answers) {
			go func() { answers <- serve(h, callback(body)).Code }()
		}
		synctest.Wait()
		if n := cap(answers) - len(answers); n < 16 || n > 64 {
			t.Errorf("%d callbacks of %d events are under way, want 16 to 64", n, ingest.MaxEvents)
		}
		close(release)
		for range cap(answers) {
			if status := <-answers; status != 200 && status != 503 {
				t.Errorf("got %d", status)
			}
		}
	})
}

// TestSlowBodiesHoldNobodyUp takes every place with a body that does not end, as
// whoever has seen one token can.
func TestSlowBodiesHoldNobodyUp(t *testing.T) {
	const places = 4
	reg := prometheus.NewRegistry()
	l := listen(t, ingest.Config{MaxInFlight: places, Registerer: reg})
	const head = "POST /callbacks HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer x\r\n"
	answers := make(chan int, places)
	for range places {
		conn, err := net.Dial("tcp", l.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, head+"Content-Length: 1000\r\n\r\n["); err != nil {
			t.Fatal(err)
		}
		go func() {
			if response, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
				response.Body.Close()
				answers <- response.StatusCode
			}
		}()
	}
	want := fmt.Sprintf("# HELP acsbridge_inflight Verified callbacks under way.\n# TYPE acsbridge_inflight gauge\nacsbridge_inflight %d\n", places)
	natstest.Until(t, func() bool {
		return testutil.GatherAndCompare(reg, strings.NewReader(want), "acsbridge_inflight") == nil
	})
	good := fmt.Sprintf(head+"Content-Length: %d\r\n\r\n%s", len(defaultBody), defaultBody)
	natstest.Until(t, func() bool { return l.answer(t, good) == 200 })
	select {
	case status := <-answers:
		if status != 503 {
			t.Errorf("the body that gave way was answered %d, want 503", status)
		}
	case <-time.After(5 * time.Second): // before the server's own limit
		t.Error("the body that gave way is waited for still")
	}
}

// answer sends a request and returns the status of its answer.
func (l *listening) answer(t *testing.T, request string) int {
	t.Helper()
	conn, err := net.Dial("tcp", l.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

func TestWhatBreaksOverHTTPIsCountedAndSaidQuietly(t *testing.T) {
	reg, log := prometheus.NewRegistry(), &lines{}
	server := handler(t, ingest.Config{Registerer: reg, Logger: slog.New(log)}).Server(nil)
	for range 3 {
		server.ErrorLog.Print("http: TLS handshake error")
		server.HTTP2.CountError("conn_close_preface")
	}
	if len(log.list) != 1 || log.list[0] != "DEBUG http: TLS handshake error" {
		t.Errorf("the log has %v", log.list)
	}
	want := "# HELP acsbridge_http2_errors_total HTTP/2 connections and streams that were broken off because their client kept no rule.\n" +
		"# TYPE acsbridge_http2_errors_total counter\nacsbridge_http2_errors_total 3\n"
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "acsbridge_http2_errors_total"); err != nil {
		t.Error(err)
	}
}
