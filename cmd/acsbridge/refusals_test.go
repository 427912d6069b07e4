package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/natstest"
)

// TestServe_wrongConfiguration has the built bridge refuse every callback for what
// is most often wrong, and an operator look at it. Each cause is said within
// seconds with its remedy, in the log and in /readyz, which stays green.
func TestServe_wrongConfiguration(t *testing.T) {
	ignoreEnvironment(t)
	const theirs = "5aba7c7e-0f0b-4a57-9a1d-3f8f1c0b7d10"
	var issuers []*acstest.Issuer
	for range 2 {
		issuer, err := acstest.NewIssuer(acstest.IssuerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := issuer.Start(); err != nil {
			t.Fatal(err)
		}
		defer issuer.Close()
		issuers = append(issuers, issuer)
	}
	ours, other := issuers[0], issuers[1]
	b := startServe(t, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json", "--resource=demo="+testGUID,
		"--issuer="+ours.Name(), "--oidc-config-url="+ours.MetadataURL(), "--nats-listen=127.0.0.1:0", "--data-dir="+t.TempDir())
	natstest.Until(t, func() bool { return strings.HasPrefix(ask(b.admin+"/readyz"), "200") })
	if ready := ask(b.admin + "/readyz"); !strings.Contains(ready, "\ncallback ok       last came never, stored never, refused never\n") || strings.Contains(ready, "refused  note") {
		t.Errorf("before the first callback: %s", ready)
	}
	proxy := dropsAuthorization(t, b.callbacks)
	now := time.Now()
	for _, wrong := range []struct {
		what, url string
		issuer    *acstest.Issuer
		spec      acstest.TokenSpec
		status    int
	}{
		{"GUID", b.callbacks, ours, acstest.TokenSpec{Audience: theirs}, 401},
		{"clock, ahead", b.callbacks, ours, acstest.TokenSpec{Now: now.Add(-10 * time.Minute)}, 401},
		{"clock, behind", b.callbacks, ours, acstest.TokenSpec{Now: now.Add(10 * time.Minute)}, 401},
		{"issuer", b.callbacks, other, acstest.TokenSpec{}, 401},
		{"proxy", proxy, ours, acstest.TokenSpec{}, 401},
		{"path", strings.Replace(b.callbacks, "/callbacks", "/callback", 1), ours, acstest.TokenSpec{}, 404},
	} {
		if wrong.spec.Audience == "" {
			wrong.spec.Audience = testGUID
		}
		token, err := wrong.issuer.Sign(wrong.spec)
		if err != nil {
			t.Fatal(err)
		}
		if got := postWithToken(t, wrong.url, token); got != wrong.status {
			t.Errorf("wrong %s: answered %d, want %d", wrong.what, got, wrong.status)
		}
	}
	causes := map[string]string{
		"wrong_audience": `a token signed by ACS names audience ` + theirs + `, configured are ` + testGUID + `; add it only if it is the immutable id of a resource of yours`,
		"expired":        `a token signed by ACS was refused: it expired 5m\d*s ago: check this host's clock`,
		"not_yet_valid":  `a token signed by ACS was refused: it is not valid before (9m[345]\d|10m0)s from now: check this host's clock`,
		"wrong_issuer":   `iss is not a configured issuer.*: check --issuer and --oidc-config-url`,
		"missing_token":  `no authorization header: a proxy in front that drops the Authorization header must pass it on`,
		"not_found":      `a request with a token signed by ACS was refused: the path is neither --callback-path nor below it: compare the callback URL`,
	}
	for reason, cause := range causes {
		note := regexp.MustCompile(`(?m)^refused  note     ` + reason + `, 1 in the last 5 minutes: ` + cause)
		natstest.Until(t, func() bool { return note.MatchString(ask(b.admin + "/readyz")) })
	}
	ready := ask(b.admin + "/readyz")
	if !regexp.MustCompile(`(?s)^200\n.*\ncallback ok       last came \d+s ago, stored never, refused \d+s ago\n`).MatchString(ready) {
		t.Errorf("readyz: %s", ready)
	}
	if out, err := exec.Command("acsbridge", "health", "--admin", b.admin).CombinedOutput(); err != nil {
		t.Errorf("health: %v %s", err, out)
	}
	metrics := ask(b.admin + "/metrics")
	for _, metric := range []string{`acsbridge_last_callback_timestamp_seconds 1\.`, `acsbridge_last_stored_timestamp_seconds 0\n`, `acsbridge_last_refused_timestamp_seconds 1\.`} {
		if !regexp.MustCompile(metric).MatchString(metrics) {
			t.Errorf("no metric %s", metric)
		}
	}
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	compareRefusals(t, <-b.said, causes)
	_ = b.cmd.Wait()
}

// compareRefusals holds the warnings in a log against their causes by reason.
func compareRefusals(t *testing.T, said string, causes map[string]string) {
	t.Helper()
	seen := make(map[string]int)
	for line := range strings.Lines(said) {
		var entry struct{ Level, Msg, Reason, Cause string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Msg != "callbacks are refused" {
			continue
		}
		seen[entry.Reason]++
		if cause := causes[entry.Reason]; cause == "" || entry.Level != "WARN" || !regexp.MustCompile(cause).MatchString(entry.Cause) {
			t.Errorf("got %s", line)
		}
	}
	for reason := range causes {
		if seen[reason] != 1 {
			t.Errorf("%d warnings for %s, want 1", seen[reason], reason)
		}
	}
}

// dropsAuthorization is a proxy that passes on everything but what proves the sender.
func dropsAuthorization(t *testing.T, target string) string {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = u.Scheme, u.Host
		r.Out.Header.Del("Authorization")
	}})
	t.Cleanup(proxy.Close)
	return proxy.URL + u.Path
}

func postWithToken(t *testing.T, url, token string) int {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader("[]"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}
