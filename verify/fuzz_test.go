package verify_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/verify"
)

// FuzzVerify looks for a token that is accepted and is not one of the vectors:
// a second spelling of one, or a hole. Every other token must get a verdict of
// the closed set.
func FuzzVerify(f *testing.F) { fuzzVerify(f, "tokens", vectorConfig) }

// FuzzVerifyEntra is FuzzVerify for the other profile.
func FuzzVerifyEntra(f *testing.F) { fuzzVerify(f, "entra", entraVectorConfig) }

func fuzzVerify(f *testing.F, vectors string, config func(*acstest.Issuer) verify.Config) {
	issuer := vectorIssuer(f)
	v := start(f, config(issuer))
	accepted := map[string]bool{}
	for _, vector := range loadVectors(f, vectors) {
		f.Add(vector.token)
		if vector.expect == vectorAccepted {
			accepted[vector.token] = true
			expect(f, v, vector.token, vectorAccepted)
		}
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel() // no request waits for a key
	verdicts := append(verify.Reasons(), verify.KeysUnavailable, vectorAccepted)
	f.Fuzz(func(t *testing.T, token string) {
		claims, err := v.Verify(gone, token)
		if (err == nil) != accepted[token] {
			t.Errorf("verdict %v on %q", err, token)
		}
		if _, pickErr := claims.ForResource(resource); (err == nil) != (claims.Resource() != "" || pickErr == nil) {
			t.Errorf("verdict %v with claims of %q, %v", err, claims.Resource(), pickErr)
		}
		if !slices.Contains(verdicts, verify.Reason(verdict(err))) {
			t.Errorf("verdict %v is not of the closed set", err)
		}
	})
}

// FuzzReadObject compares the strict reader of headers and claims with the standard
// library: what the first takes, the other takes too, with the same values.
func FuzzReadObject(f *testing.F) {
	for _, vector := range loadVectors(f, "tokens") {
		for _, segment := range strings.Split(vector.token, ".")[:2] {
			f.Add(decode(segment))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := verify.ReadObject(data)
		if err != nil {
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatalf("%q is taken, but is not JSON: %v", data, err)
		}
		if len(got) != len(want) {
			t.Errorf("%d members of %q, want %d", len(got), data, len(want))
		}
		for name, value := range want {
			if string(got[name]) != string(value) {
				t.Errorf("member %q of %q is %q, want %q", name, data, got[name], value)
			}
		}
	})
}
