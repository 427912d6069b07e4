package acstest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
)

const audience = "1f6c4f9a-7a4e-4c39-9f1c-0d6a4f0b2a11"

func fetch(t *testing.T, issuer *acstest.Issuer, url string) []byte {
	t.Helper()
	response, err := (&http.Client{Transport: issuer.Transport()}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// keysURL reads the address of the key set from the OIDC document.
func keysURL(t *testing.T, issuer *acstest.Issuer) string {
	t.Helper()
	var document struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(fetch(t, issuer, issuer.MetadataURL()), &document); err != nil || document.Issuer != issuer.Name() {
		t.Errorf("the document names issuer %q, its tokens %q: %v", document.Issuer, issuer.Name(), err)
	}
	return document.JWKSURI
}

// parse checks a token with the published keys, as another client would.
func parse(t *testing.T, issuer *acstest.Issuer, token, audience string) (*jwt.Token, error) {
	t.Helper()
	keys, err := keyfunc.NewJWKSetJSON(fetch(t, issuer, keysURL(t, issuer)))
	if err != nil {
		t.Fatal(err)
	}
	return jwt.Parse(token, keys.Keyfunc, jwt.WithValidMethods([]string{"RS256"}),
		jwt.WithIssuer(issuer.Name()), jwt.WithAudience(audience), jwt.WithExpirationRequired())
}

func sign(t *testing.T, issuer *acstest.Issuer, spec acstest.TokenSpec) string {
	t.Helper()
	spec.Audience = audience
	token, err := issuer.Sign(spec)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestIssuer_goodToken(t *testing.T) {
	issuer := newIssuer(t)
	now := time.Now()
	token := sign(t, issuer, acstest.TokenSpec{Now: now, Claims: map[string]any{"tid": "t", "iat": nil}, Header: map[string]any{"cty": "JWT"}})
	parsed, err := parse(t, issuer, token, audience)
	if err != nil {
		t.Fatal(err)
	}
	claims := parsed.Claims.(jwt.MapClaims)
	if life := claims["exp"].(float64) - claims["nbf"].(float64); life != 300 || claims["tid"] != "t" || claims["iat"] != nil {
		t.Errorf("claims %v, want a lifetime of 300 s, tid, and no iat", claims)
	}
	if h := parsed.Header; h["typ"] != "JWT" || h["kid"] == "" || h["cty"] != "JWT" {
		t.Errorf("header %v, want typ, kid and cty", h)
	}
	if token == sign(t, issuer, acstest.TokenSpec{Now: now, Claims: map[string]any{"tid": "t", "iat": nil}, Header: map[string]any{"cty": "JWT"}}) {
		t.Error("two tokens of one second are the same string")
	}
}

func TestIssuer_badTokens(t *testing.T) {
	issuer := newIssuer(t)
	for name, spec := range map[string]acstest.TokenSpec{
		"signature":   {Forge: acstest.ForgeSignature},
		"key":         {Forge: acstest.ForgeKey},
		"unknown kid": {Forge: acstest.ForgeUnknownKid},
		"none":        {Forge: acstest.ForgeAlgNone},
		"hmac":        {Forge: acstest.ForgeHMAC},
		"expired":     {Lifetime: -time.Minute},
		"issuer":      {Issuer: "https://issuer.example"},
	} {
		if _, err := parse(t, issuer, sign(t, issuer, spec), audience); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestIssuer_counts fetches and requests that a verifier must not make.
func TestIssuer_counts(t *testing.T) {
	issuer := newIssuer(t)
	issuer.SetFault(acstest.FaultForeignKeys)
	foreign := keysURL(t, issuer)
	if !strings.HasPrefix(foreign, "http://localhost/") {
		t.Fatalf("the key set is at %s, want another origin", foreign)
	}
	fetch(t, issuer, foreign)
	metadata, keys := issuer.Fetches()
	if got, want := []int{metadata, keys, issuer.SSRFHits()}, []int{1, 0, 1}; !cmp.Equal(got, want) {
		t.Errorf("metadata, keys, SSRF hits: got %v, want %v", got, want)
	}
}
