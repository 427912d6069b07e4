package publish_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
)

// What recovery needs is looked at from the start, not when it is needed.
func TestSurvey_fromTheStart(t *testing.T) {
	current, old := fmt.Sprintf(`"version":%q`, natsserver.VERSION), `"version":"2.10.29"`
	for name, c := range map[string]struct {
		server func(*natsserver.Options)
		rights []string // of the bridge; nil means all
		url    func(*natstest.Server) string
		says   string
	}{
		"an old server": {
			url: func(s *natstest.Server) string {
				proxy := natstest.NewProxy(t, strings.TrimPrefix(s.URL(), "nats://"))
				proxy.Shape(natstest.Conditions{}, natstest.Conditions{Old: current, New: old})
				return proxy.URL()
			},
			says: "nats-server is 2.10.29: the bridge needs 2.11 or newer",
		},
		"small messages": {
			server: func(o *natsserver.Options) { o.MaxPayload = 64 << 10 },
			says:   "max_payload of the server is 65536 bytes: a message can have 270336",
		},
		"no right to direct get": {
			rights: []string{"acs.>", "acs-quarantine.>", "$JS.API.STREAM.>"},
			says:   `direct get fails: nats: permissions violation: Permissions Violation for Publish to "$JS.API.DIRECT.GET.ACS"`,
		},
		"no right to publish": {
			rights: []string{"$JS.API.>"},
			says:   `a trial publish fails: nats: permissions violation: Permissions Violation for Publish to "acs._.`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			change := func(o *natsserver.Options) {
				if c.server != nil {
					c.server(o)
				}
				if c.rights != nil {
					restrict(o, c.rights)
				}
			}
			server := natstest.Start(t, change)
			url := server.URL()
			if c.url != nil {
				url = c.url(server)
			}
			if c.rights != nil {
				url = bridgeURL(url)
			}
			var log bridgetest.Log
			b := start(t, url, publish.Options{Dir: t.TempDir(), Logger: log.Logger()})
			until := time.Now().Add(10 * time.Second)
			natstest.Until(t, func() bool { return b.says(c.says) || time.Now().After(until) })
			if !b.says(c.says) {
				t.Errorf("notes: %v", b.Status().Notes)
			}
			if !await(&log, "level=WARN", c.says[:20]) {
				t.Errorf("the log does not say it:\n%s", log.String())
			}
		})
	}
}

// An account whose storage is nearly used up stops taking events soon.
func TestSurvey_accountLimit(t *testing.T) {
	server := natstest.Start(t, inAccount(t, "max_file: 10000000"))
	js := server.JetStream()
	natstest.CreateStream(t, server.JetStream(), jetstream.StreamConfig{Name: "FILLS", Subjects: []string{"fills"}})
	for range 19 {
		if _, err := js.Publish(t.Context(), "fills", make([]byte, 500_000)); err != nil {
			t.Fatal(err)
		}
	}
	limited := publish.StreamConfig{MaxBytes: 100_000}
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), Stream: limited})
	natstest.Until(t, func() bool { return b.says(" % of the 10000000 bytes that it may store: raise its limit") })
}

// Polled again and again, a note is there every time until it is over.
func TestStatus_notesAreSteady(t *testing.T) {
	server := natstest.Start(t)
	natstest.CreateStream(t, server.JetStream(), asConfigured())
	rights := []string{"$JS.API.>", "acs-quarantine.>"}
	url := grant(server, rights)
	var log bridgetest.Log
	b := start(t, url, publish.Options{Dir: t.TempDir(), Logger: log.Logger()})
	b.publish("a", 1, 1)
	const cause = `Permissions Violation for Publish to "acs.contoso.…"`
	natstest.Until(t, func() bool { return b.says(cause) })
	polls := 0
	for end := time.After(9 * time.Second); ; polls++ { // three times the wait for an answer
		select {
		case <-end:
		case <-time.After(20 * time.Millisecond):
			if !b.says(cause) || b.Status().Sending {
				t.Fatalf("poll %d: %+v", polls, b.Status())
			}
			continue
		}
		break
	}
	if n := log.Count("stream does not take records", "stream=ACS "); n != 1 {
		t.Errorf("it was logged %d times:\n%s", n, log.String())
	}
	grant(server, append(rights, "acs.>"))
	b.drained()
	natstest.Until(t, func() bool { s := b.Status(); return len(s.Notes) == 0 && s.Sending })
}

// A login that may publish the events of its resource alone does not need the right to
// the trial: a stored event says more.
func TestSurvey_rightsToOneResource(t *testing.T) {
	server := natstest.Start(t, func(o *natsserver.Options) {
		restrict(o, []string{"$JS.API.>", "acs.contoso.>", "acs-quarantine.contoso.>"})
	})
	b := start(t, bridgeURL(server.URL()), publish.Options{Dir: t.TempDir()})
	natstest.Until(t, func() bool {
		return b.says(`a trial publish fails: nats: permissions violation: Permissions Violation for Publish to "acs._.`)
	})
	b.publish("a", 1, 1)
	b.drained()
	if b.says(`Publish to "acs._.`) {
		t.Errorf("events are stored: %v", b.Status().Notes)
	}
}
