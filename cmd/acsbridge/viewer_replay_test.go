package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestViewer_replay runs what reads the stream alone with the
// rights of a viewer, and what does more, which says what is missing.
func TestViewer_replay(t *testing.T) {
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
		runAs(t, viewer, command, want)
	}
	if n := posts.Load(); n != 2 {
		t.Errorf("%d posts", n)
	}
	var out sharedLog
	began := time.Now()
	err := run(t.Context(), append([]string{"replay", "--since=all", "--into-live", "--yes"}, viewer...), stdio{out: &out, err: &out})
	if err == nil || !strings.Contains(err.Error(), "is the right to publish on acs.> missing?") || !strings.Contains(out.String(), "it continues with") {
		t.Errorf("after %v: error %v\n%s", time.Since(began), err, out.String())
	}
}

// sharedLog is what a command and the log of its connection write to.
type sharedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *sharedLog) Write(text []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(text)
}

func (s *sharedLog) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// TestViewer_listen does so beside an operator who stores
// something.
func TestViewer_listen(t *testing.T) {
	viewer := viewed(t)
	js := natstest.JetStream(t, viewer[1])
	config := jetstream.StreamConfig{Name: schemas.QuarantineStream, Subjects: []string{schemas.QuarantinePrefix + ".>"}, AllowDirect: true}
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	m := nats.NewMsg("acs-quarantine.contoso.not_json")
	m.Header.Set(schemas.HeaderQuarantineReason, "not_json")
	m.Data = []byte("hello")
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]string{"quarantine list": ` not_json +\S* +5 bytes`, "quarantine show 1 --show-pii": `"data": "aGVsbG8="`} {
		runAs(t, viewer, command, want)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
	}))
	defer app.Close()
	storing, stop := context.WithCancel(t.Context())
	var operator sync.WaitGroup
	operator.Go(func() { // again until one is posted: the beginning of the listening is not known
		for storing.Err() == nil {
			if _, err := js.Publish(storing, "acs.contoso.PlayCompleted.6.c-2", []byte(`{"id":"1","source":"s","type":"PlayCompleted"}`)); err != nil && storing.Err() == nil {
				t.Error(err)
			}
		}
	})
	var out, log bytes.Buffer
	err := run(ctx, append([]string{"listen", "--forward", app.URL, "--type", "PlayCompleted"}, viewer...), stdio{out: &out, err: &log})
	stop()
	operator.Wait()
	if err != nil || !strings.Contains(out.String(), "  200 in ") || strings.Contains(log.String(), "violation") {
		t.Errorf("%v\n%s%s", err, out.Bytes(), log.Bytes())
	}
}
