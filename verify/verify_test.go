package verify_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/verify"
)

// decode reads a segment; one that is not base64url is empty.
func decode(segment string) []byte {
	text, _ := base64.RawURLEncoding.DecodeString(segment)
	return text
}

func TestReasons_closedSet(t *testing.T) {
	got := verify.Reasons()
	want := []verify.Reason{
		"missing_token", "malformed_token", "unsupported_header", "bad_algorithm", "unknown_key", "bad_signature",
		"expired", "not_yet_valid", "lifetime_too_long", "wrong_issuer", "wrong_audience", "token_reused",
		"wrong_application",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got[0] = "changed"
	if verify.Reasons()[0] != want[0] {
		t.Error("a caller can change the set")
	}
}

func TestVerify_emptyToken(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		expect(t, start(t, config(issuer)), "", string(verify.MissingToken))
	})
}

func TestClaims_all(t *testing.T) {
	inBubble(t, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier) {
		now := time.Now()
		token := sign(t, issuer, acstest.TokenSpec{Claims: map[string]any{
			"aud": []string{"https://example.test", audience},
			"sub": "acs", "jti": "4be0643f",
			"iat": now.Add(-time.Second).Unix(), "nbf": now.Add(time.Second).Unix(),
		}})
		claims, err := v.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		issued, _ := claims.IssuedAt()
		notBefore, _ := claims.NotBefore()
		got := []any{
			claims.Resource(), claims.Issuer(), claims.Audience(), claims.KeyID(), claims.Subject(), claims.ID(),
			claims.ExpiresAt().Sub(now), issued.Sub(now), notBefore.Sub(now), string(claims.JSON()),
		}
		want := []any{
			resource, issuer.Name(), audience, kidOf(t, issuer), "acs", "4be0643f",
			5 * time.Minute, -time.Second, time.Second, string(decode(strings.Split(token, ".")[1])),
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		claims.JSON()[0] = 'x'
		if claims.JSON()[0] != '{' {
			t.Error("a caller can change the claims")
		}
	})
}

func TestClaims_absent(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		claims, err := start(t, config(issuer)).Verify(t.Context(), sign(t, issuer, acstest.TokenSpec{
			Claims: map[string]any{"iat": nil, "nbf": nil, "jti": nil},
		}))
		if err != nil {
			t.Fatal(err)
		}
		_, issued := claims.IssuedAt()
		_, notBefore := claims.NotBefore()
		if issued || notBefore || claims.Subject() != "" || claims.ID() != "" {
			t.Errorf("iat %v, nbf %v, sub %q, jti %q, want none", issued, notBefore, claims.Subject(), claims.ID())
		}
	})
}

func TestClaims_notVerified(t *testing.T) {
	var none *verify.Claims
	if none.Resource() != "" || new(verify.Claims).Resource() != "" {
		t.Error("claims that Verify did not make have a resource")
	}
}

func TestVerify_audiencePicksTheResource(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		c := config(issuer)
		c.Resources = append(c.Resources, verify.Resource{Name: otherResource, Audience: otherAudience})
		v := start(t, c)
		for audience, want := range map[string]string{audience: resource, otherAudience: otherResource} {
			claims, err := v.Verify(t.Context(), sign(t, issuer, acstest.TokenSpec{Audience: audience}))
			if err != nil || claims.Resource() != want || claims.Audience() != audience {
				t.Errorf("audience %s: resource %q, %v, want %q", audience, claims.Resource(), err, want)
			}
		}
	})
}

// TestVerify_J6_leeway: the vectors have the default.
func TestVerify_J6_leeway(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		c := config(issuer)
		c.Leeway = 5 * time.Second
		v := start(t, c)
		expect(t, v, sign(t, issuer, acstest.TokenSpec{Lifetime: -4 * time.Second}), vectorAccepted)
		expect(t, v, sign(t, issuer, acstest.TokenSpec{Lifetime: -5 * time.Second}), string(verify.Expired))
		long := map[string]any{"iat": nil, "nbf": nil}
		expect(t, v, sign(t, issuer, acstest.TokenSpec{Lifetime: 605 * time.Second, Claims: long}), vectorAccepted)
		expect(t, v, sign(t, issuer, acstest.TokenSpec{Lifetime: 606 * time.Second, Claims: long}), string(verify.LifetimeTooLong))
	})
}

func TestVerify_J10_oneSpellingOfAToken(t *testing.T) {
	inBubble(t, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier) {
		token := sign(t, issuer, acstest.TokenSpec{})
		expect(t, v, token, vectorAccepted)
		s := strings.Split(token, ".")
		join := func(segments ...string) string { return strings.Join(segments, ".") }
		for name, other := range map[string]string{
			"padded header":            join(s[0]+"=", s[1], s[2]),
			"padded payload":           join(s[0], s[1]+"==", s[2]),
			"padded signature":         join(s[0], s[1], s[2]+"=="),
			"line feed in signature":   join(s[0], s[1], s[2][:9]+"\n"+s[2][9:]),
			"line break at the end":    token + "\r\n",
			"carriage return in front": "\r" + token,
			"line feed in payload":     join(s[0], s[1][:9]+"\n"+s[1][9:], s[2]),
			"blank in header":          join(s[0][:9]+" "+s[0][9:], s[1], s[2]),
			"NUL at the end":           token + "\x00",
			"other alphabet":           join(s[0], s[1], strings.NewReplacer("-", "+", "_", "/").Replace(s[2]+"-")),
			"one segment":              s[0],
			"two segments":             join(s[0], s[1]),
			"four segments":            join(s[0], s[1], s[2], ""),
			"five segments":            join(s[0], s[1], s[2], s[2], s[2]),
			"no header":                join("", s[1], s[2]),
			"no payload":               join(s[0], "", s[2]),
			"no signature":             join(s[0], s[1], ""),
			"dots":                     "..",
			"another dot in front":     "." + token,
			"not ASCII":                join(s[0], s[1], s[2]+"é"),
		} {
			if _, err := v.Verify(t.Context(), other); verdict(err) != string(verify.MalformedToken) {
				t.Errorf("%s: %v, want %s", name, err, verify.MalformedToken)
			}
		}
	})
}

// TestVerify_J10_spareBits sets the bits after the last byte of each segment, which a
// decoder may ignore.
func TestVerify_J10_spareBits(t *testing.T) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	inBubble(t, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier) {
		changed := map[int]bool{}
		for pad := range 3 { // until each segment has had spare bits
			padding := map[string]any{"x": strings.Repeat("x", pad)}
			token := sign(t, issuer, acstest.TokenSpec{Header: padding, Claims: padding})
			expect(t, v, token, vectorAccepted)
			for i, segment := range strings.Split(token, ".") {
				if len(segment)%4 == 0 {
					continue
				}
				last := strings.IndexByte(alphabet, segment[len(segment)-1])
				s := strings.Split(token, ".")
				s[i] = segment[:len(segment)-1] + alphabet[last+1:last+2]
				if string(decode(s[i])) != string(decode(segment)) {
					t.Fatal("the test changed more than spare bits")
				}
				expect(t, v, strings.Join(s, "."), string(verify.MalformedToken))
				changed[i] = true
			}
		}
		if len(changed) != 3 {
			t.Errorf("spare bits set in segments %v, want all three", changed)
		}
	})
}

func TestVerify_J11_bounds(t *testing.T) {
	padding := func(size int) map[string]any { return map[string]any{"x": strings.Repeat("x", size)} }
	tests := map[string]struct {
		limit  int
		length func(token string) int
		padded func(size int) acstest.TokenSpec
	}{
		"token": {
			limit:  8 << 10,
			length: func(token string) int { return len(token) },
			padded: func(size int) acstest.TokenSpec { return acstest.TokenSpec{Claims: padding(size)} },
		},
		"header": {
			limit:  2 << 10,
			length: func(token string) int { return strings.IndexByte(token, '.') },
			padded: func(size int) acstest.TokenSpec { return acstest.TokenSpec{Header: padding(size)} },
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier) {
				token := sign(t, issuer, test.padded(0))
				size := (test.limit-test.length(token))*3/4 - 8
				for longest := ""; ; size++ {
					token = sign(t, issuer, test.padded(size))
					if test.length(token) > test.limit {
						expect(t, v, longest, vectorAccepted)
						expect(t, v, token, string(verify.MalformedToken))
						return
					}
					longest = token
				}
			})
		})
	}
}

func TestBearerToken_J12_values(t *testing.T) {
	tests := map[string]struct {
		values []string
		token  string
		reason verify.Reason
	}{
		"one":                 {[]string{"Bearer a.b.c"}, "a.b.c", ""},
		"lower case":          {[]string{"bearer a.b.c"}, "a.b.c", ""},
		"upper case":          {[]string{"BEARER a.b.c"}, "a.b.c", ""},
		"several blanks":      {[]string{"Bearer   a.b.c "}, "a.b.c", ""},
		"none":                {nil, "", verify.MissingToken},
		"empty":               {[]string{""}, "", verify.MissingToken},
		"scheme alone":        {[]string{"Bearer"}, "", verify.MissingToken},
		"scheme and blank":    {[]string{"Bearer "}, "", verify.MissingToken},
		"no scheme":           {[]string{"a.b.c"}, "", verify.MissingToken},
		"basic":               {[]string{"Basic YTpi"}, "", verify.MissingToken},
		"longer scheme":       {[]string{"BearerX a.b.c"}, "", verify.MissingToken},
		"tab":                 {[]string{"Bearer\ta.b.c"}, "", verify.MissingToken},
		"two values":          {[]string{"Bearer a.b.c", "Bearer a.b.c"}, "", verify.MalformedToken},
		"two values, one bad": {[]string{"Basic YTpi", "Bearer a.b.c"}, "", verify.MalformedToken},
		"two in one":          {[]string{"Bearer a.b.c, Bearer d.e.f"}, "", verify.MalformedToken},
		"two tokens":          {[]string{"Bearer a.b.c d.e.f"}, "", verify.MalformedToken},
		"comma":               {[]string{"Bearer a.b.c,"}, "", verify.MalformedToken},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			token, err := verify.BearerToken(test.values)
			want := string(test.reason)
			if want == "" {
				want = vectorAccepted
			}
			if token != test.token || verdict(err) != want {
				t.Errorf("got %q, %v, want %q, %s", token, err, test.token, want)
			}
		})
	}
}

func TestVerifyBearer_countsMissingTokens(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		c := config(issuer)
		c.Registerer = registry
		v := start(t, c)
		if _, err := v.VerifyBearer(t.Context(), nil); verdict(err) != string(verify.MissingToken) {
			t.Errorf("without a token: %v", err)
		}
		claims, err := v.VerifyBearer(t.Context(), []string{"Bearer " + sign(t, issuer, acstest.TokenSpec{})})
		if err != nil || claims.Resource() != resource {
			t.Errorf("with a token: %v for %q", err, claims.Resource())
		}
		checkMetric(t, registry, "acsbridge_verify_total", 1, "reason", "missing_token")
		checkMetric(t, registry, "acsbridge_verify_total", 1, "result", "accepted")
	})
}
