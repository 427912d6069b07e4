// Package bridgetest has what the tests of several packages need around a bridge: files,
// requests with a token, and the sockets of systemd.
package bridgetest

import (
	"crypto/x509"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/internal/certtest"
	"github.com/google/go-cmp/cmp"
)

// WriteFile makes a file that only its owner can read and returns its path.
func WriteFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// ReadFile returns the text of a file.
func ReadFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Log is text that several goroutines write: a log, or what a process prints.
type Log struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write adds to the text.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String returns the text so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Logger returns a log that writes here, from level info on.
func (l *Log) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// Count returns how many lines have all of the texts.
func (l *Log) Count(texts ...string) (n int) {
	for line := range strings.Lines(l.String()) {
		line = strings.ReplaceAll(line, `\\"`, `"`)
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			n++
		}
	}
	return n
}

// Has reports whether a line has all of the texts.
func (l *Log) Has(texts ...string) bool { return l.Count(texts...) > 0 }

// Reference holds the part of a page between two marks against what it must be, and
// writes it instead when update is set.
func Reference(t testing.TB, page, start, end, want string, update bool) {
	t.Helper()
	before, rest, started := strings.Cut(ReadFile(t, page), start)
	got, after, ended := strings.Cut(rest, end)
	if !started || !ended {
		t.Fatalf("no reference in %s", page)
	}
	if update {
		if err := os.WriteFile(page, []byte(before+start+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s differs; run with -update (-want +got):\n%s", page, diff)
	}
}

// Pair returns a self-signed certificate that is valid for a time, and its key, in PEM.
func Pair(t testing.TB, from, until time.Time) (cert, key string) {
	t.Helper()
	certPEM, keyPEM := certtest.SelfSigned(t, &x509.Certificate{NotBefore: from, NotAfter: until})
	return string(certPEM), string(keyPEM)
}

// PairFiles returns the paths of a self-signed certificate that is valid now, and its key.
func PairFiles(t testing.TB) (cert, key string) {
	t.Helper()
	cert, key = Pair(t, time.Time{}, time.Now().Add(time.Hour))
	return WriteFile(t, "cert.pem", cert), WriteFile(t, "key.pem", key)
}

// Post sends a body with a token, unless that is empty, and returns the status of the
// answer.
func Post(t testing.TB, url, token, body string, changes ...func(*http.Request)) int {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for _, change := range changes {
		change(request)
	}
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}
