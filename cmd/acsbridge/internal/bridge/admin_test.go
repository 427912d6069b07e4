package bridge

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
)

// adminOf returns the admin handler of a bridge with the settings.
func adminOf(t *testing.T, args ...string) http.Handler {
	t.Helper()
	b := idleBridge(t, onLoopback(t, append(args, "--resource=contoso="+testGUID)...))
	return b.operators().handler()
}

func askAdmin(h http.Handler, target, host, authorization string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Host = host
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestAdmin_token asks for each page with and without the token. There are no
// keys, so a bridge that answers says 503 on /readyz.
func TestAdmin_token(t *testing.T) {
	guarded := adminOf(t, "--admin-token-file="+bridgetest.WriteFile(t, "token", testSecret+"\n"))
	for _, test := range []struct {
		path, authorization string
		want                int
	}{
		{"/livez", "", 200},
		{"/readyz", "", 503},
		{"/metrics", "", 401},
		{"/metrics", "Bearer " + otherSecret, 401},
		{"/metrics", "Bearer " + testSecret[1:], 401},
		{"/metrics", "Basic " + testSecret, 401},
		{"/metrics", testSecret, 401},
		{"/metrics", "Bearer " + testSecret, 200},
		{"/metrics", "bearer " + testSecret, 200},
		{"/", "", 401},
		{"/elsewhere", "", 401},
		{"/livez/", "", 401},
		{"/elsewhere", "Bearer " + testSecret, 404},
	} {
		w := askAdmin(guarded, test.path, "127.0.0.1:9090", test.authorization)
		if w.Code != test.want || (w.Code == 401) != (w.Header().Get("WWW-Authenticate") == "Bearer") {
			t.Errorf("%s with %q: %d %v, want %d", test.path, test.authorization, w.Code, w.Header(), test.want)
		}
	}
	const withoutToken = "process  ok\nkeys     missing\nstorage  ok\n"
	if got := askAdmin(guarded, "/readyz", "127.0.0.1", "").Body.String(); got != withoutToken {
		t.Errorf("without the token: %q, want %q", got, withoutToken)
	}
	if got := askAdmin(guarded, "/readyz", "127.0.0.1", "Bearer "+testSecret).Body.String(); !strings.Contains(got, "keys     missing  none yet from https://") {
		t.Errorf("an operator reads %q", got)
	}
	open := adminOf(t)
	if w := askAdmin(open, "/metrics", "127.0.0.1", ""); w.Code != 200 {
		t.Errorf("without a token to have: %d", w.Code)
	}
	if got := askAdmin(open, "/readyz", "127.0.0.1", "").Body.String(); !strings.Contains(got, "none yet from https://") {
		t.Errorf("without a token to have, an operator reads %q", got)
	}
}

// TestAdmin_metricsFormat asks as Prometheus does: OpenMetrics has exemplars.
func TestAdmin_metricsFormat(t *testing.T) {
	h := adminOf(t)
	for accept, want := range map[string]string{
		"": "text/plain; version=0.0.4", "application/openmetrics-text;version=1.0.0,*/*;q=0.1": "application/openmetrics-text; version=1.0.0",
	} {
		r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1/metrics", nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := w.Header().Get("Content-Type"); w.Code != 200 || !strings.HasPrefix(got, want) {
			t.Errorf("asked for %q: %d, %s", accept, w.Code, got)
		}
	}
}

// TestAdmin_hosts asks as a page does whose own name was made to resolve to the
// bridge's address.
func TestAdmin_hosts(t *testing.T) {
	h := adminOf(t, "--admin-host=bridge.example.net")
	for host, want := range map[string]int{
		"localhost": 200, "localhost:9090": 200, "LocalHost.:9090": 200,
		"127.0.0.1": 200, "127.0.0.1:9090": 200, "[::1]:9090": 200, "[::1]": 200, "10.0.0.7:9090": 200,
		"bridge.example.net": 200, "Bridge.Example.Net:9090": 200,
		"": 200, ":9090": 200,
		"attacker.example": 421, "attacker.example:9090": 421, "localhost.attacker.example:9090": 421,
		"127.0.0.1.attacker.example": 421, "bridge.example.net.attacker.example": 421, "example.net": 421, "::1:x": 421,
	} {
		for _, path := range []string{"/livez", "/metrics"} {
			if w := askAdmin(h, path, host, ""); w.Code != want {
				t.Errorf("%s by %q: %d, want %d", path, host, w.Code, want)
			}
		}
	}
}

// TestAdmin_listenIsAName asks by the name that the listener was given.
func TestAdmin_listenIsAName(t *testing.T) {
	b := &Bridge{settings: &config.Settings{}, logger: slog.New(slog.DiscardHandler)}
	b.settings.AdminListen = "bridge.internal:9090"
	for host, want := range map[string]int{"bridge.internal:9090": 200, "bridge.internal.attacker.example": 421} {
		if w := askAdmin(b.operators().handler(), "/livez", host, ""); w.Code != want {
			t.Errorf("%q: %d, want %d", host, w.Code, want)
		}
	}
}

// TestAdmin_headers holds the headers of every kind of answer.
func TestAdmin_headers(t *testing.T) {
	h := adminOf(t, "--admin-token-file="+bridgetest.WriteFile(t, "token", testSecret))
	for _, w := range []*httptest.ResponseRecorder{
		askAdmin(h, "/livez", "localhost", ""), askAdmin(h, "/readyz", "localhost", ""), askAdmin(h, "/metrics", "localhost", ""),
		askAdmin(h, "/metrics", "localhost", "Bearer "+testSecret), askAdmin(h, "/livez", "attacker.example", ""),
	} {
		for name, want := range map[string]string{
			"Content-Security-Policy":      "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
			"X-Content-Type-Options":       "nosniff",
			"Referrer-Policy":              "no-referrer",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Cache-Control":                "no-store",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%d: %s is %q, want %q", w.Code, name, got, want)
			}
		}
	}
}

// TestAdmin_serverIsBounded holds every wait of the admin server.
func TestAdmin_serverIsBounded(t *testing.T) {
	s := (&Bridge{settings: &config.Settings{}, logger: slog.New(slog.DiscardHandler)}).operators().Server()
	if s.ReadHeaderTimeout <= 0 || s.ReadTimeout <= 0 || s.WriteTimeout <= 0 || s.IdleTimeout <= 0 || s.MaxHeaderBytes != 16<<10 || !s.DisableGeneralOptionsHandler {
		t.Errorf("got %+v", s)
	}
}

// TestAdmin_connectionsAreBounded holds as many as there may be. One more is
// answered when one of them is closed.
func TestAdmin_connectionsAreBounded(t *testing.T) {
	b := runBridge(t, onLoopback(t, "--resource=contoso="+testGUID), slog.New(slog.DiscardHandler))
	var held []net.Conn
	for range maxAdminConnections {
		conn, err := net.Dial("tcp", b.admin.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		held = append(held, conn)
	}
	ask := func(timeout time.Duration) error {
		client := http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Get("http://" + b.admin.Addr().String() + "/livez")
		if err != nil {
			return err
		}
		return response.Body.Close()
	}
	if ask(200*time.Millisecond) == nil {
		t.Error("one connection more than may be was answered")
	}
	held[0].Close()
	if err := ask(time.Minute); err != nil {
		t.Errorf("after one was closed: %v", err)
	}
}
