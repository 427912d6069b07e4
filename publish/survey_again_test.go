package publish

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/internal/natstest"
)

// surveying starts a publisher that surveys its streams many times a second.
func surveying(t *testing.T, server *natstest.Server) *Publisher {
	t.Helper()
	link, err := natsconn.Connect(natsconn.Config{URL: server.URL()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Close)
	p, err := Open(Options{Link: link, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	p.events.every, p.malformed.every = 20*time.Millisecond, 20*time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		p.Run(ctx)
		close(done)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	natstest.Until(t, func() bool { return p.Status().Sending })
	return p
}

func (p *Publisher) notes() (texts []string) {
	for _, n := range p.Status().Notes {
		texts = append(texts, n.Text)
	}
	return texts
}

// A setting that is changed while no event comes shows, and the stream takes events
// as before: that forwarding begins anew is not a failure.
func TestSurvey_settingsChangedWhileIdle(t *testing.T) {
	server := natstest.Start(t)
	p := surveying(t, server)
	stream, err := server.JetStream().Stream(t.Context(), "ACS")
	if err != nil {
		t.Fatal(err)
	}
	change := func(change func(*jetstream.StreamConfig), want ...string) {
		t.Helper()
		config := stream.CachedInfo().Config
		change(&config)
		if _, err := server.JetStream().UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		natstest.Until(t, func() bool {
			s := p.Status()
			return s.Sending && slices.EqualFunc(p.notes(), want, strings.HasPrefix)
		})
	}
	change(func(c *jetstream.StreamConfig) { c.Duplicates = 5 * time.Minute }, "duplicate window: has 5m0s")
	change(func(c *jetstream.StreamConfig) { c.AllowDirect = false }, "direct get: has false")
	change(func(c *jetstream.StreamConfig) {})
}

// Each stream that takes the subjects as well keeps its note, whatever answers in
// between, until it answers no more.
func TestTarget_severalOtherStreams(t *testing.T) {
	c := StreamConfig{}.withDefaults()
	to := c.eventTarget(nil, slog.New(slog.DiscardHandler))
	to.state.place = place{"ACS", "leaf"}
	check := func(want ...string) {
		t.Helper()
		var got []string
		for _, n := range to.list() {
			name, _, _ := strings.Cut(strings.TrimPrefix(n.Text, "stream "), " takes")
			got = append(got, name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	to.tried(2, nil)
	check("ACS of another domain or account")
	to.answers(place{"ACS", "hub"})
	to.answers(place{"ACS", "third"})
	to.answers(place{"ACS", "hub"})
	check("ACS of domain hub", "ACS of domain third")
	to.tried(2, []string{to.foreign("OTHER")})
	check("ACS of domain hub", "ACS of domain third", "OTHER")
	to.works()
	to.answers(place{"ACS", "hub"})
	to.tried(1, nil) // they take other subjects than that of the trial
	check("ACS of domain hub", "ACS of domain third", "OTHER")
	to.tried(1, nil)
	check()
}
