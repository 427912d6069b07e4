package check_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/check"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
)

// TestRun_keyServer makes the faults of key servers, with real ones.
func TestRun_keyServer(t *testing.T) {
	t.Parallel()
	elsewhere := func(url string) []string { return []string{"--oidc-config-url=" + url} }
	for name, test := range map[string]struct {
		args  func(t *testing.T) []string
		fault acstest.Fault
		want  want
	}{
		"nothing listens": {args: func(t *testing.T) []string { return elsewhere("http://" + bridgetest.FreeAddress(t) + "/x") },
			want: want{"keys", "fail", "no keys: .*connection refused", "no server listens there"}},
		"unknown name": {args: func(*testing.T) []string { return elsewhere("https://keys.invalid/x") },
			want: want{"keys", "fail", "no keys: .*keys.invalid", "check DNS"}},
		"unknown authority": {args: func(t *testing.T) []string {
			server := httptest.NewUnstartedServer(http.NotFoundHandler())
			server.StartTLS()
			t.Cleanup(server.Close)
			return elsewhere(server.URL + "/x")
		}, want: want{"keys", "fail", "no keys: .*unknown authority", "SSL_CERT_FILE"}},
		"another cloud": {args: func(*testing.T) []string { return []string{"--issuer=https://acs.example.us"} },
			want: want{"keys", "fail", `its issuer is "http://127.0.0.1:\d+", not "https://acs.example.us"`, "set --issuer"}},
		"redirect":   {fault: acstest.FaultRedirect, want: want{"keys", "fail", "answered 3", "redirects are not followed"}},
		"no keys":    {fault: acstest.FaultNoKeys, want: want{"keys", "fail", "none of its 0 keys is usable", "RS256"}},
		"other host": {fault: acstest.FaultForeignKeys, want: want{"keys", "fail", "its jwks_uri is not on", "compare --oidc-config-url"}},
		"broken":     {fault: acstest.FaultError, want: want{"keys", "fail", "answered 500", "compare --oidc-config-url"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var args []string
			if test.args != nil {
				args = test.args(t)
			}
			s := healthy(t, args...)
			s.issuer.SetFault(test.fault)
			expect(t, s.check(), test.want)
		})
	}
}

// TestRun_unusableKeys says why keys are not used beside a good one.
func TestRun_unusableKeys(t *testing.T) {
	t.Parallel()
	s := healthy(t)
	s.issuer.Publish([]byte(`{"kty":"EC","kid":"e","use":"sig"}`), []byte(`{"kty":"RSA","kid":"enc","use":"enc"}`))
	r := s.check()
	expectHealthy(t, r)
	if text := list(r); !strings.Contains(text, "not used: not an RSA key, not for signatures") {
		t.Error(text)
	}
}

// TestRun_clock has key servers with another time of day.
func TestRun_clock(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		off  time.Duration // of the key server
		date func(time.Time) string
		want want
	}{
		"far behind": {off: 10 * time.Minute, want: want{"clock", "fail", `(9m59|10m0)s behind the key server's, more than --leeway 1m0s`, "NTP"}},
		"far ahead":  {off: -10 * time.Minute, want: want{"clock", "fail", `(9m59|10m0|9m58)s ahead of the key server's`, "NTP"}},
		"behind":     {off: 30 * time.Second, want: want{"clock", "warn", `(29|30)s behind the key server's: --leeway 1m0s is partly used up`, "NTP"}},
		"right":      {want: want{"clock", "ok", "within 5s", ""}},
		"none":       {date: func(time.Time) string { return "" }, want: want{"clock", "ok", "not known: the key server sends no Date", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := healthy(t)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				date := time.Now().Add(test.off).UTC().Format(http.TimeFormat)
				w.Header()["Date"] = []string{date}
				if test.date != nil {
					w.Header()["Date"] = nil // net/http sends none then
				}
				s.issuer.ServeHTTP(w, r)
			}))
			t.Cleanup(server.Close)
			url := server.URL + strings.TrimPrefix(s.issuer.MetadataURL(), s.issuer.Name())
			expect(t, s.check("--oidc-config-url="+url), test.want)
		})
	}
}

// TestRun_token says by how much a token misses each rule, and never prints it.
func TestRun_token(t *testing.T) {
	t.Parallel()
	const other = "0f0e0d0c-4a3c-4a0b-9c55-0123456789ab"
	for name, test := range map[string]struct {
		spec  acstest.TokenSpec
		off   time.Duration // of the issuer's clock
		wants []want
	}{
		"good":      {acstest.TokenSpec{}, 0, []want{{"token", "ok", "^signature", ""}, {"token", "ok", `dates: exp is \d+m\d+s ahead; iat was \S+ ago`, ""}}},
		"expired":   {acstest.TokenSpec{}, -10 * time.Minute, []want{{"token", "fail", `dates: exp was 5m\d*s ago, 4m\d*s more than the leeway of 1m0s`, "401, expired"}, {"token", "ok", "^signature", ""}}},
		"early":     {acstest.TokenSpec{}, 10 * time.Minute, []want{{"token", "fail", `iat is \S+ ahead, (9m0|8m5\d)s more than the leeway`, "401, not_yet_valid"}}},
		"day-long":  {acstest.TokenSpec{Lifetime: 24 * time.Hour}, 0, []want{{"token", "fail", `lifetime: lives 24h0m0s, at most 10m0s: 23h50m0s too long`, "401, lifetime_too_long"}}},
		"audience":  {acstest.TokenSpec{Audience: other}, 0, []want{{"token", "fail", `audience: aud is "` + other + `", accepted is "` + acstest.DemoAudience, "401, wrong_audience"}, {"token", "ok", "^signature", ""}}},
		"issuer":    {acstest.TokenSpec{Issuer: "https://evil.example"}, 0, []want{{"token", "fail", `issuer: iss is "https://evil.example", accepted is`, "401, wrong_issuer"}}},
		"signature": {acstest.TokenSpec{Forge: acstest.ForgeSignature}, 0, []want{{"token", "fail", "^signature", "401, bad_signature"}, {"token", "ok", "^audience", ""}}},
		"key":       {acstest.TokenSpec{Forge: acstest.ForgeUnknownKid}, 0, []want{{"token", "fail", "^key: the issuer publishes no key with this kid", "401, unknown_key"}}},
		"alg none":  {acstest.TokenSpec{Forge: acstest.ForgeHMAC}, 0, []want{{"token", "fail", "^header: .*alg must be RS256", "401, bad_algorithm"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := healthy(t, "--nats-url=nats://"+bridgetest.FreeAddress(t)) // not examined
			test.spec.Now = time.Now().Add(test.off)
			s.opts.Token = s.token(test.spec)
			r := s.check()
			for _, w := range test.wants {
				expect(t, r, w, "token")
			}
			checkTokenHidden(t, s.opts.Token, r)
		})
	}
	s := healthy(t, "--nats-url=nats://"+bridgetest.FreeAddress(t))
	s.opts.Token = "no.token"
	expect(t, s.check(), want{"token", "fail", "^form", "401, malformed_token"})
	s.issuer.SetFault(acstest.FaultError)
	s.opts.Token = s.token(acstest.TokenSpec{})
	expect(t, s.check(), want{"token", "warn", "key: no keys are held", "503"}, "keys")
}

func checkTokenHidden(t *testing.T, token string, r check.Report) {
	t.Helper()
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 8 && strings.Contains(list(r), part) {
			t.Errorf("a part of the token is printed:\n%s", list(r))
		}
	}
}

// TestRun_eventGridKeys looks at the keys of Event Grid's issuer, too.
func TestRun_eventGridKeys(t *testing.T) {
	t.Parallel()
	s := healthy(t)
	args := []string{
		"--eventgrid-tenant=" + acstest.DemoTenant, "--eventgrid-audience=" + acstest.DemoApplication, "--eventgrid-source=demo=" + acstest.DemoTopic,
		"--eventgrid-issuer=" + s.issuer.Name(), "--eventgrid-oidc-config-url=",
	}
	good := append(args[:4:4], "--eventgrid-oidc-config-url="+s.issuer.MetadataURL())
	r := s.check(good...)
	expect(t, r, want{"eventgrid", "ok", "1 usable key", ""})
	bad := append(args[:4:4], "--eventgrid-oidc-config-url=http://"+bridgetest.FreeAddress(t)+"/x")
	expect(t, s.check(bad...), want{"eventgrid", "fail", "no keys: .*connection refused", "no server listens"})
}
