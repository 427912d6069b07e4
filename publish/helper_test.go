package publish_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
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

// await reports whether a log gets a line with all of the texts within a second: a note
// is there a moment before its line.
func await(log *bridgetest.Log, texts ...string) bool {
	for end := time.Now().Add(time.Second); !log.Has(texts...) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	return log.Has(texts...)
}

// withAndWithoutJournal runs a test in both modes; dir is empty without a journal.
func withAndWithoutJournal(t *testing.T, test func(t *testing.T, dir string)) {
	t.Run("journal", func(t *testing.T) { test(t, t.TempDir()) })
	t.Run("direct", func(t *testing.T) { test(t, "") })
}

// deadLetters counts the lines of the dead-letter file that have a reason, or any.
func deadLetters(t *testing.T, dir, reason string) (n int) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "dead-letters.ndjson"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range bytes.Lines(content) {
		if bytes.Contains(line, []byte(`"reason":"`+reason)) {
			n++
		}
	}
	return n
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

// restrict lets the user bridge publish to these subjects alone, and the test itself,
// which has no login, do everything.
func restrict(o *natsserver.Options, subjects []string) {
	o.Users = []*natsserver.User{{Username: "bridge", Password: "p", Permissions: &natsserver.Permissions{
		Publish: &natsserver.SubjectPermission{Allow: subjects},
	}}, {Username: "admin", Password: "p"}}
	o.NoAuthUser = "admin"
}

// bridgeURL returns the URL of a restricted server for the user bridge.
func bridgeURL(url string) string { return strings.Replace(url, "nats://", "nats://bridge:p@", 1) }

// grant restarts a server restricted to these subjects, and returns the URL for the
// bridge.
func grant(server *natstest.Server, subjects []string) string {
	server.Restrict(func(o *natsserver.Options) { restrict(o, subjects) })
	server.Restart()
	return bridgeURL(server.URL())
}

// onlyPublishing lets the bridge publish and look at the streams, and do nothing else.
func onlyPublishing(server *natstest.Server) string {
	return grant(server, []string{"acs.>", "acs-quarantine.>", "$JS.API.STREAM.INFO.>"})
}
