package publish_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
)

// inAccount gives a server one account with JetStream limits, without a login.
func inAccount(t *testing.T, limits string) func(*natsserver.Options) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "nats.conf")
	text := `accounts { A { jetstream { ` + limits + ` }, users: [{ user: a, password: a }] } }, no_auth_user: a`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	configured, err := natsserver.ProcessConfigFile(config)
	if err != nil {
		t.Fatal(err)
	}
	return func(o *natsserver.Options) {
		o.Accounts, o.Users, o.NoAuthUser = configured.Accounts, configured.Users, configured.NoAuthUser
	}
}

// Why a stream cannot be used is said before the first event, with the setting that
// cures it, and stays the first note once there are events.
func TestStatus_causeFirst(t *testing.T) {
	for name, c := range map[string]struct {
		server func(*natsserver.Options)
		config publish.StreamConfig
		made   bool // the event stream is there
		part   string
		says   []string
	}{
		"JetStream off": {
			server: func(o *natsserver.Options) { o.JetStream = false },
			part:   "stream", says: []string{"look at stream ACS", "JetStream is off"},
		},
		"a bound is wanted": {
			server: inAccount(t, "max_file: 1GB, max_bytes_required: true"),
			part:   "stream", says: []string{"create stream ACS", "10113", "--stream-max-bytes"},
		},
		"more than the account allows": {
			server: inAccount(t, "max_file: 1MB"), config: publish.StreamConfig{MaxBytes: 1 << 30},
			part: "stream", says: []string{"create stream ACS", "10047", "--stream-max-bytes"},
		},
		"a bound of the account for streams": {
			server: inAccount(t, "max_file: 1GB, disk_max_stream_bytes: 1MB"), config: publish.StreamConfig{MaxBytes: 2 << 20},
			part: "stream", says: []string{"create stream ACS", "10122", "--stream-max-bytes"},
		},
		"no quarantine: too many streams": {
			server: inAccount(t, "max_file: 1GB, max_streams: 1"), made: true,
			part: "quarantine", says: []string{"create stream ACS_QUARANTINE", "10027", "raise its limit"},
		},
		"no quarantine: no room": {
			server: inAccount(t, "max_file: 1MB"), config: publish.StreamConfig{MaxBytes: 1000},
			part: "quarantine", says: []string{"create stream ACS_QUARANTINE", "10047", "account's limit"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := natstest.Start(t, c.server)
			if c.made {
				natstest.CreateStream(t, server.JetStream(), asConfigured())
			}
			var log bridgetest.Log
			b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), Stream: c.config, Logger: log.Logger()})
			first := func() (text string) {
				for _, n := range b.Status().Notes {
					if c.part == "" || n.Part == c.part {
						return n.Text
					}
				}
				return ""
			}
			hasAll := func() bool {
				for _, text := range c.says {
					if !strings.Contains(first(), text) {
						return false
					}
				}
				return true
			}
			until := time.Now().Add(10 * time.Second)
			natstest.Until(t, func() bool { return hasAll() || time.Now().After(until) })
			b.publish("a", 1, 1)
			b.quarantine("no event")
			if !hasAll() {
				t.Errorf("after an event the first note is %q", first())
			}
			if !await(&log, "level=WARN", c.says[0]) {
				t.Errorf("the log does not say it:\n%s", log.String())
			}
		})
	}
}
