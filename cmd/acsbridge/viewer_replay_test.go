package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestAViewerSendsEventsElsewhere runs what reads the stream alone with the
// rights of a viewer, and what does more, which says what is missing.
func TestAViewerSendsEventsElsewhere(t *testing.T) {
	viewer := viewed(t)
	var posts atomic.Int32
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		posts.Add(1)
	}))
	defer app.Close()
	for command, want := range map[string]string{
		"replay --since all --dry-run":                                  `^would send 2 events`,
		"replay --since all --to stdout":                                `(?s)^\{"stream":"ACS","sequence":1,.*\n.*"sequence":2,.*2 events sent to the standard output\n$`,
		"replay --call c-1 --to " + app.URL:                             `2 events sent to http`,
		"replay --since seq:2 --to file:" + t.TempDir() + "/e --redact": `1 event sent to`,
	} {
		var out bytes.Buffer
		if err := run(t.Context(), append(strings.Fields(command), viewer...), stdio{out: &out, err: &out}); err != nil || !regexp.MustCompile(want).Match(out.Bytes()) {
			t.Errorf("%s: %v, want %s, got\n%s", command, err, want, out.Bytes())
		}
	}
	if n := posts.Load(); n != 2 {
		t.Errorf("%d posts", n)
	}
	var out bytes.Buffer
	began := time.Now()
	err := run(t.Context(), append([]string{"replay", "--since=all", "--into-live", "--yes"}, viewer...), stdio{out: &out, err: &out})
	if err == nil || !strings.Contains(err.Error(), "is the right to publish on acs.> missing?") || !strings.Contains(out.String(), "it goes on with") {
		t.Errorf("after %v: error %v\n%s", time.Since(began), err, out.Bytes())
	}
}
