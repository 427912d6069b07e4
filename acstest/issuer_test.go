package acstest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
)

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
