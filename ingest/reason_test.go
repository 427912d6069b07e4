package ingest_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/verify"
)

// reasonLog keeps the reason in the last line about a callback, and looks for secrets in
// every line.
type reasonLog struct {
	mu     sync.Mutex
	reason string
}

func (l *reasonLog) Enabled(context.Context, slog.Level) bool { return true }
func (l *reasonLog) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *reasonLog) WithGroup(string) slog.Handler            { return l }

func (l *reasonLog) Handle(_ context.Context, r slog.Record) error {
	var line strings.Builder
	line.WriteString(r.Message)
	reason := ""
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "reason" && r.Message == "callback" { // the warning about it comes later
			reason = a.Value.String()
		}
		fmt.Fprint(&line, " ", a)
		return true
	})
	for _, secret := range []string{"eyJ", "c-42", "callerId", "15550100", "0123456789abcdef", "k-42", "CONTEXT", "512d38b6"} {
		if strings.Contains(line.String(), secret) {
			reason = "the log line holds " + secret
		}
	}
	if reason == "" {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reason = reason
	return nil
}

func (l *reasonLog) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reason
}

// TestEveryReasonHasAStory keeps the stories whole.
func TestEveryReasonHasAStory(t *testing.T) {
	told := make(map[string]bool)
	files, _ := filepath.Glob("testdata/stories/*.txtar")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range txtar.Parse(b).Files {
			if f.Name == "reason" {
				told[strings.TrimSpace(string(f.Data))] = true
			}
		}
	}
	want := []string{"ok", "not_found", "method", "too_large", "media_type", "keys_unavailable", "not_durable", "busy", "draining", "incomplete",
		"source_range", "callback_key", "eventgrid_key", "refused_client", "quarantine_rate"}
	for _, r := range verify.Reasons() {
		if r != verify.UnknownKey { // certain only 10 s after a fetch: see package verify
			want = append(want, string(r))
		}
	}
	for _, r := range ingest.Reasons() {
		want = append(want, string(r))
	}
	for _, r := range want {
		if !told[r] {
			t.Errorf("no story ends with the reason %s", r)
		}
	}
}
