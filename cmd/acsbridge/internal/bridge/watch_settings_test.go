package bridge

import (
	"bytes"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
)

func TestLastStart_changes(t *testing.T) {
	base := func() lastStart {
		return lastStart{
			Stream: "ACS", SubjectPrefix: "acs", Resources: map[string]string{"contoso": testGUID, "fabrikam": otherGUID},
			Sources: map[string]string{"/subscriptions/s": "contoso"},
		}
	}
	for name, test := range map[string]struct {
		change func(*lastStart)
		want   []string
	}{
		"nothing":                   {func(*lastStart) {}, nil},
		"stream":                    {func(l *lastStart) { l.Stream = "CALLS" }, []string{"--stream was ACS and is CALLS: events that are stored stay in ACS, and what reads ACS gets nothing new"}},
		"prefix":                    {func(l *lastStart) { l.SubjectPrefix = "calls" }, []string{"--subject-prefix was acs and is calls: a consumer whose filter begins with acs gets nothing new"}},
		"domain":                    {func(l *lastStart) { l.Domain = "hub" }, []string{`--nats-domain was "" and is "hub": events that are stored stay in the first`}},
		"to the embedded server":    {func(l *lastStart) { l.Embedded = true }, []string{"NATS was a separate server and is now the embedded one: consumers of the separate server get nothing new"}},
		"another resource":          {func(l *lastStart) { l.Resources["tailspin"] = "x" }, nil},
		"GUID in capitals":          {func(l *lastStart) { l.Resources["contoso"] = strings.ToUpper(testGUID) }, nil},
		"resource with another id":  {func(l *lastStart) { l.Resources["contoso"] = "x" }, []string{"the resource contoso has another immutable resource id: callbacks for the previous one, " + testGUID + ", are answered 401"}},
		"resource that is gone":     {func(l *lastStart) { delete(l.Resources, "fabrikam") }, []string{"the resource fabrikam (" + otherGUID + ") is not configured any more: its callbacks are answered 401"}},
		"topic of another resource": {func(l *lastStart) { l.Sources = map[string]string{"/subscriptions/s": "fabrikam"} }, []string{"--eventgrid-source: events of a topic that were of contoso are of fabrikam now"}},
		"renamed resource, which its topic follows": {func(l *lastStart) {
			delete(l.Resources, "contoso")
			l.Resources["contoso2"], l.Sources = testGUID, map[string]string{"/subscriptions/s": "contoso2"}
		}, []string{"the resource contoso2 was called contoso: its new events are in acs.contoso2.>, those of before in acs.contoso.>, and a filter of contoso gets nothing new"}},
		"names changed about": {func(l *lastStart) { l.Resources["contoso"], l.Resources["fabrikam"] = otherGUID, testGUID }, []string{
			"the resource fabrikam was called contoso: its new events are in acs.fabrikam.>, those of before in acs.contoso.>, and a filter of contoso gets nothing new",
			"the resource contoso was called fabrikam: its new events are in acs.contoso.>, those of before in acs.fabrikam.>, and a filter of fabrikam gets nothing new",
		}},
	} {
		now := base()
		test.change(&now)
		if diff := cmp.Diff(test.want, base().changes(now)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	embedded, now := base(), base()
	embedded.Embedded = true
	if got := embedded.changes(now); len(got) != 1 || !strings.Contains(got[0], "nats directory of --data-dir") {
		t.Errorf("from the embedded server: %q", got)
	}
}

// restarted is a bridge that is stopped and started with other settings.
type restarted struct {
	t      *testing.T
	issuer *acstest.Issuer
	dir    string
	log    *logLines
}

func newRestarted(t *testing.T) *restarted {
	return &restarted{t: t, issuer: newIssuer(t), dir: t.TempDir(), log: &logLines{}}
}

// run runs a bridge with the settings for as long as it takes.
func (r *restarted) run(use func(*Bridge), args ...string) {
	r.t.Run("start", func(t *testing.T) {
		s := onLoopback(t, append(args, "--issuer="+r.issuer.Name(), "--oidc-config-url="+r.issuer.MetadataURL(), "--ack-wait=0s")...)
		s.DataDir = r.dir
		b := runBridge(t, s, slog.New(r.log))
		natstest.Until(t, func() bool { return b.verifier.Keys().Held > 0 })
		use(b)
	})
}

// send sends one callback that is answered 200.
func (r *restarted) send(b *Bridge) {
	token, err := r.issuer.Sign(acstest.TokenSpec{Audience: testGUID})
	if err != nil {
		r.t.Fatal(err)
	}
	const body = `{"id":"%","source":"calling/callConnections/c","type":"Microsoft.Communication.CallConnected","specversion":"1.0","data":{"callConnectionId":"c"}}`
	if got := bridgetest.Post(r.t, b.CallbackURL(), token, strings.Replace(body, "%", token[len(token)-20:], 1)); got != 200 {
		r.t.Fatalf("answered %d", got)
	}
}

// TestCompareSettings_changes leaves a record in the journal and
// starts with another name for its resource, until NATS has taken it.
func TestCompareSettings_changes(t *testing.T) {
	r := newRestarted(t)
	const before, after = "--resource=contoso=" + testGUID, "--resource=contoso2=" + testGUID
	r.run(func(b *Bridge) { r.send(b) }, before, "--nats-url=nats://127.0.0.1:1")
	if got := r.log.taken("differs from the last start"); len(got) != 0 {
		t.Errorf("at the first start: %q", got)
	}
	const held = "journal  note     holds 1 record of the time before this start of the resource contoso, which is not configured, to be sent under that name"
	r.run(func(b *Bridge) {
		if got := r.log.taken("the resource contoso2 was called contoso: "); len(got) != 1 || !strings.HasPrefix(got[0], "WARN a setting differs") {
			t.Errorf("after the rename: %q", got)
		}
		if got := ready(r.t, b); !strings.Contains(got, held) {
			t.Errorf("/readyz: %s", got)
		}
	}, after, "--nats-url=nats://127.0.0.1:1")
	server := natstest.Start(t)
	r.run(func(b *Bridge) {
		if got := r.log.taken("differs from the last start"); len(got) != 0 {
			t.Errorf("at the start after it: %q", got)
		}
		natstest.Until(t, func() bool { return b.publisher.Status().Waiting == 0 && b.publisher.Status().Sending })
		b.watch.check(t.Context())
		if got := ready(r.t, b); strings.Contains(got, "journal  note") {
			t.Errorf("the record is stored, and /readyz says: %s", got)
		}
	}, after, "--nats-url="+server.URL())
	r.log.taken("")

	// Another data directory remembers nothing, but the stream has the name.
	r.dir = t.TempDir()
	r.run(func(b *Bridge) {
		natstest.Until(t, func() bool { return r.log.has("another name for its resource") })
		if got := r.log.taken("another name for its resource"); !strings.Contains(got[0], "name=contoso configured=contoso2") {
			t.Errorf("said %q", got)
		}
	}, after, "--nats-url="+server.URL())
}

// TestCompareSettings_streamAndPrefix leaves a record in the journal that
// was addressed otherwise.
func TestCompareSettings_streamAndPrefix(t *testing.T) {
	r := newRestarted(t)
	const unreachable, resource = "--nats-url=nats://127.0.0.1:1", "--resource=contoso=" + testGUID
	r.run(func(b *Bridge) { r.send(b) }, unreachable, resource)
	r.run(func(b *Bridge) {
		text := ready(r.t, b)
		for _, want := range []string{"holds 1 record of the time before this start journaled for --stream ACS, to be sent to CALLS", "journaled for --subject-prefix acs, to be sent with calls"} {
			if !strings.Contains(text, want) {
				t.Errorf("/readyz lacks %q: %s", want, text)
			}
		}
		if got := r.log.taken("a setting differs from the last start"); len(got) != 2 {
			t.Errorf("said %q", got)
		}
	}, unreachable, resource, "--stream=CALLS", "--subject-prefix=calls")
	r.run(func(b *Bridge) {
		if text := ready(r.t, b); !strings.Contains(text, "holds 1 record that the stream does not have, and --journal off does not send what it holds") {
			t.Errorf("with --journal off: %s", text)
		}
	}, unreachable, resource, "--journal=off")
}

func TestCompareSettings_unreadableFile(t *testing.T) {
	s := onLoopback(t, "--resource=contoso="+testGUID, "--nats-url=nats://127.0.0.1:1")
	file := filepath.Join(s.DataDir, lastStartFile)
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := &logLines{}
	b, err := New(s, "test", slog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.close(); err != nil {
		t.Fatal(err)
	}
	if got := log.taken("settings of the last start cannot be read"); len(got) != 1 {
		t.Errorf("said %q", got)
	}
	text, err := os.ReadFile(file)
	if err != nil || !bytes.Contains(text, []byte(`"contoso"`)) {
		t.Errorf("it is not written again: %s, %v", text, err)
	}
}

// TestReadyz_deletedSubscription deletes a subscription, which then delivers again.
func TestReadyz_deletedSubscription(t *testing.T) {
	key := bridgetest.WriteFile(t, "grid-key", testSecret)
	b := runBridge(t, onLoopback(t, "--resource=contoso="+testGUID, "--eventgrid-key=k="+key, "--eventgrid-source=contoso="+acstest.DemoTopic), slog.New(slog.DiscardHandler))
	post := func(kind, event string) {
		t.Helper()
		body := `{"id":"` + kind + `","source":"` + acstest.DemoTopic + `","type":"` + event + `","specversion":"1.0","data":{"eventSubscriptionId":"` + acstest.DemoTopic + `/providers/Microsoft.EventGrid/eventSubscriptions/calls"}}`
		status := bridgetest.Post(t, b.EventGridURL()+"?acsbridge-key="+testSecret, "", body, func(r *http.Request) {
			r.Header.Set("Aeg-Event-Type", kind)
			r.Header.Set("Aeg-Subscription-Name", "CALLS")
		})
		if status != 200 {
			t.Fatalf("%s: answered %d", kind, status)
		}
	}
	post("SubscriptionDeletion", "Microsoft.EventGrid.SubscriptionDeletedEvent")
	if text := ready(t, b); !strings.Contains(text, "eventgrid note     subscription calls of contoso was deleted on ") {
		t.Errorf("deleted: %s", text)
	}
	post("Notification", "Microsoft.Communication.CallStarted")
	if text := ready(t, b); strings.Contains(text, "was deleted") {
		t.Errorf("it delivers: %s", text)
	}
}
