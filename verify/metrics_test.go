package verify_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/verify"
)

// checkMetric compares the value of a series, or the count of a histogram. Labels are
// pairs of name and value.
func checkMetric(t testing.TB, registry prometheus.Gatherer, name string, want float64, labels ...string) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, series := range family.Metric {
			held := map[string]string{}
			for _, label := range series.Label {
				held[label.GetName()] = label.GetValue()
			}
			matches := true
			for i := 0; i < len(labels); i += 2 {
				matches = matches && held[labels[i]] == labels[i+1]
			}
			if !matches {
				continue
			}
			// A series has one of the three; the others read as zero.
			got := series.GetCounter().GetValue() + series.GetGauge().GetValue() +
				float64(series.GetHistogram().GetSampleCount())
			if got != want {
				t.Errorf("%s%v is %v, want %v", name, labels, got, want)
			}
			return
		}
	}
	t.Errorf("no metric %s%v", name, labels)
}

func TestMetrics_verdicts(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		c := config(issuer)
		c.Registerer = registry
		v := start(t, c)
		synctest.Wait()
		for _, reason := range verify.Reasons() {
			if reason != verify.TokenReused { // counted on its own
				checkMetric(t, registry, "acsbridge_verify_total", 0, "result", "refused", "reason", string(reason))
			}
		}
		expect(t, v, sign(t, issuer, acstest.TokenSpec{Header: map[string]any{"nonce": 1, "ver": 2}}), vectorAccepted)
		expect(t, v, sign(t, issuer, acstest.TokenSpec{Claims: map[string]any{"iat": nil}}), vectorAccepted)
		expect(t, v, sign(t, issuer, acstest.TokenSpec{Lifetime: -time.Hour, Header: map[string]any{"nonce": 1}}), string(verify.Expired))
		expect(t, v, sign(t, issuer, acstest.TokenSpec{Forge: acstest.ForgeUnknownKid}), verify.KeysUnavailable)
		checkMetric(t, registry, "acsbridge_verify_total", 2, "result", "accepted", "reason", "")
		checkMetric(t, registry, "acsbridge_verify_total", 1, "result", "refused", "reason", "expired")
		checkMetric(t, registry, "acsbridge_verify_total", 1, "result", "no_verdict", "reason", "keys_unavailable")
		checkMetric(t, registry, "acsbridge_token_unknown_header_members_total", 2)
		checkMetric(t, registry, "acsbridge_token_age_seconds", 1)
	})
}

// TestMetrics_clocksThatDiffer has tokens of an issuer whose clock is ahead: a negative
// age must not lower the sum, which would look like a restart.
func TestMetrics_clocksThatDiffer(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		c := config(issuer)
		c.Registerer = registry
		v := start(t, c)
		synctest.Wait()
		checkMetric(t, registry, "acsbridge_token_issued_ahead_total", 0)
		for _, ahead := range []time.Duration{-3 * time.Second, 30 * time.Second, time.Second} {
			expect(t, v, sign(t, issuer, acstest.TokenSpec{Now: time.Now().Add(ahead)}), vectorAccepted)
		}
		checkMetric(t, registry, "acsbridge_token_issued_ahead_total", 1)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() != "acsbridge_token_age_seconds" {
				continue
			}
			if sum := f.GetMetric()[0].GetHistogram().GetSampleSum(); sum != 3 {
				t.Errorf("the ages sum up to %v, want 3", sum)
			}
		}
	})
}

func TestMetrics_keys(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		issuer.SetFault(acstest.FaultDown)
		registry := prometheus.NewRegistry()
		c := config(issuer)
		c.Registerer = registry
		start(t, c)
		time.Sleep(90 * time.Minute)
		synctest.Wait()
		checkMetric(t, registry, "acsbridge_jwks_keys", 0)
		checkMetric(t, registry, "acsbridge_jwks_age_seconds", 5400) // since the start
		checkMetric(t, registry, "acsbridge_jwks_refresh_total", 0, "outcome", "ok")
		issuer.SetFault(acstest.FaultNone)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		checkMetric(t, registry, "acsbridge_jwks_keys", 1)
		checkMetric(t, registry, "acsbridge_jwks_refresh_total", 1, "outcome", "ok")
		failed, _ := issuer.Fetches()
		checkMetric(t, registry, "acsbridge_jwks_refresh_total", float64(failed-1), "outcome", "failed")
	})
}
