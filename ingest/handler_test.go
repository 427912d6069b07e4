package ingest_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/verify"
)

func TestNew_refuses(t *testing.T) {
	for path, want := range map[string]string{
		"callbacks": "is not a path of plain segments", "/callbacks/": "is not a path of plain segments", "/a%2Fb": "is not a path of plain segments", "/a/../b": "is not a path of plain segments",
		"/": "covers /livez", "/livez": "covers /livez", "/livez/": "is not a path of plain segments",
		"/livez/x": "", "/livezx": "", "/callbacks": "",
	} {
		_, err := ingest.New(ingest.Config{Path: path, Verifier: fakeVerifier{}, Publisher: &fakePublisher{}})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("path %q: %v, want %q", path, err, want)
		}
	}
	for _, config := range []ingest.Config{
		{Verifier: fakeVerifier{}}, {Publisher: &fakePublisher{}},
		{Verifier: fakeVerifier{}, Publisher: &fakePublisher{}, MaxInFlight: -1},
		{Verifier: fakeVerifier{}, Publisher: &fakePublisher{}, MaxConnections: 1<<16 + 1},
	} {
		if _, err := ingest.New(config); err == nil {
			t.Errorf("taken: %+v", config)
		}
	}
}

func TestHandler_countsEveryAnswer(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := newHandler(t, ingest.Config{Registerer: reg})
	other, get := callback(defaultBody), callback(defaultBody)
	other.URL.Path, get.Method = "/other", http.MethodGet
	for _, r := range []*http.Request{callback(defaultBody), callback(defaultBody), callback("x"), other, get} {
		serve(h, r)
	}
	counted := map[string]float64{"200 callbacks": 2, "400 callbacks": 1, "404 other": 1, "405 callbacks": 1}
	if diff := cmp.Diff(counted, counts(t, reg, "acsbridge_requests_total")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]float64{"not_json": 1}, counts(t, reg, "acsbridge_malformed_total")); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]float64{"acsbridge_inflight_max": ingest.DefaultMaxInFlight, "acsbridge_connections_max": ingest.DefaultMaxConnections} {
		if got := counts(t, reg, name)[""]; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	// All series exist from the start.
	for name, want := range map[string]int{
		"acsbridge_requests_total": 40, "acsbridge_request_duration_seconds": 10, "acsbridge_malformed_total": len(ingest.Reasons()), "acsbridge_rejected_total": 6,
	} {
		if got := testutil.CollectAndCount(reg, name); got != want {
			t.Errorf("%d series of %s, want %d", got, name, want)
		}
	}
}

func TestHandler_keepsHTTP2ConnectionsOpen(t *testing.T) {
	r := callback("x")
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	if w := serve(newHandler(t, ingest.Config{}), r); w.Code != 400 || w.Header().Get("Connection") != "" {
		t.Errorf("got %d %v", w.Code, w.Header())
	}
}

// deadWriter fails as a connection does that breaks during the answer.
type deadWriter struct{ *httptest.ResponseRecorder }

func (deadWriter) WriteHeader(int) { panic("gone") }

func TestHandler_panic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, log := prometheus.NewRegistry(), everything()
		h := newHandler(t, ingest.Config{Registerer: reg, Logger: slog.New(log), Publisher: &fakePublisher{do: func(context.Context, *publish.Delivery) error {
			panic("secret of the callback")
		}}})
		for range 100 {
			if w := serve(h, callback(defaultBody)); w.Code != 500 || w.Header().Get("Connection") != "close" || w.Body.Len() != 0 {
				t.Fatalf("got %d %v %q", w.Code, w.Header(), w.Body)
			}
		}
		if got := counts(t, reg, "acsbridge_panics_total")[""]; got != 100 {
			t.Errorf("%v panics are counted", got)
		}
		if diff := cmp.Diff(map[string]float64{"500 callbacks": 100}, counts(t, reg, "acsbridge_requests_total")); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"ERROR panic in a handler"}, log.messages()); diff != "" || strings.Contains(log.text(), "secret") {
			t.Error(diff, log.text())
		}
	})
	// After the answer, the connection is aborted.
	defer func() {
		if got := recover(); got != http.ErrAbortHandler {
			t.Errorf("got %v, want ErrAbortHandler", got)
		}
	}()
	newHandler(t, ingest.Config{}).ServeHTTP(deadWriter{httptest.NewRecorder()}, callback(defaultBody))
}

func TestHandler_logsOurFaultsOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := everything()
		h := newHandler(t, ingest.Config{Logger: slog.New(log), Publisher: failing(publish.ErrUnavailable)})
		for range 3 {
			serve(h, callback(defaultBody))
		}
		time.Sleep(time.Second)
		serve(h, callback(defaultBody))
		if diff := cmp.Diff([]string{"ERROR callback", "ERROR callback"}, log.messages()); diff != "" {
			t.Error(diff)
		}
		if got, want := log.last("callback", "suppressed"), "2"; got != want {
			t.Errorf("suppressed %s, want %s", got, want)
		}
	})
}

func TestHandler_logsFaultsOfTheSenderAtDebug(t *testing.T) {
	log := everything()
	h := newHandler(t, ingest.Config{Logger: slog.New(log)})
	serve(h, callback(defaultBody))
	if got := log.last("callback", "events"); got != "1" {
		t.Errorf("the line has %s events", got)
	}
	refused, short := callback(defaultBody), callback(defaultBody)
	refused.Header.Del("Authorization")
	short.ContentLength++
	serve(h, refused)
	serve(h, short)
	serve(h, callback(defaultBody).WithContext(context.WithValue(t.Context(), gone{}, true)))
	if got := log.last("callback", "reason"); got != "incomplete" {
		t.Errorf("reason %s of a sender that has gone", got)
	}
	h.Drain()
	serve(h, callback(defaultBody))
	if diff := cmp.Diff(slices.Repeat([]string{"DEBUG callback"}, 5), log.messages()); diff != "" || strings.Contains(log.text(), "secret") {
		t.Error(diff, log.text())
	}
}

// TestHandler_logsAddressesAtDebug shows the effect of --trusted-proxy. At other levels
// there is no address.
func TestHandler_logsAddressesAtDebug(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		debug, info := everything(), &logRecorder{}
		for _, log := range []*logRecorder{debug, info} {
			h := newHandler(t, ingest.Config{Logger: slog.New(log), TrustedProxies: ranges("192.0.2.0/24"), Publisher: failing(publish.ErrUnavailable)})
			for _, test := range []struct{ peer, forwarded, wantClient, wantPeer string }{
				{"192.0.2.1:7", "203.0.113.9, 198.51.100.7", "198.51.100.7", "192.0.2.1"},
				{"[2001:db8::1]:7", "198.51.100.7", "2001:db8::1", "2001:db8::1"},
				{"192.0.2.1:7", "unix:", "unknown", "192.0.2.1"},
			} {
				refused := from(test.peer, "X-Forwarded-For: "+test.forwarded)
				refused.Header.Del("Authorization")
				serve(h, refused)
				if client, peer := log.last("callback", "client"), log.last("callback", "peer"); log == debug && (client != test.wantClient || peer != test.wantPeer) {
					t.Errorf("client %s, peer %s, want %s, %s", client, peer, test.wantClient, test.wantPeer)
				}
				serve(h, from(test.peer, "X-Forwarded-For: "+test.forwarded)) // our fault, at error
				time.Sleep(5 * time.Second)
			}
		}
		if text := info.text(); strings.Contains(text, "192.0.2.1") || strings.Contains(text, "client:") || !strings.Contains(text, "missing_token") {
			t.Errorf("above debug: %s", text)
		}
	})
}

// TestHandler_storesAfterADisconnect holds that a write has five seconds, whether or not
// the sender waits for the answer.
func TestHandler_storesAfterADisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, ingest.Config{Publisher: &fakePublisher{do: func(ctx context.Context, d *publish.Delivery) error {
			if until, ok := ctx.Deadline(); ctx.Err() != nil || !ok || until.Sub(d.ReceivedAt) != 5*time.Second {
				t.Errorf("context: %v, ends after %v", ctx.Err(), until.Sub(d.ReceivedAt))
			}
			return nil
		}}})
		ctx, disconnect := context.WithCancel(context.Background())
		disconnect()
		if w := serve(h, callback(defaultBody).WithContext(ctx)); w.Code != 200 {
			t.Errorf("got %d", w.Code)
		}
	})
}

// TestHandler_pathsThatProxiesReadDifferently: see also the stories 404-*.
func TestHandler_pathsThatProxiesReadDifferently(t *testing.T) {
	h := newHandler(t, ingest.Config{})
	for path, want := range map[string]int{
		"/callbacks/a/b%20c": 200, "/callbacks": 200, "/callbacks/": 200, "/callbacks/%C3%BC": 200,
		"/callbacks/%2fx": 404, "/callbacks/%2Fx": 404, "/callbacks/a%5cb": 404, "/callbacks/a%5Cb": 404, "/callbacks/%00": 404,
		"/callbacks/%2e%2e/x": 404, "/callbacks/%2E": 404, "/callbacks/./x": 404, "/callbacks/../callbacks": 404,
		"/callbacksx": 404, "/Callbacks": 404, "//callbacks": 404,
	} {
		r := httptest.NewRequest(http.MethodPost, "http://bridge.test"+path, strings.NewReader(defaultBody))
		r.Header.Set("Authorization", "Bearer x")
		if w := serve(h, r); w.Code != want {
			t.Errorf("%s: got %d, want %d", path, w.Code, want)
		}
	}
	r := callback(defaultBody)
	r.URL.Path, r.URL.RawPath = `/callbacks/a\b`, `/callbacks/a\b`
	if w := serve(h, r); w.Code != 404 {
		t.Errorf("backslash: got %d", w.Code)
	}
}

func TestHandler_headersOfABody(t *testing.T) {
	h := newHandler(t, ingest.Config{})
	for _, c := range []struct {
		headers []string
		want    int
	}{
		{[]string{"Content-Encoding: identity"}, 200},
		{[]string{"Content-Encoding: Identity"}, 200},
		{[]string{"Content-Encoding: identity", "Content-Encoding: gzip"}, 415},
		{[]string{"Content-Type: application/json; charset=UTF-8"}, 200},
		{[]string{"Content-Type: application/json; charset=latin1"}, 415},
	} {
		if w := serve(h, callback(defaultBody, c.headers...)); w.Code != c.want {
			t.Errorf("%v: got %d, want %d", c.headers, w.Code, c.want)
		}
	}
}

func TestHandler_largestBody(t *testing.T) {
	h := newHandler(t, ingest.Config{})
	for size, want := range map[int]int{256 << 10: 200, 256<<10 + 1: 413} {
		body := defaultBody + strings.Repeat(" ", size-len(defaultBody))
		if w := serve(h, callback(body)); w.Code != want {
			t.Errorf("%d bytes announced: got %d, want %d", size, w.Code, want)
		}
		chunked := callback("")
		chunked.Body, chunked.ContentLength = io.NopCloser(strings.NewReader(body)), -1
		if w := serve(h, chunked); w.Code != want {
			t.Errorf("%d bytes in chunks: got %d, want %d", size, w.Code, want)
		}
	}
}

// probe requests a path as a load balancer does.
func probe(h http.Handler, method, target, peer string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.RemoteAddr = peer
	return serve(h, r)
}

func TestHandler_livez(t *testing.T) {
	h := newHandler(t, ingest.Config{EventGrid: grid(), SourceRanges: ranges("198.51.100.0/24")})
	const balancer = "10.0.0.4:1" // in no source range
	check := func(method, target string, want int, allow string) {
		t.Helper()
		w := probe(h, method, target, balancer)
		if w.Code != want || w.Header().Get("Allow") != allow || w.Body.Len() > 0 || w.Header().Get("Connection") != "close" {
			t.Errorf("%s %s: got %d %v %q, want %d", method, target, w.Code, w.Header(), w.Body, want)
		}
	}
	for range 2 {
		check("GET", "/livez", 200, "")
		check("HEAD", "/livez", 200, "")
		check("GET", "/livez?x=1", 200, "")
		for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"} {
			check(method, "/livez", 405, "GET, HEAD")
		}
		for _, target := range []string{"/livez/", "/livez/x", "/LIVEZ", "/%6civez", "/livez%2f", "/x/../livez", "/"} {
			check("GET", target, 403, "") // the rest is for the source ranges only
		}
	}
	h.Stopping()
	check("GET", "/livez", 503, "")
	check("HEAD", "/livez", 503, "")
	check("POST", "/livez", 405, "GET, HEAD")
	h.Drain()
	check("GET", "/livez", 503, "")
}

// TestHandler_livezIsNotLimited has a client probe that has failed too often to
// authenticate.
func TestHandler_livezIsNotLimited(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := newHandler(t, ingest.Config{Verifier: forging, Registerer: reg})
	const client = "198.51.100.7:1"
	for range 100 { // these are no failures
		probe(h, "GET", "/livez", client)
		probe(h, "POST", "/livez", client)
	}
	flood(h, 50, client)
	h.StopRefilling()
	if w := serve(h, from(client)); w.Code != 503 {
		t.Fatalf("the client has failures left: %d", w.Code)
	}
	if w := probe(h, "GET", "/livez", client); w.Code != 200 {
		t.Errorf("the probe: %d", w.Code)
	}
	h.Stopping()
	probe(h, "GET", "/livez", client)
	want := map[string]float64{"200 livez": 101, "401 callbacks": 50, "405 livez": 100, "503 callbacks": 1, "503 livez": 1}
	if diff := cmp.Diff(want, counts(t, reg, "acsbridge_requests_total")); diff != "" {
		t.Error(diff)
	}
}

// unreadable is a body that must not be read.
type unreadable struct{ t *testing.T }

func (b unreadable) Read([]byte) (int, error) {
	b.t.Error("the body is read")
	return 0, io.EOF
}

// TestHandler_readsNoBodyWithoutAToken posts to each route without the proof that it asks
// for, and on ways that end before the proof.
func TestHandler_readsNoBodyWithoutAToken(t *testing.T) {
	for name, test := range map[string]struct {
		config ingest.Config
		path   string
		token  string
		want   int
	}{
		"no token":           {path: "/callbacks", want: 401},
		"a forged token":     {path: "/callbacks", config: ingest.Config{Verifier: fakeVerifier{reason: verify.BadSignature}}, token: "forged", want: 401},
		"no keys":            {path: "/callbacks", token: "forged", want: 503},
		"no callback key":    {path: "/callbacks", config: ingest.Config{CallbackKeys: []ingest.CallbackKey{{Name: "a", Secret: goodKey}}}, token: "x", want: 401},
		"source range":       {path: "/callbacks", config: ingest.Config{SourceRanges: ranges("198.51.100.0/24")}, token: "x", want: 403},
		"another path":       {path: "/other", token: "x", want: 404},
		"Event Grid, no key": {config: ingest.Config{EventGrid: grid()}, path: "/eventgrid", token: "x", want: 401},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, test.path, unreadable{t})
			r.ContentLength = 1000
			if test.token != "" {
				r.Header.Set("Authorization", "Bearer "+test.token)
			}
			if got := serve(newHandler(t, test.config), r).Code; got != test.want {
				t.Errorf("answered %d, want %d", got, test.want)
			}
		})
	}
}

// TestHandler_stoppingClosesConnections answers what comes before the load balancer
// notices.
func TestHandler_stoppingClosesConnections(t *testing.T) {
	h := newHandler(t, ingest.Config{EventGrid: grid()})
	requests := map[string]func() *http.Request{
		"callback":   func() *http.Request { return callback(defaultBody) },
		"Event Grid": func() *http.Request { return fromGrid("[" + incomingCall + "]") },
		"handshake":  handshake,
	}
	for _, want := range []string{"", "close"} {
		for name, request := range requests {
			if w := serve(h, request()); w.Code != 200 || w.Header().Get("Connection") != want {
				t.Errorf("%s: %d %v, want %q", name, w.Code, w.Header(), want)
			}
			r := request()
			r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
			if w := serve(h, r); w.Code != 200 || w.Header().Get("Connection") != "" {
				t.Errorf("%s over HTTP/2: %d %v", name, w.Code, w.Header())
			}
		}
		h.Stopping()
	}
	h.Drain()
	if w := serve(h, callback(defaultBody)); w.Code != 503 || w.Header().Get("Connection") != "close" {
		t.Errorf("draining: %s", fmt.Sprint(w.Code, w.Header()))
	}
}
