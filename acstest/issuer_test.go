package acstest_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
)

const audience = "1f6c4f9a-7a4e-4c39-9f1c-0d6a4f0b2a11"

// sharedKey is made once: a key costs a tenth of a second.
var sharedKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newIssuer(t *testing.T) *acstest.Issuer {
	t.Helper()
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{Key: sharedKey()})
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}

// fetch reads a URL through the issuer's own transport, or over a socket.
func fetch(t *testing.T, transport http.RoundTripper, url string) (int, []byte) {
	t.Helper()
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, body
}

// keysURL reads the address of the key set from the OIDC document.
func keysURL(t *testing.T, transport http.RoundTripper, issuer *acstest.Issuer) string {
	t.Helper()
	var document struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if _, body := fetch(t, transport, issuer.MetadataURL()); json.Unmarshal(body, &document) != nil {
		t.Fatalf("the OIDC document is no JSON: %s", body)
	}
	if document.Issuer != issuer.Name() {
		t.Errorf("the document names issuer %q, its tokens %q", document.Issuer, issuer.Name())
	}
	return document.JWKSURI
}

// parse checks a token with the published keys, as a plain client would.
func parse(t *testing.T, issuer *acstest.Issuer, token string) (*jwt.Token, error) {
	t.Helper()
	transport := issuer.Transport()
	_, body := fetch(t, transport, keysURL(t, transport, issuer))
	keys, err := keyfunc.NewJWKSetJSON(body)
	if err != nil {
		t.Fatal(err)
	}
	return jwt.Parse(token, keys.Keyfunc, jwt.WithValidMethods([]string{"RS256"}),
		jwt.WithIssuer(issuer.Name()), jwt.WithAudience(audience), jwt.WithExpirationRequired())
}

func sign(t *testing.T, issuer *acstest.Issuer, spec acstest.TokenSpec) string {
	t.Helper()
	token, err := issuer.Sign(spec)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestIssuerSignsAGoodToken(t *testing.T) {
	issuer := newIssuer(t)
	token, err := parse(t, issuer, sign(t, issuer, acstest.TokenSpec{Audience: audience}))
	if err != nil {
		t.Fatal(err)
	}
	claims := token.Claims.(jwt.MapClaims)
	if life := claims["exp"].(float64) - claims["nbf"].(float64); life != 300 {
		t.Errorf("the token lives %v s, want 300", life)
	}
	if token.Header["typ"] != "JWT" || token.Header["kid"] == "" {
		t.Errorf("header %v, want typ and kid", token.Header)
	}
}

func TestIssuerNeverSignsTheSameTokenTwice(t *testing.T) {
	issuer := newIssuer(t)
	spec := acstest.TokenSpec{Audience: audience, Now: time.Now()}
	if first, second := sign(t, issuer, spec), sign(t, issuer, spec); first == second {
		t.Error("two tokens of one second are the same string")
	}
}

func TestIssuerReplacesAndRemovesMembers(t *testing.T) {
	issuer := newIssuer(t)
	token := sign(t, issuer, acstest.TokenSpec{
		Audience: audience,
		Claims:   map[string]any{"jti": nil, "tid": "t"},
		Header:   map[string]any{"typ": nil, "cty": "JWT"},
	})
	got, err := parse(t, issuer, token)
	if err != nil {
		t.Fatal(err)
	}
	claims := got.Claims.(jwt.MapClaims)
	if _, held := claims["jti"]; held || claims["tid"] != "t" {
		t.Errorf("claims %v, want tid and no jti", claims)
	}
	if _, held := got.Header["typ"]; held || got.Header["cty"] != "JWT" {
		t.Errorf("header %v, want cty and no typ", got.Header)
	}
}

func TestIssuerForgesTokensThatNoClientTakes(t *testing.T) {
	issuer := newIssuer(t)
	specs := map[string]acstest.TokenSpec{
		"signature":   {Forge: acstest.ForgeSignature},
		"key":         {Forge: acstest.ForgeKey},
		"unknown kid": {Forge: acstest.ForgeUnknownKid},
		"none":        {Forge: acstest.ForgeAlgNone},
		"hmac":        {Forge: acstest.ForgeHMAC},
		"expired":     {Lifetime: -time.Minute},
		"issuer":      {Issuer: "https://issuer.example"},
	}
	for name, spec := range specs {
		t.Run(name, func(t *testing.T) {
			spec.Audience = audience
			if _, err := parse(t, issuer, sign(t, issuer, spec)); err == nil {
				t.Error("the token was taken")
			}
		})
	}
}

func TestIssuerRotates(t *testing.T) {
	issuer := newIssuer(t)
	first := sign(t, issuer, acstest.TokenSpec{Audience: audience})
	if _, err := issuer.Rotate(true); err != nil {
		t.Fatal(err)
	}
	second := sign(t, issuer, acstest.TokenSpec{Audience: audience})
	for _, token := range []string{first, second} {
		if _, err := parse(t, issuer, token); err != nil {
			t.Errorf("with the old key kept: %v", err)
		}
	}
	if _, err := issuer.Rotate(false); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{first, second} {
		if _, err := parse(t, issuer, token); err == nil {
			t.Error("a token of a withdrawn key was taken")
		}
	}
}

// TestIssuerFaults holds the bodies that are not exercised by a verifier
// against their names.
func TestIssuerFaults(t *testing.T) {
	tests := map[acstest.Fault]struct {
		status int
		prefix string
		size   int
	}{
		acstest.FaultNone:         {200, `{"keys":[{`, 0},
		acstest.FaultError:        {500, `{"keys":[{`, 0},
		acstest.FaultEmptyObject:  {200, `{}`, 0},
		acstest.FaultNull:         {200, `null`, 0},
		acstest.FaultNoKeys:       {200, `{"keys":[]}`, 0},
		acstest.FaultHTML:         {200, `<!doctype html>`, 0},
		acstest.FaultHuge:         {200, `{"keys":[{`, 512 << 10},
		acstest.FaultKeysRedirect: {302, ``, 0},
	}
	issuer := newIssuer(t)
	url := keysURL(t, issuer.Transport(), issuer)
	for fault, want := range tests {
		issuer.SetFault(fault)
		status, body := fetch(t, issuer.Transport(), url)
		if status != want.status || !strings.HasPrefix(string(body), want.prefix) || len(body) < want.size {
			t.Errorf("fault %d: %d with %d bytes %.20q, want %d with %d bytes %q…",
				fault, status, len(body), body, want.status, want.size, want.prefix)
		}
	}
}

func TestIssuerCountsFetchesAndLures(t *testing.T) {
	issuer := newIssuer(t)
	issuer.SetFault(acstest.FaultForeignKeys)
	foreign := keysURL(t, issuer.Transport(), issuer)
	if !strings.HasPrefix(foreign, "http://localhost/") {
		t.Fatalf("the key set is at %s, want another origin", foreign)
	}
	fetch(t, issuer.Transport(), foreign)
	metadata, keys := issuer.Fetches()
	if got, want := []int{metadata, keys, issuer.Lured()}, []int{1, 0, 1}; !cmp.Equal(got, want) {
		t.Errorf("metadata, keys, lured: got %v, want %v", got, want)
	}
}

func TestIssuerTransportFailsLikeANetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := newIssuer(t)
		client := &http.Client{Transport: issuer.Transport()}
		issuer.SetFault(acstest.FaultDown)
		if _, err := client.Get(issuer.MetadataURL()); err == nil {
			t.Error("an issuer that is down answered")
		}
		issuer.SetFault(acstest.FaultSlow)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, issuer.MetadataURL(), nil)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := client.Do(request); err == nil || time.Since(began) != 3*time.Second {
			t.Errorf("a slow issuer: %v after %v, want an error after 3s", err, time.Since(began))
		}
	})
}

func TestIssuerListens(t *testing.T) {
	issuer := newIssuer(t)
	if err := issuer.Start(); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	url := keysURL(t, transport, issuer)
	if status, body := fetch(t, transport, url); status != 200 || !strings.Contains(string(body), `"kid"`) {
		t.Errorf("the key set: %d %s", status, body)
	}
	if err := issuer.Close(); err != nil {
		t.Error(err)
	}
	if _, err := (&http.Client{Transport: transport}).Get(url); err == nil {
		t.Error("a closed issuer answered")
	}
}
