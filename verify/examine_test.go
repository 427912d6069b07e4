package verify_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/verify"
)

// TestVerifier_examine compares what Examine says with the verdict: the first rule that a
// token misses is the reason of its refusal.
func TestVerifier_examine(t *testing.T) {
	issuer := newIssuer(t)
	now := time.Now().Truncate(time.Second)
	c := config(issuer)
	c.Now = func() time.Time { return now }
	v, err := verify.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := v.FetchKeys(t.Context()); err != nil || keys.Usable != 1 {
		t.Fatalf("%+v, %v", keys, err)
	}
	for name, test := range map[string]struct {
		spec  acstest.TokenSpec
		fails []string
		found string
	}{
		"good":         {acstest.TokenSpec{}, nil, "dates: exp is 5m0s ahead; iat was 0s ago; nbf was 0s ago"},
		"expired":      {acstest.TokenSpec{Now: now.Add(-10 * time.Minute)}, []string{"dates"}, "exp was 5m0s ago, 4m0s more than the leeway of 1m0s"},
		"ahead":        {acstest.TokenSpec{Now: now.Add(3 * time.Minute)}, []string{"dates"}, "iat is 3m0s ahead, 2m0s more than the leeway of 1m0s"},
		"far ahead":    {acstest.TokenSpec{Now: now.Add(10 * time.Minute)}, []string{"dates", "lifetime"}, "ends in 15m0s, at most 11m0s: 4m0s too long"},
		"in leeway":    {acstest.TokenSpec{Now: now.Add(-5*time.Minute - 30*time.Second)}, nil, "exp was 30s ago;"},
		"long":         {acstest.TokenSpec{Lifetime: time.Hour}, []string{"lifetime"}, "lives 1h0m0s, at most 10m0s: 50m0s too long"},
		"long by exp":  {acstest.TokenSpec{Lifetime: 12 * time.Minute, Claims: map[string]any{"iat": nil, "nbf": nil}}, []string{"lifetime"}, "ends in 12m0s, at most 11m0s: 1m0s too long"},
		"no exp":       {acstest.TokenSpec{Claims: map[string]any{"exp": nil}}, []string{"dates"}, "exp is missing"},
		"several":      {acstest.TokenSpec{Issuer: "https://a.example", Audience: "x\x1b[31m", Now: now.Add(-time.Hour)}, []string{"issuer", "audience", "dates"}, `aud is "x\x1b[31m"`},
		"two auds":     {acstest.TokenSpec{Claims: map[string]any{"aud": []string{"x", audience}}}, nil, `aud is "x", "` + audience},
		"unknown kid":  {acstest.TokenSpec{Forge: acstest.ForgeUnknownKid}, []string{"key"}, "no key with this kid"},
		"forged":       {acstest.TokenSpec{Forge: acstest.ForgeSignature}, []string{"signature"}, ""},
		"bad claims":   {acstest.TokenSpec{Claims: map[string]any{"exp": "soon"}}, []string{"claims"}, ""},
		"other header": {acstest.TokenSpec{Header: map[string]any{"crit": []string{"x"}}}, []string{"header"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if test.spec.Audience == "" {
				test.spec.Audience = audience
			}
			if test.spec.Now.IsZero() {
				test.spec.Now = now
			}
			token, err := issuer.Sign(test.spec)
			if err != nil {
				t.Fatal(err)
			}
			var fails []string
			var found strings.Builder
			first := error(nil)
			for _, rule := range v.Examine(token) {
				found.WriteString(rule.Name + ": " + rule.Found + "\n")
				if rule.Err != nil {
					fails = append(fails, rule.Name)
					if first == nil {
						first = rule.Err
					}
				}
			}
			if diff := cmp.Diff(test.fails, fails); diff != "" || !strings.Contains(found.String(), test.found) {
				t.Errorf("%s(-want +got):\n%s", found.String(), diff)
			}
			if strings.ContainsRune(found.String(), '\x1b') {
				t.Errorf("a terminal obeys %q", found.String())
			}
			if test.spec.Forge == acstest.ForgeUnknownKid {
				return // Verify asks for a fetch, which only Run makes
			}
			_, verdict := v.Verify(t.Context(), token)
			if reasonOf(verdict) != reasonOf(first) {
				t.Errorf("verdict %v, examined %v", verdict, first)
			}
		})
	}
}

func reasonOf(err error) verify.Reason {
	refused, ok := errors.AsType[*verify.RefusedError](err)
	if !ok {
		return ""
	}
	return refused.Reason
}
