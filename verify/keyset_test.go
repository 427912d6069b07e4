package verify_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/verify"
)

// oddKeyID names the key of a key set that is under test.
const oddKeyID = "odd"

// kidOf returns the kid that the issuer signs with.
func kidOf(t testing.TB, issuer *acstest.Issuer) string {
	t.Helper()
	parsed, _, err := jwt.NewParser().ParseUnverified(sign(t, issuer, acstest.TokenSpec{}), jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Header["kid"].(string)
}

// oddKey is a spec for a token of the odd key.
func oddKey(key *rsa.PrivateKey) acstest.TokenSpec {
	return acstest.TokenSpec{Key: key, Header: map[string]any{"kid": oddKeyID}}
}

// withMembers runs a verifier with an issuer that publishes members before its own
// key.
func withMembers(t *testing.T, check func(*testing.T, *acstest.Issuer, *verify.Verifier, *prometheus.Registry), members ...json.RawMessage) {
	t.Helper()
	issuer := newIssuer(t)
	issuer.Publish(members...)
	synctest.Test(t, func(t *testing.T) {
		c := config(issuer)
		registry := prometheus.NewRegistry()
		c.Registerer = registry
		v := start(t, c)
		pastCooldown()
		expect(t, v, sign(t, issuer, acstest.TokenSpec{}), vectorAccepted)
		check(t, issuer, v, registry)
	})
}

// TestKeySet_K6_K9_unusableKey publishes an unusable key before a good one. The good
// one must work, the other must not; its tokens are not certainly bad, because the
// issuer publishes it.
func TestKeySet_K6_K9_unusableKey(t *testing.T) {
	odd := newKey()
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(changes map[string]any) json.RawMessage { return jwk(t, &odd.PublicKey, oddKeyID, changes) }
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	number := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }
	tests := map[string]struct {
		member json.RawMessage
		key    *rsa.PrivateKey
	}{
		"for encryption":        {changed(map[string]any{"use": "enc"}), odd},
		"of unknown use":        {changed(map[string]any{"use": "tls"}), odd},
		"use of the wrong type": {changed(map[string]any{"use": 1}), odd},
		"operation encrypt":     {changed(map[string]any{"key_ops": []string{"encrypt"}}), odd},
		"no operation":          {changed(map[string]any{"key_ops": []string{}}), odd},
		"for RS512":             {changed(map[string]any{"alg": "RS512"}), odd},
		"for RSA-OAEP":          {changed(map[string]any{"alg": "RSA-OAEP"}), odd},
		"of 1024 bits":          {jwk(t, &weak.PublicKey, oddKeyID, nil), weak},
		"of too many bits":      {changed(map[string]any{"n": strings.Repeat("_", 1368)}), odd},
		"even modulus":          {changed(map[string]any{"n": number(new(big.Int).Sub(odd.N, big.NewInt(1)))}), odd},
		"even exponent":         {changed(map[string]any{"e": number(big.NewInt(65536))}), odd},
		"exponent one":          {changed(map[string]any{"e": "AQ"}), odd},
		"exponent of 65 bits":   {changed(map[string]any{"e": number(new(big.Int).SetBit(big.NewInt(65537), 64, 1))}), odd},
		"modulus not base64url": {changed(map[string]any{"n": "!"}), odd},
		"no modulus":            {changed(map[string]any{"n": nil}), odd},
		"no exponent":           {changed(map[string]any{"e": nil}), odd},
		"of unknown kind":       {changed(map[string]any{"kty": "AKP"}), odd},
		"a curve":               {jwk(t, &curve.PublicKey, oddKeyID, map[string]any{"alg": "ES256"}), odd},
		"symmetric":             {json.RawMessage(`{"kty":"oct","kid":"odd","k":"c2VjcmV0"}`), odd},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			withMembers(t, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier, registry *prometheus.Registry) {
				expect(t, v, sign(t, issuer, oddKey(test.key)), verify.KeysUnavailable)
				checkHeld(t, v, 1)
				checkMetric(t, registry, "acsbridge_jwks_skipped_keys", 1)
			}, test.member)
		})
	}
}

func TestKeySet_K6_keyWithoutAUsableKid(t *testing.T) {
	public := &sharedKey().PublicKey
	for name, member := range map[string]json.RawMessage{
		"a number":       json.RawMessage(`7`),
		"null":           json.RawMessage(`null`),
		"a string":       json.RawMessage(`"key"`),
		"an empty key":   json.RawMessage(`{}`),
		"no kid":         jwk(t, public, "", nil),
		"kid a number":   jwk(t, public, "", map[string]any{"kid": 7}),
		"kid with blank": jwk(t, public, "a b", nil),
		"kid too long":   jwk(t, public, strings.Repeat("k", 257), nil),
	} {
		t.Run(name, func(t *testing.T) {
			withMembers(t, func(t *testing.T, _ *acstest.Issuer, v *verify.Verifier, registry *prometheus.Registry) {
				checkHeld(t, v, 1)
				checkMetric(t, registry, "acsbridge_jwks_skipped_keys", 1)
			}, member)
		})
	}
}

func TestKeySet_K6_otherMembersAreIgnored(t *testing.T) {
	odd := newKey()
	for name, changes := range map[string]map[string]any{
		"x5u over http":         {"x5u": "http://other.example/cert"},
		"x5c not a certificate": {"x5c": []string{"MIIB"}},
		"x5c of another type":   {"x5c": 7},
		"x5t not base64url":     {"x5t": "!"},
		"unknown operation":     {"key_ops": []string{"verify", "frobnicate"}},
		"no use, no alg":        {"use": nil, "alg": nil},
		"unknown member":        {"pq": map[string]any{}},
	} {
		t.Run(name, func(t *testing.T) {
			withMembers(t, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier, registry *prometheus.Registry) {
				expect(t, v, sign(t, issuer, oddKey(odd)), vectorAccepted)
				checkHeld(t, v, 2)
				checkMetric(t, registry, "acsbridge_jwks_skipped_keys", 0)
				if issuer.SSRFHits() != 0 {
					t.Errorf("%d requests to addresses of a key", issuer.SSRFHits())
				}
			}, jwk(t, &odd.PublicKey, oddKeyID, changes))
		})
	}
}

func TestKeySet_K9_tooManyKeys(t *testing.T) {
	var members []json.RawMessage
	for i := range 40 {
		members = append(members, jwk(t, &sharedKey().PublicKey, strings.Repeat("k", i+1), nil))
	}
	issuer := newIssuer(t)
	issuer.Publish(members...)
	synctest.Test(t, func(t *testing.T) {
		v := start(t, config(issuer))
		synctest.Wait()
		checkHeld(t, v, 32)
	})
}

func TestKeySet_K13_twoKeysWithOneKid(t *testing.T) {
	first, second := newKey(), newKey()
	withMembers(t, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier, registry *prometheus.Registry) {
		expect(t, v, sign(t, issuer, oddKey(first)), vectorAccepted)
		expect(t, v, sign(t, issuer, oddKey(second)), string(verify.BadSignature))
		checkHeld(t, v, 2)
		checkMetric(t, registry, "acsbridge_jwks_skipped_keys", 1)
	}, jwk(t, &first.PublicKey, oddKeyID, nil), jwk(t, &second.PublicKey, oddKeyID, nil))
}

func checkHeld(t *testing.T, v *verify.Verifier, want int) {
	t.Helper()
	if got := v.Keys().Held; got != want {
		t.Errorf("%d keys held, want %d", got, want)
	}
}
