package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/verify"
)

// refusing refuses every token with a reason, but for the good one.
type refusing struct{ reason verify.Reason }

func (v refusing) VerifyBearer(_ context.Context, authorization []string) (*verify.Claims, error) {
	switch {
	case len(authorization) == 1 && authorization[0] == "Bearer x":
		return &verify.Claims{}, nil
	case v.reason == "":
		return nil, verify.ErrNoKeys
	}
	return nil, &verify.RefusedError{Reason: v.reason, Err: errors.New("forged")}
}

func (refusing) CheckReuse(*verify.Claims, []byte) error { return nil }

// flood sends n forged callbacks of a peer, and counts the answers.
func flood(h http.Handler, n int, peer string, headers ...string) map[int]int {
	answers := make(map[int]int)
	for range n {
		r := from(peer, headers...)
		r.Header.Set("Authorization", "Bearer forged")
		answers[serve(h, r).Code]++
	}
	return answers
}

func TestAClientWithManyRefusalsIsNotListenedTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		h := handler(t, ingest.Config{Verifier: refusing{verify.BadSignature}, Registerer: reg})
		const hostile = "198.51.100.7:1"
		if diff := cmp.Diff(map[int]int{401: 50, 503: 150}, flood(h, 200, hostile)); diff != "" {
			t.Error("at once", diff)
		}
		w := serve(h, from("198.51.100.7:9"))
		if w.Code != 503 || w.Header().Get("Retry-After") != "5" || w.Header().Get("Connection") != "close" {
			t.Errorf("a good callback of the client: %d %v", w.Code, w.Header())
		}
		if w := serve(h, from("198.51.100.8:1")); w.Code != 200 {
			t.Errorf("another client: %d", w.Code)
		}
		time.Sleep(time.Second)
		if diff := cmp.Diff(map[int]int{401: 10, 503: 90}, flood(h, 100, hostile)); diff != "" {
			t.Error("a second later", diff)
		}
		time.Sleep(100 * time.Millisecond)
		if w := serve(h, from(hostile)); w.Code != 200 {
			t.Errorf("a good callback with one refusal left: %d", w.Code)
		}
		for range 3 { // long enough for all memory of the client to go
			time.Sleep(6 * time.Second)
			flood(h, 1, "203.0.113.1:1")
		}
		if diff := cmp.Diff(map[int]int{401: 50, 503: 1}, flood(h, 51, hostile)); diff != "" {
			t.Error("much later", diff)
		}
		checkTurnedAway(t, reg, "refused_client", 150+1+90+1)
	})
}

// checkTurnedAway holds one value of acsbridge_turned_away_total.
func checkTurnedAway(t *testing.T, reg *prometheus.Registry, reason string, want float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "acsbridge_turned_away_total" && m.GetLabel()[0].GetValue() == reason {
				if got := m.GetCounter().GetValue(); got != want {
					t.Errorf("turned away, %s: %v, want %v", reason, got, want)
				}
				return
			}
		}
	}
	t.Errorf("nothing is counted as %s", reason)
}

func TestWhoseRefusalsAreCounted(t *testing.T) {
	forged := ingest.Config{Verifier: refusing{verify.BadSignature}}
	proxied := forged
	proxied.TrustedProxies = ranges(t, "10.0.0.0/8", "203.0.113.0/24")
	for name, test := range map[string]struct {
		config  ingest.Config
		peer    string
		headers []string
		limited bool
	}{
		"public":                   {forged, "198.51.100.7:1", nil, true},
		"public IPv6":              {forged, "[2001:db8::1]:1", nil, true},
		"IPv4 as IPv6":             {forged, "[::ffff:198.51.100.7]:1", nil, true},
		"loopback":                 {forged, "127.0.0.1:1", nil, false},
		"IPv6 loopback":            {forged, "[::1]:1", nil, false},
		"private":                  {forged, "10.0.0.1:1", nil, false},
		"unique local":             {forged, "[fd00::1]:1", nil, false},
		"link-local":               {forged, "[fe80::1%eth0]:1", nil, false},
		"shared space":             {forged, "100.64.0.1:1", nil, false},
		"proxy that is not named":  {forged, "10.0.0.1:1", []string{"X-Forwarded-For: 198.51.100.7"}, false},
		"behind a proxy":           {proxied, "10.0.0.1:1", []string{"X-Forwarded-For: 198.51.100.7"}, true},
		"behind a public proxy":    {proxied, "203.0.113.1:1", []string{"X-Forwarded-For: 198.51.100.7"}, true},
		"private behind a proxy":   {proxied, "10.0.0.1:1", []string{"X-Forwarded-For: 192.168.0.1"}, false},
		"unreadable behind one":    {proxied, "10.0.0.1:1", []string{"X-Forwarded-For: unknown"}, false},
		"unknown peer":             {forged, "@", nil, false},
		"missing token":            {ingest.Config{Verifier: refusing{verify.MissingToken}}, "198.51.100.7:1", nil, true},
		"malformed":                {ingest.Config{Verifier: refusing{verify.MalformedToken}}, "198.51.100.7:1", nil, true},
		"header":                   {ingest.Config{Verifier: refusing{verify.UnsupportedHeader}}, "198.51.100.7:1", nil, true},
		"algorithm":                {ingest.Config{Verifier: refusing{verify.BadAlgorithm}}, "198.51.100.7:1", nil, true},
		"unknown key":              {ingest.Config{Verifier: refusing{verify.UnknownKey}}, "198.51.100.7:1", nil, true},
		"issuer":                   {ingest.Config{Verifier: refusing{verify.WrongIssuer}}, "198.51.100.7:1", nil, true},
		"audience: ACS sends some": {ingest.Config{Verifier: refusing{verify.WrongAudience}}, "198.51.100.7:1", nil, false},
		"expired":                  {ingest.Config{Verifier: refusing{verify.Expired}}, "198.51.100.7:1", nil, false},
		"not yet valid":            {ingest.Config{Verifier: refusing{verify.NotYetValid}}, "198.51.100.7:1", nil, false},
		"day-long":                 {ingest.Config{Verifier: refusing{verify.LifetimeTooLong}}, "198.51.100.7:1", nil, false},
		"no verdict":               {ingest.Config{Verifier: refusing{}}, "198.51.100.7:1", nil, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := handler(t, test.config)
			flood(h, 100, test.peer, test.headers...)
			want := 200
			if test.limited {
				want = 503
			}
			if w := serve(h, from(test.peer, test.headers...)); w.Code != want {
				t.Errorf("%s: a good callback after the flood got %d, want %d", name, w.Code, want)
			}
		})
	}
}

// TestOneIPv6NetworkIsOneClient keeps an attacker from taking a new address for
// each token, and from filling the memory with them.
func TestOneIPv6NetworkIsOneClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := handler(t, ingest.Config{Verifier: refusing{verify.BadSignature}})
		for n := range 50 {
			flood(h, 1, fmt.Sprintf("[2001:db8::%x]:1", n))
		}
		if w := serve(h, from("[2001:db8::ffff:1]:1")); w.Code != 503 {
			t.Errorf("the same network: %d", w.Code)
		}
		if w := serve(h, from("[2001:db8:0:1::1]:1")); w.Code != 200 {
			t.Errorf("the next network: %d", w.Code)
		}
	})
}

// TestFloodsAndTheLog floods the bridge with forged tokens, which are their
// sender's fault, and with nonsense behind a good one, which somebody has to
// look at: one line a second.
func TestFloodsAndTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		h := handler(t, ingest.Config{Verifier: refusing{verify.BadSignature}, Logger: slog.New(log)})
		flood(h, 200, "198.51.100.7:1")
		for range 300 {
			serve(h, callback("x"))
		}
		levels := make(map[string]int)
		for _, line := range log.list {
			levels[line]++
		}
		if diff := cmp.Diff(map[string]int{"DEBUG callback": 200 + 100, "ERROR callback": 1}, levels); diff != "" {
			t.Error(diff)
		}
	})
}
