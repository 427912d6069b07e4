package publish_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/internal/natstest"
)

// metric returns the sum of a counter's values.
func metric(t testing.TB, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// spoil flips a bit in what the journal's files hold of a record.
func spoil(t *testing.T, dir, text string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(content, []byte(text)); at >= 0 {
			content[at] ^= 4
			if err := os.WriteFile(name, content, 0o600); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("not found in the journal")
}

// grant restarts a server that lets its user bridge publish to these subjects alone,
// and the test itself do everything. It returns the URL for the bridge.
func grant(server *natstest.Server, subjects []string) string {
	server.Restrict(func(o *natsserver.Options) {
		o.Users = []*natsserver.User{{Username: "bridge", Password: "p", Permissions: &natsserver.Permissions{
			Publish: &natsserver.SubjectPermission{Allow: subjects},
		}}, {Username: "admin", Password: "p"}}
		o.NoAuthUser = "admin"
	})
	server.Restart()
	return strings.Replace(server.URL(), "nats://", "nats://bridge:p@", 1)
}

// onlyPublishing restarts a server that lets its user bridge publish, look at the
// streams and do nothing else. It returns the URL for that user; without one, all is allowed.
func onlyPublishing(server *natstest.Server) string {
	server.Restrict(func(o *natsserver.Options) {
		o.Users = []*natsserver.User{{Username: "bridge", Password: "p", Permissions: &natsserver.Permissions{
			Publish:   &natsserver.SubjectPermission{Allow: []string{"acs.>", "acs-quarantine.>", "$JS.API.STREAM.INFO.>"}},
			Subscribe: &natsserver.SubjectPermission{Allow: []string{"_INBOX.>"}},
		}}, {Username: "admin", Password: "p"}}
		o.NoAuthUser = "admin" // the test itself
	})
	server.Restart()
	return strings.Replace(server.URL(), "nats://", "nats://bridge:p@", 1)
}
