package check_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestRun_healthy has no finding for a set-up without a fault: before the first start,
// beside the running bridge, and after it has stopped.
func TestRun_healthy(t *testing.T) {
	t.Parallel()
	s := healthy(t)
	expectHealthy(t, s.check())
	if names := streamNames(t, s.server); len(names) > 0 {
		t.Errorf("check has made %v", names)
	}
	b, stop := s.run()
	natstest.Until(t, func() bool { return b.Pending() == nil })
	s.opts.URL = b.CallbackURL()
	expectHealthy(t, s.check())
	if n := len(s.server.Messages(schemas.Stream)); n != 0 {
		t.Errorf("check has stored %d messages", n)
	}
	stop()
	s.opts.URL = ""
	expectHealthy(t, s.check())
}

// TestRun_embedded looks at the embedded server of the bridge that runs.
func TestRun_embedded(t *testing.T) {
	t.Parallel()
	s := healthy(t, "--nats-listen="+bridgetest.FreeAddress(t))
	expectHealthy(t, s.check())
	s.running()
	r := s.check()
	expectHealthy(t, r)
	if text := list(r); !strings.Contains(text, "stream ok: stream ACS may be looked at and published to") {
		t.Error(text)
	}
}

// TestRun_besideABridge disturbs nothing: callbacks are stored while checks run, a check
// does not count as a refusal, and leaves no file.
func TestRun_besideABridge(t *testing.T) {
	t.Parallel()
	s := healthy(t)
	b := s.running()
	s.opts.URL = b.CallbackURL()
	before := files(t, s.settings().DataDir)
	for i := range 2 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			expectHealthy(t, s.check())
		}()
		body := callbackBody(i)
		if got := bridgetest.Post(t, b.CallbackURL(), s.token(acstest.TokenSpec{}), body); got != 200 {
			t.Errorf("a callback beside a check is answered %d", got)
		}
		<-done
	}
	s.server.Await(schemas.Stream, 2)
	if diff := cmp.Diff(before, files(t, s.settings().DataDir)); diff != "" {
		t.Errorf("files of the data directory (-before +after):\n%s", diff)
	}
	if text := list(s.check()); !strings.Contains(text, "refused never") {
		t.Errorf("a check counts as a refusal:\n%s", text)
	}
}

// callbackBody returns the body of a callback with an event of its own.
func callbackBody(n int) string {
	return `[{"id":"e` + string(rune('a'+n)) + `","source":"calling/callConnections/c-1","type":"Microsoft.Communication.CallConnected",` +
		`"specversion":"1.0","data":{"callConnectionId":"c-1"}}]`
}

// files returns the names of the files in a directory.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func streamNames(t *testing.T, server *natstest.Server) (names []string) {
	t.Helper()
	for name := range server.JetStream().StreamNames(t.Context()).Name() {
		names = append(names, name)
	}
	return names
}

// asBridge are the arguments for the bridge's own login to it.
func asBridge(t *testing.T, server *natstest.Server) []string {
	t.Helper()
	return []string{
		"--nats-url=" + server.URL(), "--nats-user=acsbridge", "--nats-password-file=" + bridgetest.WriteFile(t, "password", "of-the-bridge_password"),
		"--nats-domain=acs", "--nats-inbox-prefix=_INBOX_acsbridge",
	}
}

// makeStreams makes the streams as serve would. A change may spoil that of the events.
func makeStreams(t *testing.T, server *natstest.Server, change func(*jetstream.StreamConfig)) {
	t.Helper()
	config := jetstream.StreamConfig{
		Name: schemas.Stream, Subjects: []string{"acs.>"}, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		Storage: jetstream.FileStorage, Replicas: 1, MaxAge: publish.DefaultMaxAge, MaxBytes: -1, Duplicates: publish.DefaultDuplicates, AllowDirect: true,
	}
	quarantine := config
	quarantine.Name, quarantine.Subjects, quarantine.MaxBytes = schemas.QuarantineStream, []string{"acs-quarantine.>"}, publish.QuarantineMaxBytes
	if change != nil {
		change(&config)
	}
	js := server.JetStream()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, c := range []jetstream.StreamConfig{config, quarantine} {
		if _, err := js.CreateStream(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRun_rights works with the login that deploy/nats/rights.conf gives a bridge, which
// cannot make streams, and in the domain of another account.
func TestRun_rights(t *testing.T) {
	server := natstest.StartRights(t, "../../../../deploy/nats/rights.conf")
	s := healthy(t, asBridge(t, server)...)
	r := s.check()
	expect(t, r, want{"stream", "fail", `stream ACS does not exist, and serve cannot make it: .*(?i)permissions violation.*STREAM\.CREATE`, "let the operator make the stream"}, "quarantine")
	makeStreams(t, server, nil)
	r = s.check(consoleLogin(t, "viewer", "of-the-viewer_password")...)
	expectHealthy(t, r)
	for _, text := range []string{
		"nats ok: JetStream domain acs", "nats ok: limits of the account not known", "consumers ok: not known: this login may not list them",
		"stream ok: stream ACS may be looked at and published to", "quarantine ok: stream ACS_QUARANTINE may be looked at",
		"console ok: the login in console-nats-user may read stream ACS",
	} {
		if !strings.Contains(list(r), text) {
			t.Errorf("no %q in\n%s", text, list(r))
		}
	}
	if n := len(server.Messages(schemas.Stream)); n != 0 {
		t.Errorf("check has stored %d messages", n)
	}
}
