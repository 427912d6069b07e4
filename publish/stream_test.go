package publish_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// configured returns a stream's configuration without what the server adds.
func configured(t *testing.T, server *natstest.Server, name string) jetstream.StreamConfig {
	t.Helper()
	stream, err := server.JetStream().Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.Metadata, config.Description = nil, ""
	return config
}

// asConfigured is the stream that the defaults ask for.
func asConfigured() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: "ACS", Subjects: []string{"acs.>"}, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		Storage: jetstream.FileStorage, Compression: jetstream.NoCompression, Replicas: 1,
		MaxAge: 72 * time.Hour, MaxBytes: -1, Duplicates: 10 * time.Minute, AllowDirect: true,
		MaxConsumers: -1, MaxMsgs: -1, MaxMsgSize: -1, MaxMsgsPerSubject: -1,
	}
}

func TestTarget_absentStreams(t *testing.T) {
	events, quarantine := asConfigured(), asConfigured()
	quarantine.Name, quarantine.Subjects, quarantine.MaxBytes = "ACS_QUARANTINE", []string{"acs-quarantine.>"}, 256<<20
	own := asConfigured()
	own.Name, own.Subjects, own.MaxAge, own.MaxBytes, own.Duplicates = "CALLS", []string{"calls.>"}, 0, 1<<20, time.Minute
	ownQuarantine := quarantine
	ownQuarantine.MaxAge, ownQuarantine.Duplicates = 0, time.Minute
	for _, c := range []struct {
		name   string
		config publish.StreamConfig
		want   []jetstream.StreamConfig
	}{
		{"defaults", publish.StreamConfig{}, []jetstream.StreamConfig{events, quarantine}},
		{"settings", publish.StreamConfig{
			Name: "CALLS", Prefix: "calls", MaxAge: publish.NoMaxAge, MaxBytes: 1 << 20, Duplicates: time.Minute,
		}, []jetstream.StreamConfig{own, ownQuarantine}},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := natstest.Start(t)
			b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), Stream: c.config})
			natstest.Until(t, func() bool { return b.Status().Sending })
			server.Await(schemas.QuarantineStream, 0)
			for _, want := range c.want {
				if diff := cmp.Diff(want, configured(t, server, want.Name)); diff != "" {
					t.Error(want.Name, diff)
				}
			}
			if d := b.differences(); len(d) != 0 {
				t.Errorf("a new stream differs: %v", d)
			}
		})
	}
}

func TestDifferences_everySetting(t *testing.T) {
	server := natstest.Start(t)
	for _, c := range []struct {
		want   string // the beginning of the only difference
		change func(*jetstream.StreamConfig)
	}{
		{"", func(*jetstream.StreamConfig) {}},
		{"", func(s *jetstream.StreamConfig) { s.MaxMsgSize = publish.MaxMessage }},
		{"subjects: has [acs.> more], configured [acs.>]", func(s *jetstream.StreamConfig) { s.Subjects = append(s.Subjects, "more") }},
		{"retention: has Interest, configured Limits", func(s *jetstream.StreamConfig) { s.Retention = jetstream.InterestPolicy }},
		{"storage: has Memory, configured File", func(s *jetstream.StreamConfig) { s.Storage = jetstream.MemoryStorage }},
		{"discard: has DiscardNew, configured DiscardOld", func(s *jetstream.StreamConfig) { s.Discard = jetstream.DiscardNew }},
		{"max age: has 1h0m0s, configured 72h0m0s", func(s *jetstream.StreamConfig) { s.MaxAge = time.Hour }},
		{"max bytes: has 1000, configured -1", func(s *jetstream.StreamConfig) { s.MaxBytes = 1000 }},
		{"duplicate window: has 1m0s, configured 10m0s", func(s *jetstream.StreamConfig) { s.Duplicates = time.Minute }},
		{"compression: has S2, configured None; a compressed stream may not come back", func(s *jetstream.StreamConfig) { s.Compression = jetstream.S2Compression }},
		{"direct get: has false; after an outage of more than a quarter of the duplicate window, forwarding waits until it is allowed", func(s *jetstream.StreamConfig) { s.AllowDirect = false }},
		{"max message size: has 270335 bytes", func(s *jetstream.StreamConfig) { s.MaxMsgSize = publish.MaxMessage - 1 }},
		{"no ack: has true", func(s *jetstream.StreamConfig) { s.NoAck = true }},
		{"persist mode: has async", func(s *jetstream.StreamConfig) { s.PersistMode = jetstream.AsyncPersistMode }},
	} {
		t.Run(c.want, func(t *testing.T) {
			config := asConfigured()
			c.change(&config)
			js := server.JetStream()
			natstest.CreateStream(t, js, config)
			b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
			natstest.Until(t, func() bool { return b.Status().Sending })
			got := b.differences()
			if c.want == "" && len(got) != 0 || c.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], c.want)) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			b.stop()
			if err := js.DeleteStream(context.Background(), config.Name); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("replicas", func(t *testing.T) { // one server has no more
		natstest.CreateStream(t, server.JetStream(), asConfigured())
		b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), Stream: publish.StreamConfig{Replicas: 3}})
		natstest.Until(t, func() bool { return len(b.differences()) > 0 })
		if got := b.differences(); len(got) != 1 || got[0] != "replicas: has 1, configured 3" {
			t.Errorf("got %q", got)
		}
	})
}

func TestTarget_update(t *testing.T) {
	server := natstest.Start(t)
	other := asConfigured()
	other.Subjects = append(other.Subjects, "more")
	other.Discard, other.MaxBytes, other.Compression, other.AllowDirect = jetstream.DiscardNew, 1000, jetstream.S2Compression, false
	other.MaxAge, other.Duplicates, other.Description, other.MaxMsgsPerSubject = time.Hour, time.Minute, "ours", 7
	quarantine := asConfigured()
	quarantine.Name, quarantine.Subjects = schemas.QuarantineStream, []string{"acs-quarantine.>"}
	for _, c := range []jetstream.StreamConfig{other, quarantine} {
		natstest.CreateStream(t, server.JetStream(), c)
	}
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), Stream: publish.StreamConfig{Update: true}})
	natstest.Until(t, func() bool { return b.Status().Sending })
	if diff := cmp.Diff(asConfigured(), configured(t, server, "ACS")); diff != "" {
		t.Error(diff)
	}
	if d := b.differences(); len(d) != 0 {
		t.Errorf("still differs: %v", d)
	}
	if got := configured(t, server, schemas.QuarantineStream).MaxBytes; got != 256<<20 {
		t.Errorf("quarantine: max bytes %d", got)
	}
}
