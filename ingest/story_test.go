package ingest_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/publish/journal"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

const audience = "7c9e6679-7425-40de-944b-e07fc1f90ae7"

// TestStories runs testdata/stories/*.txtar. A story has requests and their answers,
// and what is in the streams afterwards. See the README there. There must be one for
// each reason, but those of tokens, which are in TestRefusalLog_everyKind.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/stories/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	reasons := make(map[string]bool)
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			if f.Name == "reason" {
				reasons[strings.TrimSpace(string(f.Data))] = true
			}
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { newStory(t, archive).run(archive) })
	}
	want := []string{"ok", "not_found", "method", "too_large", "media_type", "keys_unavailable", "not_durable", "busy", "draining", "incomplete",
		"source_range", "callback_key", "eventgrid_key", "refused_client", "quarantine_rate"}
	for _, r := range ingest.Reasons() {
		want = append(want, string(r))
	}
	for _, r := range want {
		if !reasons[r] {
			t.Errorf("no story has the reason %s", r)
		}
	}
}

// story is a bridge with real parts: key server, verifier, journal, stream,
// HTTP server.
type story struct {
	t         *testing.T
	nats      *natstest.Server
	issuer    *acstest.Issuer
	bridge    *publish.Publisher
	handler   *ingest.Handler
	address   string
	log       *logRecorder
	tokens    map[string]string // by directive, so that a story can repeat one
	halfClose bool              // the sender closes its side after the request

	request, body []byte
}

// newStory builds the bridge that a story's settings ask for.
func newStory(t *testing.T, archive *txtar.Archive) *story {
	settings := settings(t, archive)
	s := &story{t: t, nats: natstest.Start(t), log: everything(), tokens: make(map[string]string), halfClose: settings["half-close"] == "yes"}
	logger := slog.New(s.log)
	var err error
	if s.issuer, err = acstest.NewIssuer(acstest.IssuerOptions{Key: key(t)}); err != nil {
		t.Fatal(err)
	}
	verifier, err := verify.New(verify.Config{
		Issuer: s.issuer.Name(), MetadataURL: s.issuer.MetadataURL(), Transport: s.issuer.Transport(),
		Resources:  []verify.Resource{{Name: "contoso", Audience: audience}},
		TokenReuse: verify.ReusePolicy(settings["token-reuse"]),
	})
	if err != nil {
		t.Fatal(err)
	}
	if settings["nats"] == "disconnected" {
		s.nats.Stop()
	}
	link, err := natsconn.Connect(natsconn.Config{URL: s.nats.URL()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	opts := publish.Options{Link: link, Dir: t.TempDir(), AckWait: time.Minute, InsecureLimits: true}
	switch settings["journal"] {
	case "full":
		opts.Journal = journal.Options{MaxBytes: 10}
	case "off":
		opts.Dir = ""
	}
	if s.bridge, err = publish.Open(opts); err != nil {
		t.Fatal(err)
	}
	config := ingest.Config{Verifier: verifier, Publisher: s.bridge, Logger: logger}
	for name, list := range map[string]*[]netip.Prefix{"source-range": &config.SourceRanges, "trusted-proxy": &config.TrustedProxies} {
		if settings[name] != "" {
			*list = ranges(settings[name])
		}
	}
	if secret := settings["callback-key"]; secret != "" {
		config.CallbackKeys = []ingest.CallbackKey{{Name: "story", Secret: secret}}
	}
	gridVerifier := s.eventGrid(&config, settings["eventgrid"])
	handler, err := ingest.New(config)
	if err != nil {
		t.Fatal(err)
	}
	s.handler = handler
	if settings["draining"] == "yes" {
		handler.Drain()
	}
	if settings["max-in-flight"] == "none" {
		handler.AllInUse()
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.bridge.Run(ctx) })
	if settings["keys"] != "unreachable" {
		wg.Go(func() { _ = verifier.Run(ctx) })
		wg.Go(func() { _ = gridVerifier.Run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		if err := s.bridge.Close(); err != nil {
			t.Error(err)
		}
		link.Close()
	})
	s.address = startServer(t, handler, nil)
	if settings["keys"] != "unreachable" {
		natstest.Until(t, func() bool { return verifier.Keys().Held > 0 && gridVerifier.Keys().Held > 0 })
	}
	return s
}

// reason returns the reason in the last line about a callback.
func (s *story) reason() string { return s.log.last("callback", "reason") }

// settings reads the story's "settings" section: lines of "name value".
func settings(t *testing.T, archive *txtar.Archive) map[string]string {
	known := []string{"nats", "journal", "keys", "max-in-flight", "draining", "token-reuse", "half-close", "source-range", "trusted-proxy", "callback-key", "eventgrid"}
	m := make(map[string]string)
	for _, f := range archive.Files {
		if f.Name != "settings" {
			continue
		}
		for line := range strings.Lines(string(f.Data)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			if !slices.Contains(known, name) {
				t.Fatalf("setting %q is not one of %v", name, known)
			}
			m[name] = value
		}
	}
	return m
}

// run goes through the sections in order. A request is sent when its response
// section comes.
func (s *story) run(archive *txtar.Archive) {
	for _, f := range archive.Files {
		switch f.Name {
		case "settings":
		case "request":
			s.request, s.body = f.Data, []byte(defaultBody)
		case "body":
			s.body = bytes.TrimSuffix(f.Data, []byte("\n"))
		case "response":
			s.exchange(string(f.Data))
		case "again":
			s.again(strings.TrimSpace(string(f.Data)))
		case "reason":
			if got, want := s.reason(), strings.TrimSpace(string(f.Data)); got != want {
				s.t.Errorf("reason: got %q, want %q", got, want)
			}
		case "published":
			s.published(schemas.Stream, string(f.Data))
		case "quarantined":
			s.published(schemas.QuarantineStream, string(f.Data))
		case "no refill":
			s.handler.StopRefilling()
		case "nats back":
			s.nats.Restart()
		default:
			s.t.Fatalf("section %q is unknown", f.Name)
		}
	}
}

// defaultBody is the body of a request without a body section.
const defaultBody = `[{"id":"e-1","source":"calling/callConnections/c-42","type":"Microsoft.Communication.CallConnected","data":{"callConnectionId":"c-42"},"time":"2026-03-01T12:00:00.1234567+00:00","specversion":"1.0","datacontenttype":"application/json","subject":"calling/callConnections/c-42"}]`

var placeholder = regexp.MustCompile(`\{\{(token[^}]*|x (\d+))\}\}`)

// exchange sends the request and compares the answer with the section: the status,
// then headers that must be there.
func (s *story) exchange(want string) {
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	if _, err := conn.Write(s.wire()); err != nil && !errors.Is(err, net.ErrClosed) {
		s.t.Log("write:", err) // the answer may come before the body is through
	}
	if s.halfClose {
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			s.t.Fatal(err)
		}
	}
	got, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer got.Body.Close()
	want, reply, _ := strings.Cut(want, "\n\n")
	status, headers, _ := strings.Cut(want, "\n")
	if text := fmt.Sprint(got.StatusCode); text != strings.TrimSpace(status) {
		s.t.Errorf("status: got %s, want %s (reason %s)", text, status, s.reason())
	}
	for line := range strings.Lines(headers) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if name == "Connection" { // ReadResponse takes it out
			if got.Close != (value == "close") {
				s.t.Errorf("connection: closed %v, want %s", got.Close, value)
			}
		} else if diff := cmp.Diff(value, got.Header.Get(name)); diff != "" {
			s.t.Error(name, diff)
		}
	}
	s.checkEveryAnswer(got, strings.TrimSuffix(reply, "\n"))
}

// again sends the request so many times more.
func (s *story) again(times string) {
	n, err := strconv.Atoi(times)
	if err != nil {
		s.t.Fatal(err)
	}
	for range n {
		if _, open, _ := send(dialer(s.address), string(s.wire())); open {
			s.t.Fatal("a refusal left the connection open")
		}
	}
}

// checkEveryAnswer checks what is true of all answers and all log lines. Only the
// answer to a handshake has a body.
func (s *story) checkEveryAnswer(r *http.Response, reply string) {
	log := s.log.text()
	for _, secret := range []string{"eyJ", "c-42", "callerId", "15550100", "0123456789abcdef", "k-42", "CONTEXT", "512d38b6"} {
		if strings.Contains(log, secret) {
			s.t.Errorf("the log has %s: %s", secret, log)
		}
	}
	if body, err := io.ReadAll(r.Body); err != nil || string(body) != reply {
		s.t.Errorf("the answer's body is %q, want %q; %v", body, reply, err)
	}
	if refused := r.StatusCode != http.StatusOK; refused && !r.Close {
		s.t.Error("a refusal left the connection open")
	}
	want := map[int]string{401: `Bearer error="invalid_token"`}[r.StatusCode]
	if got := r.Header.Get("WWW-Authenticate"); got != want {
		s.t.Errorf("WWW-Authenticate: got %q, want %q", got, want)
	}
	want = map[int]string{503: "5"}[r.StatusCode]
	if got := r.Header.Get("Retry-After"); got != want {
		s.t.Errorf("Retry-After: got %q, want %q", got, want)
	}
}

// wire returns the request's bytes: its lines as they are, and the headers that every
// request needs.
func (s *story) wire() []byte {
	fill := func(b []byte) []byte {
		return placeholder.ReplaceAllFunc(b, func(match []byte) []byte {
			directive := string(match[2 : len(match)-2])
			var n int
			if _, err := fmt.Sscanf(directive, "x %d", &n); err == nil {
				return bytes.Repeat([]byte("x"), n)
			}
			return []byte(s.token(directive))
		})
	}
	body := fill(s.body)
	lines := strings.Split(strings.TrimSpace(string(fill(s.request))), "\n")
	head := strings.ToLower(strings.Join(lines[1:], "\n"))
	lines[0] += " HTTP/1.1"
	lines = append(lines, "Host: bridge.test")
	switch {
	case strings.Contains(head, "transfer-encoding: chunked"):
		body = fmt.Appendf(nil, "%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	case !strings.Contains(head, "content-length:"):
		lines = append(lines, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	return append([]byte(strings.Join(lines, "\r\n")+"\r\n\r\n"), body...)
}

// drain waits until the streams have everything that was answered.
func (s *story) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if left := s.bridge.Drain(ctx); left != 0 {
		s.t.Fatalf("%d records are not in the stream: %v", left, s.bridge.Status().Notes)
	}
}

// published compares a stream with the section: one line a message, its subject, then
// optionally headers as name=value and its payload. The messages of one call are in
// order; between calls there is none.
func (s *story) published(stream, want string) {
	s.drain()
	lines := strings.Split(strings.TrimSpace(want), "\n")
	if lines[0] == "" {
		lines = nil
	}
	messages := s.nats.Messages(stream)
	if len(messages) != len(lines) {
		s.t.Errorf("stream %s has %d messages, want %d", stream, len(messages), len(lines))
	}
	call := func(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }
	slices.SortStableFunc(messages, func(a, b *jetstream.RawStreamMsg) int { return strings.Compare(call(a.Subject), call(b.Subject)) })
	slices.SortStableFunc(lines, func(a, b string) int {
		a, _, _ = strings.Cut(a, " ")
		b, _, _ = strings.Cut(b, " ")
		return strings.Compare(call(a), call(b))
	})
	for i := range min(len(messages), len(lines)) {
		m := messages[i]
		subject, rest, _ := strings.Cut(lines[i], " ")
		if m.Subject != subject {
			s.t.Errorf("message %d: subject %s, want %s", i, m.Subject, subject)
		}
		for rest != "" && !strings.HasPrefix(rest, "{") {
			var field string
			field, rest, _ = strings.Cut(rest, " ")
			name, value, _ := strings.Cut(field, "=")
			if got := m.Header.Get(name); got != value {
				s.t.Errorf("message %d: %s is %q, want %q", i, name, got, value)
			}
		}
		if rest != "" && rest != string(m.Data) {
			s.t.Errorf("message %d: payload %s, want %s", i, m.Data, rest)
		}
	}
}
