package acstest_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
)

// probed returns the verdicts on a webhook, by check.
func probed(t *testing.T, webhook *bridge, p acstest.Probe) (*acstest.ProbeReport, map[string]acstest.Verdict) {
	t.Helper()
	p.Target, p.Transport = target, webhook
	if p.Issuer == nil {
		p.Issuer = newIssuer(t)
	}
	report, err := p.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	verdicts := make(map[string]acstest.Verdict)
	for _, c := range report.Checks {
		verdicts[c.Name] = c.Verdict
		if (c.Reason == "") != (c.Verdict == acstest.Pass) {
			t.Errorf("reason of %+v", c)
		}
	}
	return report, verdicts
}

// only returns the verdicts when all checks but these have the first verdict.
func only(all acstest.Verdict, other acstest.Verdict, names ...string) map[string]acstest.Verdict {
	verdicts := make(map[string]acstest.Verdict)
	for _, name := range acstest.ProbeNames() {
		verdicts[name] = all
		if slices.Contains(names, name) {
			verdicts[name] = other
		}
	}
	return verdicts
}

// verifying is a webhook that checks tokens with the keys of the issuer, and whatever
// else is asked for.
func verifying(t *testing.T, issuer *acstest.Issuer, audience string, more func(jwt.MapClaims) bool) *bridge {
	return &bridge{answer: func(p post) *http.Response {
		token, err := parse(t, issuer, strings.TrimPrefix(p.header.Get("Authorization"), "Bearer "), audience)
		if err != nil || !more(token.Claims.(jwt.MapClaims)) {
			return status(http.StatusUnauthorized)
		}
		return status(http.StatusAccepted)
	}}
}

func shortLived(claims jwt.MapClaims) bool {
	expires, err := claims.GetExpirationTime()
	return err == nil && time.Until(expires.Time) < 10*time.Minute
}

// TestProbe has one webhook for each thing that can be wrong.
func TestProbe(t *testing.T) {
	issuer := newIssuer(t)
	const audience = acstest.DemoAudience
	for name, test := range map[string]struct {
		webhook *bridge
		want    map[string]acstest.Verdict
		verdict acstest.Verdict
	}{
		"right":             {verifying(t, issuer, audience, shortLived), only(acstest.Pass, ""), acstest.Pass},
		"no bound of life":  {verifying(t, issuer, audience, func(jwt.MapClaims) bool { return true }), only(acstest.Pass, acstest.Fail, "day-long"), acstest.Fail},
		"undocumented iat":  {verifying(t, issuer, audience, func(c jwt.MapClaims) bool { return c["iat"] != nil && shortLived(c) }), only(acstest.Pass, acstest.Fail, "minimal"), acstest.Fail},
		"verifies nothing":  {&bridge{}, only(acstest.Fail, acstest.Pass, "good", "repeated", "minimal"), acstest.Fail},
		"signature ignored": {unsigned(issuer, audience), only(acstest.Pass, acstest.Fail, "alg-none", "alg-hmac", "forged", "unknown-kid"), acstest.Fail},
		"fails on bad tokens": {&bridge{answer: func(p post) *http.Response {
			if strings.Contains(p.header.Get("Authorization"), ".") {
				return status(http.StatusOK)
			}
			return status(http.StatusInternalServerError)
		}}, only(acstest.Fail, acstest.Pass, "good", "repeated", "minimal"), acstest.Fail},
		"another audience": {verifying(t, issuer, "another", shortLived), func() map[string]acstest.Verdict {
			verdicts := only(acstest.Inconclusive, acstest.Pass, "missing", "malformed")
			for _, good := range []string{"good", "repeated", "minimal"} {
				verdicts[good] = acstest.Fail // its keys were fetched
			}
			return verdicts
		}(), acstest.Fail},
	} {
		t.Run(name, func(t *testing.T) {
			report, got := probed(t, test.webhook, acstest.Probe{Issuer: issuer})
			if diff := cmp.Diff(test.want, got); diff != "" || report.Verdict != test.verdict {
				t.Errorf("verdict %s (-want +got):\n%s", report.Verdict, diff)
			}
		})
	}
}

// unsigned is a webhook that checks the claims of a token and not its signature.
func unsigned(issuer *acstest.Issuer, audience string) *bridge {
	return &bridge{answer: func(p post) *http.Response {
		claims := jwt.MapClaims{}
		_, _, err := jwt.NewParser().ParseUnverified(strings.TrimPrefix(p.header.Get("Authorization"), "Bearer "), claims)
		valid := jwt.NewValidator(jwt.WithIssuer(issuer.Name()), jwt.WithAudience(audience), jwt.WithExpirationRequired())
		if err != nil || valid.Validate(claims) != nil || !shortLived(claims) {
			return status(http.StatusForbidden)
		}
		return status(http.StatusOK)
	}}
}

// TestProbe_untrusted: a webhook that has another issuer refuses everything, which
// proves little, but forged tokens in Microsoft's name can be tried.
func TestProbe_untrusted(t *testing.T) {
	refusing := &bridge{answer: func(post) *http.Response { return status(http.StatusUnauthorized) }}
	for _, test := range []struct {
		name     string
		audience string
		want     map[string]acstest.Verdict
	}{
		{"audience unknown", "", only(acstest.Inconclusive, acstest.Pass, "missing", "malformed")},
		{"audience known", "a-1", only(acstest.Inconclusive, acstest.Pass, "missing", "malformed", "microsoft-forged", "microsoft-none")},
	} {
		report, got := probed(t, refusing, acstest.Probe{Audience: test.audience})
		if diff := cmp.Diff(test.want, got); diff != "" || report.Verdict != acstest.Inconclusive || report.Trusted {
			t.Errorf("%s: %+v (-want +got):\n%s", test.name, report, diff)
		}
	}
	conclusive := map[string]acstest.Verdict{"missing": acstest.Pass, "malformed": acstest.Pass, "microsoft-forged": acstest.Pass, "microsoft-none": acstest.Pass}
	report, got := probed(t, refusing, acstest.Probe{Audience: "a-1", Untrusted: true})
	if diff := cmp.Diff(conclusive, got); diff != "" || report.Verdict != acstest.Pass {
		t.Errorf("%+v (-want +got):\n%s", report, diff)
	}

	microsofts, err := acstest.NewIssuer(acstest.IssuerOptions{Key: sharedKey(), Issuer: acstest.MicrosoftIssuer})
	if err != nil {
		t.Fatal(err)
	}
	conclusive["microsoft-forged"], conclusive["microsoft-none"] = acstest.Fail, acstest.Fail
	report, got = probed(t, unsigned(microsofts, "a-1"), acstest.Probe{Audience: "a-1", Untrusted: true})
	if diff := cmp.Diff(conclusive, got); diff != "" || report.Verdict != acstest.Fail {
		t.Errorf("%+v (-want +got):\n%s", report, diff)
	}
}

// TestProbe_wait sends the first callback until the webhook is there, and no longer
// than asked for.
func TestProbe_wait(t *testing.T) {
	for _, test := range []struct {
		statuses []int
		wait     time.Duration
		verdict  acstest.Verdict // of the check good
	}{
		{[]int{0, 503, 200}, time.Minute, acstest.Pass},
		{[]int{503, 200}, 0, acstest.Fail},
		{[]int{404, 200}, time.Minute, acstest.Fail},
		{slices.Repeat([]int{503}, 40), time.Minute, acstest.Fail},
	} {
		synctest.Test(t, func(t *testing.T) {
			began, took := time.Now(), time.Duration(-1)
			p := acstest.Probe{Wait: test.wait, OnCheck: func(acstest.ProbeCheck) {
				if took < 0 {
					took = time.Since(began)
				}
			}}
			_, got := probed(t, failing(nil, test.statuses...), p)
			if got["good"] != test.verdict || took > test.wait+10*time.Second {
				t.Errorf("%v within %v: %s after %v", test.statuses, test.wait, got["good"], took)
			}
		})
	}
}

func TestProbe_errors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for want, p := range map[string]acstest.Probe{
			"nothing answers at the webhook: context deadline exceeded": {},
			`unknown check "day-lon", did you mean day-long?`:           {Skip: []string{"day-lon"}},
			"the check good cannot be left out":                         {Skip: []string{"good"}},
			"the probe needs the audience of the webhook":               {Untrusted: true},
			`unknown event type "CallConected"`:                         {EventType: "CallConected"},
		} {
			p.Issuer, p.Target, p.Transport = newIssuer(t), target, failing(nil, 0)
			if _, err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		}
	})
	if _, err := (&acstest.Probe{Target: target}).Run(t.Context()); err == nil {
		t.Error("a probe without an issuer runs")
	}
	report, got := probed(t, &bridge{}, acstest.Probe{Skip: []string{"day-long", "repeated"}})
	if len(report.Checks) != len(acstest.ProbeNames())-2 || got["day-long"] != "" {
		t.Errorf("left out are not two: %v", got)
	}
}
