package publish_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// Every setting that drops, hides or rewrites events is named with its consequence,
// and --stream-update removes it where a stream allows that.
func TestDifferences_dangers(t *testing.T) {
	server := natstest.Start(t)
	natstest.CreateStream(t, server.JetStream(), jetstream.StreamConfig{Name: "UPSTREAM", Subjects: []string{"upstream"}})
	for _, c := range []struct {
		want   string // the beginning of a difference
		change func(*jetstream.StreamConfig)
		stays  bool // it cannot be changed
	}{
		{"max messages: has 2, configured none; the oldest events are dropped", func(s *jetstream.StreamConfig) { s.MaxMsgs = 2 }, false},
		{"max messages per subject: has 1, configured none; of a call's events of one type only the last 1 are kept",
			func(s *jetstream.StreamConfig) { s.MaxMsgsPerSubject = 1 }, false},
		{"discard new per subject: has true; it refuses further events of a call", func(s *jetstream.StreamConfig) {
			s.Discard, s.DiscardNewPerSubject, s.MaxMsgsPerSubject = jetstream.DiscardNew, true, 1
		}, false},
		{"retention: has Interest, configured Limits; it removes events", func(s *jetstream.StreamConfig) { s.Retention = jetstream.InterestPolicy }, false},
		{"retention: has WorkQueue, configured Limits; it removes events", func(s *jetstream.StreamConfig) { s.Retention = jetstream.WorkQueuePolicy }, true},
		{"storage: has Memory, configured File; it is empty when its server starts again", func(s *jetstream.StreamConfig) { s.Storage = jetstream.MemoryStorage }, true},
		{"subject transform: has acs.> to prod.acs.>; consumers and commands do not find events", func(s *jetstream.StreamConfig) {
			s.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "acs.>", Destination: "prod.acs.>"}
		}, false},
		{"republish: has acs.> to acs-quarantine.>; a copy of each event comes back", func(s *jetstream.StreamConfig) {
			s.RePublish = &jetstream.RePublish{Source: "acs.>", Destination: "acs-quarantine.>"}
		}, false},
		{"sealed: has true; the stream takes no events", nil, true},
		{"mirror: it copies another stream and takes no events", func(s *jetstream.StreamConfig) {
			s.Subjects, s.Mirror = nil, &jetstream.StreamSource{Name: "UPSTREAM"}
		}, false},
		{"sources: it takes messages of UPSTREAM", func(s *jetstream.StreamConfig) {
			s.Sources = []*jetstream.StreamSource{{Name: "UPSTREAM"}}
		}, false},
		{"rollup: has true", func(s *jetstream.StreamConfig) { s.AllowRollup = true }, false},
		{"message counter: has true; the stream takes counters alone", func(s *jetstream.StreamConfig) { s.AllowMsgCounter = true }, true},
		{"subject delete marker: has 1m0s", func(s *jetstream.StreamConfig) { s.AllowMsgTTL, s.SubjectDeleteMarkerTTL = true, 60e9 }, false},
		{"no ack: has true", func(s *jetstream.StreamConfig) { s.NoAck = true }, false},
		{"max message size: has 1000 bytes", func(s *jetstream.StreamConfig) { s.MaxMsgSize = 1000 }, false},
	} {
		t.Run(c.want, func(t *testing.T) {
			config := asConfigured()
			if c.change != nil {
				c.change(&config)
			}
			js := server.JetStream()
			natstest.CreateStream(t, server.JetStream(), config)
			if c.change == nil { // a stream cannot be made sealed
				config.Sealed = true
				if _, err := js.UpdateStream(t.Context(), config); err != nil {
					t.Fatal(err)
				}
			}
			named := func(b *bridge) bool {
				return slices.ContainsFunc(b.differences(), func(d string) bool { return strings.HasPrefix(d, c.want) })
			}
			var log bridgetest.Log
			b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), Logger: log.Logger()})
			natstest.Until(t, func() bool { return named(b) })
			for _, d := range b.differences() {
				fixed := strings.HasSuffix(d, "; it cannot be changed: make the stream anew")
				if (c.change == nil || strings.HasPrefix(d, c.want)) && fixed != c.stays { // of a sealed stream nothing can
					t.Errorf("it is said that it cannot be changed: %v, want %v: %s", fixed, c.stays, d)
				}
			}
			if !await(&log, "level=WARN", "stream is not as configured", c.want) {
				t.Errorf("the log does not say it:\n%s", log.String())
			}
			b.stop()
			b = start(t, server.URL(), publish.Options{Dir: t.TempDir(), Stream: publish.StreamConfig{Update: true}})
			natstest.Until(t, func() bool { return b.known() })
			if got := named(b); got != c.stays {
				t.Errorf("after --stream-update it is named: %v, want %v: %v", got, c.stays, b.differences())
			}
			b.stop()
			if err := js.DeleteStream(context.Background(), config.Name); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A copy that goes elsewhere is for a live page, say, and not a difference.
func TestDifferences_republishElsewhere(t *testing.T) {
	server := natstest.Start(t)
	config := asConfigured()
	config.RePublish = &jetstream.RePublish{Source: "acs.>", Destination: "live.>"}
	natstest.CreateStream(t, server.JetStream(), config)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
	natstest.Until(t, func() bool { return b.known() })
	if d := b.differences(); len(d) != 0 {
		t.Errorf("got %v", d)
	}
}

// What was not verified as events must not come to the stream of the events, whatever
// prefix that has.
func TestDifferences_quarantineRepublished(t *testing.T) {
	server := natstest.Start(t)
	config := asConfigured()
	config.Name, config.Subjects = schemas.QuarantineStream, []string{schemas.QuarantinePrefix + ".>"}
	config.RePublish = &jetstream.RePublish{Source: ">", Destination: "calls.>"}
	natstest.CreateStream(t, server.JetStream(), config)
	named := "republish: has > to calls.>; a copy of each event comes back to a stream of the bridge"
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), Stream: publish.StreamConfig{Prefix: "calls"}})
	natstest.Until(t, func() bool { return b.says(named) })
	b.stop()
	b = start(t, server.URL(), publish.Options{Dir: t.TempDir(), Stream: publish.StreamConfig{Prefix: "calls", Update: true}})
	natstest.Until(t, func() bool { return b.Status().Sending })
	server.Await(schemas.QuarantineStream, 0)
	natstest.Until(t, func() bool {
		stream, err := server.JetStream().Stream(t.Context(), schemas.QuarantineStream)
		return err == nil && stream.CachedInfo().Config.RePublish == nil
	})
}

// A setting that is changed while the bridge runs shows within a minute; here the
// bridge looks again because the connection is a new one.
func TestDifferences_changedMeanwhile(t *testing.T) {
	server := natstest.Start(t)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
	b.publish("a", 1, 1)
	b.drained()
	config := asConfigured()
	config.MaxMsgs = 5
	if _, err := server.JetStream().UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	server.Restart()
	natstest.Until(t, func() bool { return b.says("max messages: has 5") })
	config.MaxMsgs = -1
	if _, err := server.JetStream().UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	server.Restart()
	natstest.Until(t, func() bool { return !b.says("max messages") && b.Status().Sending })
}

// known reports whether the stream was looked at.
func (b *bridge) known() bool {
	s := b.Status()
	return s.Sending || len(b.differences()) > 0
}
