package publish_test

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// A record goes where the settings of the moment say, whatever they said when it was
// journaled.
func TestForwarder_changedSettings(t *testing.T) {
	nowhere := "nats://127.0.0.1:1"
	for name, mistake := range map[string]publish.StreamConfig{
		"stream":            {Name: "CALLS"},
		"prefix":            {Prefix: "calls"},
		"stream and prefix": {Name: "CALLS", Prefix: "calls"},
	} {
		t.Run(name, func(t *testing.T) {
			server := natstest.Start(t)
			dir := t.TempDir()
			b := start(t, server.URL(), publish.Options{Dir: dir})
			b.publish("a", 1, 3)
			b.drained()
			b.stop()
			b = start(t, nowhere, publish.Options{Dir: dir, Stream: mistake})
			b.publish("a", 4, 6)
			b.quarantine("no event")
			b.stop()
			b = start(t, server.URL(), publish.Options{Dir: dir})
			b.publish("a", 7, 9)
			b.drained()
			checkStream(t, server, map[string]int{"a": 9})
			for _, m := range server.Messages(schemas.Stream) {
				if m.Subject != "acs.contoso.PlayCompleted.c.a" || m.Header.Get(jetstream.ExpectedStreamHeader) != "ACS" {
					t.Errorf("%s is stored as %s, for stream %s", m.Header.Get("ce-id"), m.Subject, m.Header.Get(jetstream.ExpectedStreamHeader))
				}
			}
			if n := len(server.Messages(schemas.QuarantineStream)); n != 1 {
				t.Errorf("quarantine has %d messages, want 1", n)
			}
		})
	}
}

// While a mistake lasts, records wait and the cause is said; nothing becomes a dead letter.
func TestForwarder_waitsUntilItIsMended(t *testing.T) {
	for name, c := range map[string]struct {
		mistaken publish.Options // under which events are journaled, with NATS there
		as       func(url string) natsconn.Config
		server   func(*server.Options)
		says     string
	}{
		"no such domain": {
			as:   func(url string) natsconn.Config { return natsconn.Config{URL: url, Domain: "elsewhere"} },
			says: "no responders available for request; JetStream is off, its domain is another (--nats-domain)",
		},
		"subjects of another stream": {
			mistaken: publish.Options{Stream: publish.StreamConfig{Name: "CALLS"}},
			says:     "err_code=10065 description=subjects overlap with an existing stream; another stream takes these subjects",
		},
		"too many replicas": {
			mistaken: publish.Options{Stream: publish.StreamConfig{Name: "CALLS", Prefix: "calls", Replicas: 3}},
			says:     "err_code=10074 description=replicas > 1 not supported in non-clustered mode; this NATS is one server: set --stream-replicas 1",
		},
		"no room": {
			mistaken: publish.Options{Stream: publish.StreamConfig{Name: "CALLS", Prefix: "calls", MaxBytes: 1 << 50}},
			says:     "err_code=10047 description=insufficient storage resources available; the server or the account has too little disk",
		},
		"window above the server's limit": {
			mistaken: publish.Options{Stream: publish.StreamConfig{Name: "CALLS", Prefix: "calls"}},
			server:   func(o *server.Options) { o.JetStreamLimits.Duplicates = 60e9 },
			says:     "duplicates window can not be larger then server limit of 1m0s; the server refuses a setting of the stream: --stream-duplicate-window",
		},
	} {
		t.Run(name, func(t *testing.T) {
			change := func(*server.Options) {}
			if c.server != nil {
				change = c.server
			}
			nats := natstest.Start(t, change)
			own := asConfigured()
			own.Duplicates = 60e9
			natstest.CreateStream(t, nats.JetStream(), own)
			as := natsconn.Config{URL: nats.URL()}
			if c.as != nil {
				as = c.as(nats.URL())
			}
			dir := t.TempDir()
			c.mistaken.Dir = dir
			b := startAs(t, as, c.mistaken)
			natstest.Until(t, func() bool { return b.says(c.says) }) // also before the first event
			b.publish("a", 1, 3)
			if s := b.Status(); s.Waiting != 3 || s.Sending {
				t.Errorf("status: %+v", s)
			}
			b.stop()
			b = start(t, nats.URL(), publish.Options{Dir: dir})
			b.drained()
			checkStream(t, nats, map[string]int{"a": 3})
			if _, err := os.Stat(filepath.Join(dir, "dead-letters.ndjson")); !os.IsNotExist(err) {
				t.Errorf("dead letters were written: %v", err)
			}
		})
	}
}

// With an embedded server the tail that it acknowledged is sent again at a start, to
// that stream, and not to the one that the settings name now.
func TestForwarder_acknowledgedByAnotherStream(t *testing.T) {
	server := natstest.Start(t)
	dir := t.TempDir()
	run := func(config publish.StreamConfig, from, to int) {
		b := start(t, server.URL(), publish.Options{Dir: dir, Stream: config, KeepAcked: time.Hour})
		b.publish("a", from, to)
		b.drained()
		b.stop()
	}
	calls := publish.StreamConfig{Name: "CALLS", Prefix: "calls"}
	run(publish.StreamConfig{}, 1, 3)
	run(calls, 4, 5)
	run(calls, 6, 6)
	checkStream(t, server, map[string]int{"a": 3})
	if n := len(server.Messages("CALLS")); n != 3 {
		t.Errorf("CALLS has %d messages, want 3", n)
	}
	if err := server.JetStream().DeleteStream(t.Context(), "CALLS"); err != nil {
		t.Fatal(err)
	}
	run(calls, 7, 7)
	if n := len(server.Messages("CALLS")); n != 4 {
		t.Errorf("CALLS has %d messages after it was lost, want 4", n)
	}
}

// A journal that version 1 left behind, in which events and quarantine are together, is
// sent as the settings of today say.
func TestForwarder_journalOfVersion1(t *testing.T) {
	server := natstest.Start(t)
	dir := t.TempDir()
	unpack(t, "testdata/journal-v1.tar.gz", dir)
	b := start(t, server.URL(), publish.Options{Dir: dir, Stream: publish.StreamConfig{Name: "CALLS", Prefix: "calls"}})
	b.drained()
	got := make(map[string]string) // of each call, in its order
	for _, m := range server.Messages("CALLS") {
		got[m.Subject] += m.Header.Get(schemas.HeaderEventID) + " "
	}
	want := map[string]string{"calls.contoso.PlayCompleted.c.a": "a-1 a-2 a-3 ", "calls.contoso.PlayCompleted.3.b": "b-1 "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("the stream (-want +got):\n", diff)
	}
	if q := server.Messages(schemas.QuarantineStream); len(q) != 1 || string(q[0].Data) != "no event" {
		t.Errorf("quarantine has %d messages, want 1", len(q))
	}
}

// unpack unpacks an archive of a data directory.
func unpack(t *testing.T, archive, dir string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for files := tar.NewReader(unzipped); ; {
		h, err := files.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.Clean("/"+h.Name))
		if h.Typeflag == tar.TypeDir {
			if err := os.MkdirAll(path, 0o700); err != nil {
				t.Fatal(err)
			}
			continue
		}
		content, err := io.ReadAll(files)
		if err == nil {
			err = os.WriteFile(path, content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
