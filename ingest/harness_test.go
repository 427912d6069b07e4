package ingest_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*fileStore).flushStreamStateLoop"))
}

var generate = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// key returns the issuer's key: one for all tests, because making it is slow.
func key(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// fakeVerifier accepts each Authorization header but those that it is for.
type fakeVerifier struct {
	reason  verify.Reason // of "Bearer forged"; empty means that there are no keys
	verdict chan struct{} // not nil: a verdict takes until it can be received from
}

// gone marks a request whose sender disconnects while its token is verified.
type gone struct{}

func (v fakeVerifier) VerifyBearer(ctx context.Context, authorization []string) (*verify.Claims, error) {
	if v.verdict != nil {
		<-v.verdict
	}
	switch {
	case ctx.Value(gone{}) != nil:
		return nil, context.Canceled
	case len(authorization) == 0:
		return nil, &verify.RefusedError{Reason: verify.MissingToken, Err: errors.New("secret")}
	case authorization[0] == "Bearer forged" && v.reason == "":
		return nil, verify.ErrNoKeys
	case authorization[0] == "Bearer forged":
		return nil, &verify.RefusedError{Reason: v.reason, Err: errors.New("forged")}
	}
	return &verify.Claims{}, nil
}

func (fakeVerifier) CheckReuse(*verify.Claims, []byte) error { return nil }

// fakePublisher keeps what is published. It calls do, if there is one, for each
// callback.
type fakePublisher struct {
	do func(ctx context.Context, d *publish.Delivery) error

	mu          sync.Mutex
	deliveries  []*publish.Delivery
	resources   []string
	events      []schemas.Inbound
	quarantined int
}

func (p *fakePublisher) Publish(ctx context.Context, c *verify.Claims, d *publish.Delivery, events []schemas.Inbound) error {
	p.mu.Lock()
	p.deliveries, p.resources, p.events = append(p.deliveries, d), append(p.resources, c.Resource()), append(p.events, events...)
	p.mu.Unlock()
	if p.do == nil {
		return nil
	}
	return p.do(ctx, d)
}

func (p *fakePublisher) Quarantine(ctx context.Context, _ *verify.Claims, d *publish.Delivery, _, _ string, _ []byte) error {
	p.mu.Lock()
	p.quarantined++
	p.mu.Unlock()
	if p.do == nil {
		return nil
	}
	return p.do(ctx, d)
}

// failing is a publisher that returns err.
func failing(err error) *fakePublisher {
	return &fakePublisher{do: func(context.Context, *publish.Delivery) error { return err }}
}

// waiting is a publisher that takes until it can receive from release.
func waiting(release <-chan struct{}) *fakePublisher {
	return &fakePublisher{do: func(context.Context, *publish.Delivery) error {
		<-release
		return nil
	}}
}

// newHandler returns a handler with fakes for what the configuration lacks.
func newHandler(t *testing.T, config ingest.Config) *ingest.Handler {
	t.Helper()
	if config.Verifier == nil {
		config.Verifier = fakeVerifier{}
	}
	if config.Publisher == nil {
		config.Publisher = &fakePublisher{}
	}
	h, err := ingest.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// callback returns a request that is answered 200; each header is "Name: value".
func callback(body string, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/callbacks", strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer x")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return r
}

// from returns a good callback of a peer.
func from(peer string, headers ...string) *http.Request {
	r := callback(defaultBody, headers...)
	r.RemoteAddr = peer
	return r
}

// serve answers a request without a connection.
func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// ranges parses networks as a configuration has them.
func ranges(texts ...string) (list []netip.Prefix) {
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// counts returns the values of a metric that are not zero, by its labels' values.
func counts(t *testing.T, reg prometheus.Gatherer, name string) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			if v := m.GetCounter().GetValue() + m.GetGauge().GetValue(); f.GetName() == name && v != 0 {
				values[strings.Join(labels, " ")] = v
			}
		}
	}
	return values
}

// logRecorder keeps log lines from a level on.
type logRecorder struct {
	level slog.Level

	mu    sync.Mutex
	lines []map[string]string // attributes, and "level" and "message"
}

// everything returns a recorder of all lines.
func everything() *logRecorder { return &logRecorder{level: slog.LevelDebug} }

func (l *logRecorder) Enabled(_ context.Context, level slog.Level) bool { return level >= l.level }
func (l *logRecorder) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l *logRecorder) WithGroup(string) slog.Handler                    { return l }

func (l *logRecorder) Handle(_ context.Context, r slog.Record) error {
	line := map[string]string{"level": r.Level.String(), "message": r.Message}
	r.Attrs(func(a slog.Attr) bool {
		line[a.Key] = a.Value.String()
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	return nil
}

// messages returns the level and the message of each line.
func (l *logRecorder) messages() (list []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		list = append(list, line["level"]+" "+line["message"])
	}
	return list
}

// last returns an attribute of the last line that has it.
func (l *logRecorder) last(message, name string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range slices.Backward(l.lines) {
		if value, ok := line[name]; ok && line["message"] == message {
			return value
		}
	}
	return ""
}

// text returns all lines.
func (l *logRecorder) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprint(l.lines)
}

// take returns the lines of a reason since the last call, and forgets all.
func (l *logRecorder) take(reason string) (lines []map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if line["reason"] == reason {
			lines = append(lines, line)
		}
	}
	l.lines = nil
	return lines
}

// startServer serves a handler on loopback until the test ends, over TLS with a
// configuration. The functions may change the server.
func startServer(t *testing.T, h *ingest.Handler, tlsConfig *tls.Config, change ...func(*http.Server)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, served := h.Server(tlsConfig), make(chan error, 1)
	for _, f := range change {
		f(server)
	}
	go func() {
		if tlsConfig != nil {
			served <- server.ServeTLS(h.LimitListener(l), "", "")
		} else {
			served <- server.Serve(h.LimitListener(l))
		}
	}()
	t.Cleanup(func() {
		server.Close()
		if err := <-served; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// dialer returns how to connect to an address without TLS.
func dialer(address string) func() (net.Conn, error) {
	return func() (net.Conn, error) { return net.Dial("tcp", address) }
}

// send writes bytes as they are, then reads answers until the server closes the
// connection. open is set when it stays open.
func send(dial func() (net.Conn, error), bytes string) (answers []int, open bool, err error) {
	conn, err := dial()
	if err != nil {
		return nil, false, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, false, err
	}
	if _, err := io.WriteString(conn, bytes); err != nil {
		return nil, false, fmt.Errorf("send: %w", err)
	}
	reader := bufio.NewReader(conn)
	for {
		if len(answers) > 0 {
			// Further answers come at once. When none comes for so long, the
			// connection waits for the next request.
			if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
				return answers, false, err
			}
		}
		response, err := http.ReadResponse(reader, nil)
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			return answers, true, nil
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return answers, false, nil
		case err != nil:
			return answers, false, err
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		answers = append(answers, response.StatusCode)
	}
}

// post sends a callback with an HTTP client.
func post(t *testing.T, client *http.Client, address string, headers ...string) *http.Response {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, "http://"+address+"/callbacks", strings.NewReader(defaultBody))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range append(headers, "Authorization: Bearer x") {
		name, value, _ := strings.Cut(h, ": ")
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response
}
