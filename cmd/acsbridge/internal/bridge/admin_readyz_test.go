package bridge

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/natstest"
)

// TestReadyz_isRedUntilItIsOver has the key server fail and come back, then fills the
// journal while NATS is disconnected, then stops.
func TestReadyz_isRedUntilItIsOver(t *testing.T) {
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := issuer.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { issuer.Close() })
	issuer.SetFault(acstest.FaultError)
	b := runBridge(t, onLoopback(t, "--resource=contoso="+testGUID, "--issuer="+issuer.Name(), "--oidc-config-url="+issuer.MetadataURL(),
		"--nats-url=nats://127.0.0.1:1", "--journal-max-bytes=1 MiB"), slog.New(slog.DiscardHandler))
	says := func(status int, line string) func() bool {
		return func() bool {
			w := askAdmin(b.operators().handler(), "/readyz", "127.0.0.1", "")
			return w.Code == status && strings.Contains(w.Body.String(), line)
		}
	}
	natstest.Until(t, says(503, "keys     missing  none: "))
	readyIs(t, b, map[string]float64{"process": 1, "keys": 0, "storage": 1})
	issuer.SetFault(acstest.FaultNone)
	natstest.Until(t, says(200, "keys     ok "))

	token, err := issuer.Sign(acstest.TokenSpec{Audience: testGUID})
	if err != nil {
		t.Fatal(err)
	}
	status := 0
	for n := 0; n < 100 && status != 503; n++ { // 100 do not fit
		body := fmt.Sprintf(`{"id":"%d","source":"s","type":"t","specversion":"1.0","data":%q}`, n, strings.Repeat("x", 16<<10))
		r, err := http.NewRequest(http.MethodPost, b.CallbackURL(), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		status = response.StatusCode
	}
	if status != 503 || !says(503, "; it is full, and the stream takes nothing")() {
		t.Errorf("with a full journal a callback is answered %d, and /readyz says:\n%s", status, askAdmin(b.operators().handler(), "/readyz", "127.0.0.1", "").Body)
	}

	readyIs(t, b, map[string]float64{"process": 1, "keys": 1, "storage": 0})
	b = idleBridge(t, onLoopback(t, "--resource=contoso="+testGUID))
	b.stopping.Store(true)
	if !says(503, "process  missing  stopping")() {
		t.Error("a bridge that stops is ready")
	}
	readyIs(t, b, map[string]float64{"process": 0, "keys": 0, "storage": 1})
}

// readyIs compares the metric of readiness.
func readyIs(t *testing.T, b *Bridge, want map[string]float64) {
	t.Helper()
	got := map[string]float64{}
	families, err := b.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "acsbridge_ready" {
				got[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
			}
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("acsbridge_ready is %v, want %v", got, want)
	}
}
