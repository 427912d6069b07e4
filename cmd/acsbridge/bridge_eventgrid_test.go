package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/verify"
)

// TestEventGridOfAWholeBridge has the key server of Entra ID away at first: that
// makes no bridge unready, and answers deliveries 503.
func TestEventGridOfAWholeBridge(t *testing.T) {
	ignoreEnvironment(t)
	var issuers []*acstest.Issuer
	for range 2 {
		issuer, err := acstest.NewIssuer(acstest.IssuerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := issuer.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { issuer.Close() })
		issuers = append(issuers, issuer)
	}
	acs, entra := issuers[0], issuers[1]
	entra.SetFault(acstest.FaultError)
	settings, out, err := parseServe(t, gridArgs("--resource=contoso="+testGUID, "--issuer="+acs.Name(), "--oidc-config-url="+acs.MetadataURL(),
		"--eventgrid-issuer="+entra.Name(), "--eventgrid-oidc-config-url="+entra.MetadataURL(), "--eventgrid-path=/in/grid",
		"--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--nats-listen=127.0.0.1:0", "--data-dir="+t.TempDir())...)
	if err != nil {
		t.Fatal(err, out)
	}
	b, err := newBridge(settings, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- b.run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})

	const call = `{"id":"1","source":"` + testTopic + `","type":"Microsoft.Communication.IncomingCall","specversion":"1.0","data":{"correlationId":"k-1"}}`
	token, err := entra.Sign(acstest.TokenSpec{Audience: testApplication, Lifetime: 24 * time.Hour, Claims: map[string]any{"appid": verify.EventGridApplication}})
	if err != nil {
		t.Fatal(err)
	}
	post := func() int {
		r, err := http.NewRequest(http.MethodPost, "http://"+b.callbacks.Addr().String()+"/in/grid", strings.NewReader(call))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	ready := func() (int, string) {
		response, err := http.Get("http://" + b.admin.Addr().String() + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(text)
	}
	natstest.Until(t, func() bool {
		code, text := ready()
		return code == 200 && strings.Contains(text, "eventgrid note     no keys: ")
	})
	if got := post(); got != 503 {
		t.Errorf("without keys: %d, want 503", got)
	}
	entra.SetFault(acstest.FaultNone)
	natstest.Until(t, func() bool { return post() == 200 })
	if code, text := ready(); code != 200 || strings.Contains(text, "eventgrid") {
		t.Errorf("with keys: %d %s", code, text)
	}
	want := `
# HELP acsbridge_jwks_keys Keys that tokens are checked with.
# TYPE acsbridge_jwks_keys gauge
acsbridge_jwks_keys{profile="callbacks"} 1
acsbridge_jwks_keys{profile="eventgrid"} 1
`
	if err := testutil.GatherAndCompare(b.registry, strings.NewReader(want), "acsbridge_jwks_keys"); err != nil {
		t.Error(err)
	}
}
