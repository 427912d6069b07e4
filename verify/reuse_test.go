package verify_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/verify"
)

// inReuse is inBubble with a policy for reused tokens.
func inReuse(t *testing.T, policy verify.ReusePolicy, check func(*testing.T, *acstest.Issuer, *verify.Verifier, *prometheus.Registry)) {
	t.Helper()
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		c := config(issuer)
		c.TokenReuse, c.Registerer = policy, registry
		check(t, issuer, start(t, c), registry)
	})
}

func claimsOf(t testing.TB, v *verify.Verifier, token string) *verify.Claims {
	t.Helper()
	claims, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestReuse_policies(t *testing.T) {
	tests := map[verify.ReusePolicy]struct {
		want    string
		counted float64
	}{
		"":                 {vectorAccepted, 1},
		verify.ReuseReport: {vectorAccepted, 1},
		verify.ReuseRefuse: {string(verify.TokenReused), 1},
		verify.ReuseOff:    {vectorAccepted, 0},
	}
	for policy, test := range tests {
		t.Run(string(policy), func(t *testing.T) {
			inReuse(t, policy, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier, registry *prometheus.Registry) {
				token := sign(t, issuer, acstest.TokenSpec{})
				first, again := claimsOf(t, v, token), claimsOf(t, v, token)
				other := claimsOf(t, v, sign(t, issuer, acstest.TokenSpec{}))
				for name, step := range map[string]error{
					"the first body":         v.CheckReuse(first, []byte("a")),
					"a retry":                v.CheckReuse(again, []byte("a")),
					"another token, same":    v.CheckReuse(other, []byte("a")),
					"the first body, a last": v.CheckReuse(first, []byte("a")),
				} {
					if step != nil {
						t.Errorf("%s: %v", name, step)
					}
				}
				checkMetric(t, registry, "acsbridge_token_reused_total", 0)
				if got := verdict(v.CheckReuse(again, []byte("b"))); got != test.want {
					t.Errorf("another body: %s, want %s", got, test.want)
				}
				checkMetric(t, registry, "acsbridge_token_reused_total", test.counted)
			})
		})
	}
}

func TestReuse_J14_anySpellingOfAToken(t *testing.T) {
	inReuse(t, verify.ReuseRefuse, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier, _ *prometheus.Registry) {
		token := sign(t, issuer, acstest.TokenSpec{})
		want := vectorAccepted
		for i, header := range []string{"Bearer " + token, "bearer  " + token, "BEARER " + token + " "} {
			claims, err := v.VerifyBearer(t.Context(), []string{header})
			if err != nil {
				t.Fatal(err)
			}
			if got := verdict(v.CheckReuse(claims, fmt.Append(nil, i))); got != want {
				t.Errorf("spelling %d: %s, want %s", i, got, want)
			}
			want = string(verify.TokenReused)
		}
	})
}

func TestReuse_concurrentBodies(t *testing.T) {
	inReuse(t, verify.ReuseRefuse, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier, _ *prometheus.Registry) {
		claims := claimsOf(t, v, sign(t, issuer, acstest.TokenSpec{}))
		var passed atomic.Int32
		var requests sync.WaitGroup
		for i := range 100 {
			requests.Go(func() {
				if v.CheckReuse(claims, fmt.Append(nil, i)) == nil {
					passed.Add(1)
				}
			})
		}
		requests.Wait()
		if passed.Load() != 1 {
			t.Errorf("%d of 100 bodies passed with one token, want 1", passed.Load())
		}
	})
}

func TestReuse_doesNotFloodTheLog(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := config(issuer)
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		v := start(t, c)
		token := claimsOf(t, v, sign(t, issuer, acstest.TokenSpec{}))
		for i := range 1001 {
			if i == 1000 {
				time.Sleep(time.Second)
			}
			if err := v.CheckReuse(token, fmt.Append(nil, i)); err != nil {
				t.Fatal(err)
			}
		}
		if n := strings.Count(log.String(), "token came again"); n != 2 || !strings.Contains(log.String(), "suppressed=998") {
			t.Errorf("%d lines, want 2, the last with suppressed=998:\n%.999s", n, log.String())
		}
	})
}

func TestReuse_expiredTokensAreForgotten(t *testing.T) {
	inReuse(t, verify.ReuseRefuse, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier, registry *prometheus.Registry) {
		time.Sleep(50 * time.Second) // so that it expires late in a minute
		token := sign(t, issuer, acstest.TokenSpec{})
		claims := claimsOf(t, v, token)
		bind := func(c *verify.Claims, body string) string { return verdict(v.CheckReuse(c, []byte(body))) }
		bind(claims, "a")
		time.Sleep(6*time.Minute - time.Second) // its last second, with the leeway
		bind(claimsOf(t, v, sign(t, issuer, acstest.TokenSpec{})), "b")
		if got := bind(claimsOf(t, v, token), "c"); got != string(verify.TokenReused) {
			t.Errorf("in its last second, with another body: %s", got)
		}
		checkMetric(t, registry, "acsbridge_token_bindings", 2)
		time.Sleep(61 * time.Second)
		bind(claimsOf(t, v, sign(t, issuer, acstest.TokenSpec{})), "d")
		checkMetric(t, registry, "acsbridge_token_bindings", 2) // "b" and "d"
		checkMetric(t, registry, "acsbridge_token_bindings_forgotten_total", 0)
	})
}

func TestReuse_bounded(t *testing.T) {
	inReuse(t, verify.ReuseRefuse, func(t *testing.T, issuer *acstest.Issuer, v *verify.Verifier, registry *prometheus.Registry) {
		verify.SetMaxBindings(v, 10)
		var last *verify.Claims
		for range 25 {
			last = claimsOf(t, v, sign(t, issuer, acstest.TokenSpec{}))
			if err := v.CheckReuse(last, nil); err != nil {
				t.Error(err)
			}
			time.Sleep(10 * time.Second)
		}
		if got := verdict(v.CheckReuse(last, []byte("other"))); got != string(verify.TokenReused) {
			t.Errorf("the newest token with another body: %s", got)
		}
		// Six tokens fall into a minute, so a full memory loses a minute's.
		checkMetric(t, registry, "acsbridge_token_bindings_forgotten_total", 18)
		checkMetric(t, registry, "acsbridge_token_bindings", 7)
	})
}

func TestReuse_claimsThatVerifyDidNotMake(t *testing.T) {
	inReuse(t, verify.ReuseOff, func(t *testing.T, _ *acstest.Issuer, v *verify.Verifier, _ *prometheus.Registry) {
		for _, claims := range []*verify.Claims{nil, {}} {
			if err := v.CheckReuse(claims, nil); err == nil {
				t.Errorf("claims %v passed that were not verified", claims)
			}
		}
	})
}
