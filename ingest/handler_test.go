package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

// trusting verifies everything that has an Authorization header, unless the
// sender has gone.
type trusting struct{}

func (trusting) VerifyBearer(ctx context.Context, authorization []string) (*verify.Claims, error) {
	if ctx.Value(gone{}) != nil {
		return nil, context.Canceled
	}
	if len(authorization) == 0 {
		return nil, &verify.RefusedError{Reason: verify.MissingToken, Err: errors.New("secret")}
	}
	return &verify.Claims{}, nil
}

func (trusting) CheckReuse(*verify.Claims, []byte) error { return nil }

// gone marks a request whose sender hangs up while its token is verified.
type gone struct{}

// storing is a publisher that calls its function.
type storing func(ctx context.Context, d *publish.Delivery) error

func (f storing) Publish(ctx context.Context, _ *verify.Claims, d *publish.Delivery, _ []schemas.Inbound) error {
	return f(ctx, d)
}

func (f storing) Quarantine(ctx context.Context, _ *verify.Claims, d *publish.Delivery, _, _ string, _ []byte) error {
	return f(ctx, d)
}

func stored(context.Context, *publish.Delivery) error { return nil }

func handler(t *testing.T, config ingest.Config) *ingest.Handler {
	t.Helper()
	if config.Verifier == nil {
		config.Verifier = trusting{}
	}
	if config.Publisher == nil {
		config.Publisher = storing(stored)
	}
	h, err := ingest.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// callback returns a request that is answered 200; each header is
// "Name: value".
func callback(body string, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/callbacks", strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer x")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestEveryAnswerIsCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := handler(t, ingest.Config{Registerer: reg})
	other := callback(defaultBody)
	other.URL.Path = "/other"
	get := callback(defaultBody)
	get.Method = http.MethodGet
	for _, r := range []*http.Request{callback(defaultBody), callback(defaultBody), callback("x"), other, get} {
		serve(h, r)
	}
	counted := map[string]float64{"200 callbacks": 2, "400 callbacks": 1, "404 other": 1, "405 callbacks": 1}
	if diff := cmp.Diff(counted, counts(t, reg, "acsbridge_requests_total")); diff != "" {
		t.Error(diff)
	}
	if got := testutil.CollectAndCount(reg, "acsbridge_requests_total"); got != 40 {
		t.Errorf("%d series of requests, want all of 4 routes and 10 codes", got)
	}
	if got := testutil.CollectAndCount(reg, "acsbridge_request_duration_seconds"); got != 10 {
		t.Errorf("%d series of durations, want all of 10 codes", got)
	}
	want := ""
	for _, reason := range ingest.Reasons() {
		count := "0"
		if reason == ingest.NotJSON {
			count = "1"
		}
		want += `acsbridge_malformed_total{reason="` + string(reason) + `"} ` + count + "\n"
	}
	want = "# HELP acsbridge_malformed_total Verified callbacks and deliveries of Event Grid that were not what is taken there, by reason.\n# TYPE acsbridge_malformed_total counter\n" +
		want[strings.Index(want, "acsbridge_malformed"):]
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "acsbridge_malformed_total"); err != nil {
		t.Error(err)
	}
}

func TestHTTP2ConnectionsStayOpen(t *testing.T) {
	r := callback("x")
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	if w := serve(handler(t, ingest.Config{}), r); w.Code != 400 || w.Header().Get("Connection") != "" {
		t.Errorf("got %d %v", w.Code, w.Header())
	}
}

// lines collects log lines, each with its level and the names of what it says.
type lines struct {
	mu    sync.Mutex
	list  []string
	attrs []string // of the last line
	all   string
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *lines) WithGroup(string) slog.Handler            { return l }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, r.Level.String()+" "+r.Message)
	l.attrs = nil
	r.Attrs(func(a slog.Attr) bool {
		l.attrs = append(l.attrs, a.Key+"="+a.Value.String())
		l.all += a.String() + "\n"
		return true
	})
	return nil
}

func TestAPanicIsAnswered500AndSaysNothing(t *testing.T) {
	reg, log := prometheus.NewRegistry(), &lines{}
	h := handler(t, ingest.Config{Registerer: reg, Logger: slog.New(log), Publisher: storing(func(context.Context, *publish.Delivery) error {
		panic("secret of the callback")
	})})
	if w := serve(h, callback(defaultBody)); w.Code != 500 || w.Header().Get("Connection") != "close" || w.Body.Len() != 0 {
		t.Errorf("got %d %v %q", w.Code, w.Header(), w.Body)
	}
	want := `
# HELP acsbridge_panics_total Faults of the bridge itself, answered 500.
# TYPE acsbridge_panics_total counter
acsbridge_panics_total 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "acsbridge_panics_total"); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(map[string]float64{"500 callbacks": 1}, counts(t, reg, "acsbridge_requests_total")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"ERROR panic in a handler"}, log.list); diff != "" || strings.Contains(log.all, "secret") {
		t.Error(diff, log.all)
	}
}

// deadWriter fails as a connection does whose answer is under way.
type deadWriter struct{ *httptest.ResponseRecorder }

func (deadWriter) WriteHeader(int) { panic("gone") }

func TestPanicsDoNotFloodTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		h := handler(t, ingest.Config{Logger: slog.New(log), Publisher: storing(func(context.Context, *publish.Delivery) error { panic("a bug") })})
		for range 100 {
			serve(h, callback(defaultBody))
		}
		if diff := cmp.Diff([]string{"ERROR panic in a handler"}, log.list); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAPanicAfterTheAnswerAbortsTheConnection(t *testing.T) {
	defer func() {
		if got := recover(); got != http.ErrAbortHandler {
			t.Errorf("got %v, want ErrAbortHandler", got)
		}
	}()
	handler(t, ingest.Config{}).ServeHTTP(deadWriter{httptest.NewRecorder()}, callback(defaultBody))
}

func TestOurFaultsAreErrorsAndOneLineASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		h := handler(t, ingest.Config{Logger: slog.New(log), Publisher: storing(func(context.Context, *publish.Delivery) error {
			return publish.ErrUnavailable
		})})
		for range 3 {
			serve(h, callback(defaultBody))
		}
		time.Sleep(time.Second)
		serve(h, callback(defaultBody))
		if diff := cmp.Diff([]string{"ERROR callback", "ERROR callback"}, log.list); diff != "" {
			t.Error(diff)
		}
		if got, want := log.attrs[len(log.attrs)-1], "suppressed=2"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestTheSendersFaultsAreDebugLinesWithoutTheirErrors(t *testing.T) {
	log := &lines{}
	h := handler(t, ingest.Config{Logger: slog.New(log)})
	serve(h, callback(defaultBody))
	if !strings.Contains(log.all, "events=1") {
		t.Errorf("the line does not count the events: %s", log.all)
	}
	refused := callback(defaultBody)
	refused.Header.Del("Authorization")
	serve(h, refused)
	short := callback(defaultBody)
	short.ContentLength++
	serve(h, short)
	serve(h, callback(defaultBody).WithContext(context.WithValue(t.Context(), gone{}, true)))
	if !slices.Contains(log.attrs, "reason=incomplete") {
		t.Errorf("no line says incomplete: %s", log.all)
	}
	h.Drain()
	serve(h, callback(defaultBody))
	want := slices.Repeat([]string{"DEBUG callback"}, 5)
	if diff := cmp.Diff(want, log.list); diff != "" || strings.Contains(log.all, "secret") {
		t.Error(diff, log.all)
	}
}

// TestDebugLinesHaveTheAddresses shows what --trusted-proxy comes to. At other
// levels there is no address.
func TestDebugLinesHaveTheAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, above := &lines{}, &warnings{}
		for _, handlerOf := range []slog.Handler{log, above} {
			h := handler(t, ingest.Config{Logger: slog.New(handlerOf), TrustedProxies: ranges(t, "192.0.2.0/24"), Publisher: storing(func(context.Context, *publish.Delivery) error {
				return publish.ErrUnavailable
			})})
			for _, test := range []struct{ peer, forwarded, want string }{
				{"192.0.2.1:7", "203.0.113.9, 198.51.100.7", "client=198.51.100.7 peer=192.0.2.1"},
				{"[2001:db8::1]:7", "198.51.100.7", "client=2001:db8::1 peer=2001:db8::1"},
				{"192.0.2.1:7", "unix:", "client=unknown peer=192.0.2.1"},
			} {
				refused := from(test.peer, "X-Forwarded-For: "+test.forwarded)
				refused.Header.Del("Authorization")
				serve(h, refused)
				if handlerOf == log && !strings.Contains(strings.Join(log.attrs, " "), test.want) {
					t.Errorf("got %v, want %s", log.attrs, test.want)
				}
				serve(h, from(test.peer, "X-Forwarded-For: "+test.forwarded)) // our fault, at error
				time.Sleep(5 * time.Second)
			}
		}
		if text := fmt.Sprint(above.list); strings.Contains(text, "192.0.2.1") || strings.Contains(text, "client=") || !strings.Contains(text, "missing_token") {
			t.Errorf("above debug: %s", text)
		}
	})
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	for _, path := range []string{"callbacks", "/callbacks/", "/a%2Fb", "/a/../b"} {
		if _, err := ingest.New(ingest.Config{Path: path, Verifier: trusting{}, Publisher: storing(stored)}); err == nil {
			t.Errorf("path %q was taken", path)
		}
	}
	for _, config := range []ingest.Config{{Verifier: trusting{}}, {Publisher: storing(stored)}} {
		if _, err := ingest.New(config); err == nil {
			t.Error("a part is missing and nobody says so")
		}
	}
}

func TestCallbacksUnderWayAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for configured, limit := range map[int]int{0: ingest.DefaultMaxInFlight, 1: 1} {
			release := make(chan struct{})
			h := handler(t, ingest.Config{MaxInFlight: configured, Publisher: storing(func(context.Context, *publish.Delivery) error {
				<-release
				return nil
			})})
			for round := range 2 { // the second finds all places free again
				for range limit {
					go serve(h, callback(defaultBody))
				}
				synctest.Wait()
				for range 2 {
					if w := serve(h, callback(defaultBody)); w.Code != 503 {
						t.Errorf("limit %d, round %d: got %d, want 503", limit, round, w.Code)
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

func TestAHangUpDoesNotCancelTheWriteAndTimeDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := handler(t, ingest.Config{Publisher: storing(func(ctx context.Context, d *publish.Delivery) error {
			until, ok := ctx.Deadline()
			if left := until.Sub(d.ReceivedAt); ctx.Err() != nil || !ok || left < 4*time.Second || left > 5*time.Second {
				t.Errorf("context: %v, ends after %v", ctx.Err(), left)
			}
			return nil
		})})
		ctx, hangUp := context.WithCancel(context.Background())
		hangUp()
		for range 30 {
			if w := serve(h, callback(defaultBody).WithContext(ctx)); w.Code != 200 {
				t.Errorf("got %d", w.Code)
			}
			time.Sleep(300 * time.Millisecond)
		}
	})
}

func TestPathsThatProxiesReadDifferently(t *testing.T) {
	h := handler(t, ingest.Config{})
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

func TestHeadersOfABody(t *testing.T) {
	h := handler(t, ingest.Config{})
	for _, c := range []struct {
		body    string
		headers []string
		want    int
	}{
		{defaultBody, []string{"Content-Encoding: identity"}, 200},
		{defaultBody, []string{"Content-Encoding: Identity"}, 200},
		{defaultBody, []string{"Content-Encoding: identity", "Content-Encoding: gzip"}, 415},
		{defaultBody, []string{"Content-Type: application/json; charset=UTF-8"}, 200},
		{defaultBody, []string{"Content-Type: application/json; charset=latin1"}, 415},
	} {
		if w := serve(h, callback(c.body, c.headers...)); w.Code != c.want {
			t.Errorf("%v: got %d, want %d", c.headers, w.Code, c.want)
		}
	}
}

func TestTheLargestBody(t *testing.T) {
	h := handler(t, ingest.Config{})
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
