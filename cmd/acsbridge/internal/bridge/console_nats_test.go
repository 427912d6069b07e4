package bridge

import (
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// rightsServer has the logins of deploy/nats, and a stream with one event.
func rightsServer(t *testing.T) *natstest.Server {
	t.Helper()
	server := natstest.StartRights(t, "../../../../deploy/nats/rights.conf")
	js := server.JetStream()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{"acs.>"}, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	event := `{"id":"1","source":"calling/callConnections/c-1","type":"Microsoft.Communication.CallConnected","data":{"callConnectionId":"c-1"}}`
	if _, err := js.Publish(t.Context(), "acs.contoso.CallConnected.a.c-1", []byte(event)); err != nil {
		t.Fatal(err)
	}
	return server
}

// bridgeLogin are the settings of a bridge with its login to that server.
func bridgeLogin(t *testing.T, server *natstest.Server) []string {
	t.Helper()
	return []string{
		"--resource=contoso=" + testGUID, "--issuer=http://127.0.0.1:1", "--oidc-config-url=http://127.0.0.1:1/keys",
		"--nats-url=" + server.URL(), "--nats-user=acsbridge", "--nats-domain=acs", "--nats-inbox-prefix=_INBOX_acsbridge",
		"--nats-password-file=" + bridgetest.WriteFile(t, "password", "of-the-bridge_password\n"),
	}
}

// TestConsole_loginOfItsOwn runs bridges whose login cannot read the stream. The console
// reads it as a viewer, with settings and no context; without or with a wrong login it
// says which settings are needed.
func TestConsole_loginOfItsOwn(t *testing.T) {
	server := rightsServer(t)
	server.Restrict(func(o *natsserver.Options) {
		for _, user := range o.Users {
			if user.Username == "acsbridge" {
				user.Permissions.Publish.Allow = slices.DeleteFunc(user.Permissions.Publish.Allow, func(s string) bool { return strings.Contains(s, "DIRECT.GET") })
			}
		}
	})
	server.Restart()
	bridge := bridgeLogin(t, server)
	link, err := natsconn.Connect(onLoopback(t, bridge...).NATS(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	js, err := link.JetStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Conn().Request("$JS.acs.API.DIRECT.GET.ACS", []byte(`{"seq":1}`), 100*time.Millisecond); err == nil {
		t.Error("the bridge's login reads the stream")
	}
	natstest.Until(t, func() bool {
		return link.Violation(time.Time{}, func(s string) bool { return strings.Contains(s, "DIRECT.GET") }) != nil
	})
	viewer := []string{"--console-nats-user=viewer", "--console-nats-inbox-prefix=_INBOX_viewer"}
	for _, test := range []struct {
		name      string
		args      []string
		status    int
		page, log string
	}{
		{"viewer", append(viewer, "--console-nats-password-file="+bridgetest.WriteFile(t, "viewer", "of-the-viewer_password\n")),
			200, `href="/calls/c-1"`, `msg="connected to NATS" login=console`},
		{"no login", nil, 404, "no login to NATS: give it one with --console-nats-creds, --console-nats-user,", ""},
		{"wrong password", append(viewer, "--console-nats-password-file="+bridgetest.WriteFile(t, "wrong", "of-the-bridge_password\n")),
			503, "Authorization Violation; check the login: --console-nats-user and --console-nats-password-file,",
			`msg="NATS cannot be reached; this is tried again" login=console error="nats: Authorization Violation; check the login: --console-nats-user and`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log bridgetest.Log
			b := runBridge(t, onLoopback(t, append(test.args, bridge...)...), log.Logger())
			asked := time.Now()
			answer, err := http.Get(b.AdminURL() + "/calls")
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			page, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(asked); answer.StatusCode != test.status || !strings.Contains(string(page), test.page) || took > 10*time.Second {
				t.Errorf("%d after %v, want %d with %q in\n%s", answer.StatusCode, took, test.status, test.page, page)
			}
			if text := log.String(); !strings.Contains(text, test.log) || strings.Contains(text, "of-the-") {
				t.Errorf("want %s in\n%s", test.log, text)
			}
			if connected, _ := b.link.State(); !connected {
				t.Error("the bridge is not connected")
			}
		})
	}
}

// TestConsole_unusableLogin names the setting of a login that cannot be read.
func TestConsole_unusableLogin(t *testing.T) {
	server := natstest.Start(t)
	s := onLoopback(t, "--resource=contoso="+testGUID, "--nats-url="+server.URL(), "--console-nats-nkey="+bridgetest.WriteFile(t, "seed", "no seed"))
	b, err := New(s, "test", slog.New(slog.DiscardHandler))
	if err == nil {
		_ = b.close()
	}
	if err == nil || !strings.HasPrefix(err.Error(), "console-nats-nkey: connect to NATS: read nkey seed: ") {
		t.Errorf("error %v", err)
	}
}

// TestConsole_operatorLogin redrives as the operator, whose account has the streams, at the
// domain of the bridge.
func TestConsole_operatorLogin(t *testing.T) {
	server := rightsServer(t)
	js := server.JetStream()
	natstest.CreateStream(t, js, jetstream.StreamConfig{Name: schemas.QuarantineStream, Subjects: []string{"acs-quarantine.>"}, AllowDirect: true})
	m := nats.NewMsg(schemas.QuarantineSubject("contoso", "conflict"))
	for name, value := range map[string]string{
		schemas.HeaderQuarantineReason: "conflict", schemas.HeaderResource: "contoso", schemas.HeaderContentType: "application/cloudevents+json",
		schemas.HeaderReceivedAt: "2026-01-02T03:04:05.678Z", schemas.HeaderTokenIssuer: "https://issuer.example", schemas.HeaderTokenAudience: testGUID,
		schemas.HeaderTokenKeyID: "k1", schemas.HeaderTokenExpires: "1767323345", schemas.HeaderDeliveryID: "d-1", schemas.HeaderDeliveryIndex: "0/1",
	} {
		m.Header.Set(name, value)
	}
	m.Data = []byte(`{"id":"2","source":"calling/callConnections/c-1","type":"Microsoft.Communication.CallDisconnected","specversion":"1.0","data":{"callConnectionId":"c-1"}}`)
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	b := runBridge(t, onLoopback(t, append(bridgeLogin(t, server), "--console-write", "--console-token-file="+bridgetest.WriteFile(t, "token", testSecret),
		"--console-nats-user=operator", "--console-nats-password-file="+bridgetest.WriteFile(t, "operator", "of-the-operator_password"))...), slog.New(slog.DiscardHandler))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.AdminURL()+"/quarantine/1", strings.NewReader("action=redrive"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+testSecret)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if events, left := len(server.Messages(schemas.Stream)), len(server.Messages(schemas.QuarantineStream)); answer.StatusCode != http.StatusSeeOther || events != 2 || left != 0 {
		t.Errorf("%s, %d events and %d in quarantine: %v\n%s", answer.Status, events, left, err, text)
	}
}
