package verify_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/verify"
)

// The configuration of the vectors in testdata/entra, and of these tests.
const (
	tenant      = "5f0c8d2e-3b1a-4c47-8f6e-2d9b7a1c4e60"
	application = "9b2d4c1e-7f35-4a8b-b6d0-1e8c5a3f7042" // ours
	issuerV1    = "https://sts.windows.net/" + tenant + "/"
	issuerV2    = "https://login.microsoftonline.com/" + tenant + "/v2.0"
	otherSender = "54316b56-3481-47f9-8f30-0300f5542a7b"
)

// entraConfig is the configuration for an issuer without a socket.
func entraConfig(issuer *acstest.Issuer) verify.Config {
	return verify.Config{
		MetadataURL: issuer.MetadataURL(),
		Transport:   issuer.Transport(),
		Entra:       &verify.Entra{Tenant: tenant, Issuers: []string{issuer.Name()}, Audiences: []string{application}},
	}
}

// entraVectorConfig is the configuration of the vectors in testdata/entra.
func entraVectorConfig(issuer *acstest.Issuer) verify.Config {
	return verify.Config{
		Transport: entraTransport{issuer},
		Entra: &verify.Entra{
			Tenant: tenant, Audiences: []string{application, "api://" + application},
			Applications: []string{verify.EventGridApplication, otherSender},
		},
		Now: func() time.Time { return vectorTime },
	}
}

// entraTransport answers like the public cloud: the OIDC document of one tenant at
// its address, and keys next to it.
type entraTransport struct{ issuer *acstest.Issuer }

func (e entraTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	const keys = "https://login.microsoftonline.com/" + tenant + "/discovery/v2.0/keys"
	switch r.URL.String() {
	case "https://login.microsoftonline.com/" + tenant + "/v2.0/.well-known/openid-configuration":
		w := httptest.NewRecorder()
		_, _ = w.WriteString(`{"issuer":"` + issuerV2 + `","jwks_uri":"` + keys + `"}`)
		return w.Result(), nil
	case keys:
		r = r.Clone(r.Context())
		r.URL.Path = "/calling/keys"
	}
	return e.issuer.Transport().RoundTrip(r) // other requests are SSRF hits
}

// signEntra makes a token like Event Grid's.
func signEntra(t testing.TB, issuer *acstest.Issuer, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"appid": verify.EventGridApplication, "tid": tenant}
	for name, value := range claims {
		all[name] = value
	}
	return sign(t, issuer, acstest.TokenSpec{Audience: application, Lifetime: 24 * time.Hour, Claims: all})
}

func TestEntra_E6_keysOfOtherIssuers(t *testing.T) {
	const consumers = "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"
	key := newKey()
	for name, test := range map[string]struct {
		issuer any
		want   string
	}{
		"ours by placeholder": {"https://login.microsoftonline.com/{tenantid}/v2.0", vectorAccepted},
		"ours by name":        {issuerV2, vectorAccepted},
		"ours, version 1":     {issuerV1, vectorAccepted},
		"not said":            {nil, vectorAccepted},
		"consumers'":          {consumers, verify.KeysUnavailable},
		"no issuer at all":    {"{tenantid}", verify.KeysUnavailable},
		"empty":               {"", verify.KeysUnavailable},
		"of another type":     {1, verify.KeysUnavailable},
	} {
		issuer := newIssuer(t)
		issuer.Publish(jwk(t, &key.PublicKey, "k2", map[string]any{"issuer": test.issuer}))
		synctest.Test(t, func(t *testing.T) {
			c := entraVectorConfig(issuer)
			c.Now = nil
			v := start(t, c)
			pastCooldown()
			token := sign(t, issuer, acstest.TokenSpec{
				Audience: application, Issuer: issuerV1, Key: key, Header: map[string]any{"kid": "k2"},
				Claims: map[string]any{"appid": verify.EventGridApplication},
			})
			if _, err := v.Verify(t.Context(), token); verdict(err) != test.want {
				t.Errorf("%s: got %v, want %s", name, err, test.want)
			}
		})
	}
	for _, anything := range []any{consumers, "", 1} { // ACS may use the member as it likes
		issuer := newIssuer(t)
		issuer.Publish(jwk(t, &key.PublicKey, "k2", map[string]any{"issuer": anything}))
		synctest.Test(t, func(t *testing.T) {
			v := start(t, config(issuer))
			pastCooldown()
			expect(t, v, sign(t, issuer, acstest.TokenSpec{Key: key, Header: map[string]any{"kid": "k2"}}), vectorAccepted)
		})
	}
}

// TestEntra_E7_tokensOfTheOtherProfile gives each profile the good tokens of the
// other, with one key server for both.
func TestEntra_E7_tokensOfTheOtherProfile(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		callbacks, eventGrid := start(t, config(issuer)), start(t, entraConfig(issuer))
		expect(t, callbacks, signEntra(t, issuer, nil), string(verify.WrongAudience))
		expect(t, callbacks, signEntra(t, issuer, map[string]any{"aud": audience}), string(verify.LifetimeTooLong))
		expect(t, eventGrid, sign(t, issuer, acstest.TokenSpec{}), string(verify.WrongAudience))
		expect(t, eventGrid, sign(t, issuer, acstest.TokenSpec{Audience: application}), string(verify.WrongApplication))
		expect(t, eventGrid, signEntra(t, issuer, nil), vectorAccepted)
		expect(t, callbacks, sign(t, issuer, acstest.TokenSpec{}), vectorAccepted)
	})
}

func TestEntra_E8_callerPicksTheResource(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		c := entraConfig(issuer)
		c.TokenReuse = verify.ReuseRefuse // which would refuse all but the first event
		v := start(t, c)
		claims, err := v.Verify(t.Context(), signEntra(t, issuer, nil))
		if err != nil || claims.Resource() != "" {
			t.Fatalf("%v, resource %q", err, claims.Resource())
		}
		if err := v.CheckReuse(claims, nil); err == nil {
			t.Error("claims without a resource were bound to a body")
		}
		picked, err := claims.ForResource("contoso")
		if err != nil {
			t.Fatal(err)
		}
		got := []string{picked.Resource(), picked.Audience(), picked.Issuer(), picked.KeyID(), string(picked.JSON()), claims.Resource()}
		want := []string{"contoso", application, issuer.Name(), kidOf(t, issuer), string(claims.JSON()), ""}
		if diff := cmp.Diff(want, got); diff != "" || !picked.HasToken() {
			t.Error(diff)
		}
		if err := errors.Join(v.CheckReuse(picked, []byte("one")), v.CheckReuse(picked, []byte("another"))); err != nil {
			t.Error(err)
		}
		if _, err := picked.ForResource("fabrikam"); err == nil {
			t.Error("a resource was picked twice")
		}
		for _, name := range []string{"", "a.b", "*", strings.Repeat("a", 65)} {
			if _, err := claims.ForResource(name); err == nil {
				t.Errorf("%q was picked", name)
			}
		}
		callback, err := start(t, config(issuer)).Verify(t.Context(), sign(t, issuer, acstest.TokenSpec{}))
		if err != nil {
			t.Fatal(err)
		}
		var none *verify.Claims
		for name, c := range map[string]*verify.Claims{"of a callback": callback, "not verified": {}, "none": none} {
			if _, err := c.ForResource("contoso"); err == nil {
				t.Errorf("claims %s were given a resource", name)
			}
		}
	})
}

func TestEntra_E9_badProfiles(t *testing.T) {
	good := verify.Entra{Tenant: tenant, Audiences: []string{application}}
	if _, err := verify.New(verify.Config{Entra: &good}); err != nil {
		t.Fatal(err)
	}
	if good.Issuers != nil || good.Applications != nil {
		t.Error("New has changed the caller's profile")
	}
	for name, test := range map[string]struct {
		change func(*verify.Config, *verify.Entra)
		want   string
	}{
		"no tenant":          {func(_ *verify.Config, e *verify.Entra) { e.Tenant = "" }, `eventgrid-tenant: ""`},
		"tenant by name":     {func(_ *verify.Config, e *verify.Entra) { e.Tenant = "contoso.example" }, `eventgrid-tenant: "contoso`},
		"tenant in braces":   {func(_ *verify.Config, e *verify.Entra) { e.Tenant = "{" + tenant + "}" }, "eventgrid-tenant: "},
		"no issuer":          {func(c *verify.Config, e *verify.Entra) { c.MetadataURL, e.Issuers = issuerV1, []string{} }, "eventgrid-issuer: at least one"},
		"empty issuer":       {func(c *verify.Config, e *verify.Entra) { c.MetadataURL, e.Issuers = issuerV1, []string{issuerV1, ""} }, "eventgrid-issuer: is not a URL"},
		"no audience":        {func(_ *verify.Config, e *verify.Entra) { e.Audiences = nil }, "eventgrid-audience: is needed"},
		"blank audience":     {func(_ *verify.Config, e *verify.Entra) { e.Audiences = []string{" "} }, `eventgrid-audience: " "`},
		"no application":     {func(_ *verify.Config, e *verify.Entra) { e.Applications = []string{} }, "eventgrid-app: at least one"},
		"empty application":  {func(_ *verify.Config, e *verify.Entra) { e.Applications = []string{""} }, `eventgrid-app: ""`},
		"issuer beside it":   {func(c *verify.Config, _ *verify.Entra) { c.Issuer = issuerV1 }, "entra: has issuers"},
		"resource beside it": {func(c *verify.Config, _ *verify.Entra) { c.Resources = contoso() }, "entra: has issuers"},
		"plain http": {func(c *verify.Config, e *verify.Entra) {
			c.MetadataURL, e.Issuers = "http://issuer.example", []string{issuerV1}
		}, "eventgrid-oidc-config-url: is plain http"},
		"leeway": {func(c *verify.Config, _ *verify.Entra) { c.Leeway = -1 }, "leeway: "},
	} {
		entra := good
		c := verify.Config{Entra: &entra}
		test.change(&c, &entra)
		if _, err := verify.New(c); err == nil || !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %s…", name, err, test.want)
		}
	}
}
