package ingest_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/verify"
)

// forging is a verifier that refuses "Bearer forged" for its signature.
var forging = fakeVerifier{reason: verify.BadSignature}

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

// checkRejected checks a value of acsbridge_rejected_total.
func checkRejected(t *testing.T, reg *prometheus.Registry, reason string, want float64) {
	t.Helper()
	if got := counts(t, reg, "acsbridge_rejected_total")[reason]; got != want {
		t.Errorf("%v are rejected for %s, want %v", got, reason, want)
	}
}

func TestAuthFailures_limitAClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, log := prometheus.NewRegistry(), everything()
		h := newHandler(t, ingest.Config{Verifier: forging, Registerer: reg, Logger: slog.New(log)})
		const hostile = "198.51.100.7:1"
		if diff := cmp.Diff(map[int]int{401: 50, 503: 150}, flood(h, 200, hostile)); diff != "" {
			t.Error("at once", diff)
		}
		for _, message := range log.messages() {
			if message != "DEBUG callback" {
				t.Errorf("the flood is logged: %s", message)
			}
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
			t.Errorf("a good callback with one failure left: %d", w.Code)
		}
		for range 3 { // until the client is forgotten
			time.Sleep(6 * time.Second)
			flood(h, 1, "203.0.113.1:1")
		}
		if diff := cmp.Diff(map[int]int{401: 50, 503: 1}, flood(h, 51, hostile)); diff != "" {
			t.Error("much later", diff)
		}
		checkRejected(t, reg, "refused_client", 150+1+90+1)
	})
}

// TestAuthFailures_count says which refusals count, and against which clients.
func TestAuthFailures_count(t *testing.T) {
	proxies := ranges("10.0.0.0/8", "203.0.113.0/24")
	type test struct {
		config  ingest.Config
		peer    string
		headers []string
		limited bool
	}
	tests := map[string]test{
		"public":                    {ingest.Config{Verifier: forging}, "198.51.100.7:1", nil, true},
		"private":                   {ingest.Config{Verifier: forging}, "10.0.0.1:1", nil, false},
		"unknown peer":              {ingest.Config{Verifier: forging}, "@", nil, false},
		"proxy that is not trusted": {ingest.Config{Verifier: forging}, "10.0.0.1:1", []string{"X-Forwarded-For: 198.51.100.7"}, false},
		"behind a proxy":            {ingest.Config{Verifier: forging, TrustedProxies: proxies}, "10.0.0.1:1", []string{"X-Forwarded-For: 198.51.100.7"}, true},
		"behind a public proxy":     {ingest.Config{Verifier: forging, TrustedProxies: proxies}, "203.0.113.1:1", []string{"X-Forwarded-For: 198.51.100.7"}, true},
		"private behind a proxy":    {ingest.Config{Verifier: forging, TrustedProxies: proxies}, "10.0.0.1:1", []string{"X-Forwarded-For: 192.168.0.1"}, false},
		"unreadable behind one":     {ingest.Config{Verifier: forging, TrustedProxies: proxies}, "10.0.0.1:1", []string{"X-Forwarded-For: unknown"}, false},
		"no keys":                   {ingest.Config{}, "198.51.100.7:1", nil, false},
	}
	// ACS earns the others from the addresses that good callbacks come from.
	counted := map[verify.Reason]bool{verify.MissingToken: true, verify.MalformedToken: true, verify.UnsupportedHeader: true,
		verify.BadAlgorithm: true, verify.UnknownKey: true, verify.BadSignature: true, verify.WrongIssuer: true}
	for _, reason := range verify.Reasons() {
		tests[string(reason)] = test{ingest.Config{Verifier: fakeVerifier{reason: reason}}, "198.51.100.7:1", nil, counted[reason]}
	}
	for name, test := range tests {
		synctest.Test(t, func(t *testing.T) {
			h := newHandler(t, test.config)
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

// TestSourceRanges_comeFirst requests from elsewhere what would have another answer,
// over a connection that would otherwise stay open.
func TestSourceRanges_comeFirst(t *testing.T) {
	h := newHandler(t, ingest.Config{SourceRanges: ranges("198.51.100.0/24")})
	if w := serve(h, from("198.51.100.7:1")); w.Code != 200 {
		t.Errorf("from a source range: %d", w.Code)
	}
	h.Drain()
	for what, change := range map[string]func(*http.Request){
		"another path":   func(r *http.Request) { r.URL.Path = "/elsewhere" },
		"another method": func(r *http.Request) { r.Method = http.MethodGet },
		"no token":       func(r *http.Request) { r.Header.Del("Authorization") },
		"draining":       func(*http.Request) {},
	} {
		r := from("192.0.2.1:1")
		r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
		change(r)
		if w := serve(h, r); w.Code != 403 || w.Header().Get("Connection") != "close" || w.Body.Len() > 0 {
			t.Errorf("%s: got %d %v %q", what, w.Code, w.Header(), w.Body)
		}
	}
}

const goodKey, otherKey = "0123456789abcdef0123456789abcdef", "fedcba9876543210-._~ABCDEFGHIJKLMNOP"

func TestCallbackKey(t *testing.T) {
	keys := []ingest.CallbackKey{{Name: "new", Secret: goodKey}, {Name: "old", Secret: otherKey}}
	for _, test := range []struct {
		keys   []ingest.CallbackKey
		query  string
		want   int
		stored string
	}{
		{keys, "acsbridge-key=" + goodKey, 200, ""},
		{keys, "acsbridge-key=" + otherKey, 200, ""},
		{keys, "a=%2B1&acsbridge-key=" + goodKey + "&b=2&b", 200, "a=%2B1&b=2&b"},
		{keys, "&a;b=%zz&&acsbridge-key=" + goodKey, 200, "&a;b=%zz&"},
		{keys[:1], "acsbridge-key=" + otherKey, 401, ""},
		{keys, "", 401, ""},
		{keys, "acsbridge-key", 401, ""},
		{keys, "acsbridge-key=", 401, ""},
		{keys, "acsbridge-key=" + goodKey[1:], 401, ""},
		{keys, "acsbridge-key=" + goodKey + "0", 401, ""},
		{keys, "acsbridge-key=" + strings.ToUpper(goodKey), 401, ""},
		{keys, "Acsbridge-Key=" + goodKey, 401, ""},
		{keys, "key=" + goodKey, 401, ""},
		{keys, "xacsbridge-key=" + goodKey, 401, ""},
		{keys, "acsbridge-key=" + goodKey + "&acsbridge-key=" + goodKey, 401, ""},
		{nil, "a=1&acsbridge-key=" + goodKey, 200, "a=1"},
		{nil, "xacsbridge-key=1", 200, "xacsbridge-key=1"},
	} {
		p := &fakePublisher{}
		r := callback(defaultBody)
		r.URL.RawQuery = test.query
		w := serve(newHandler(t, ingest.Config{CallbackKeys: test.keys, Publisher: p}), r)
		if w.Code != test.want || (len(p.deliveries) == 1) != (test.want == 200) || w.Code == 200 && p.deliveries[0].Query != test.stored {
			t.Errorf("%s: got %d and %+v, want %d and the query %q", test.query, w.Code, p.deliveries, test.want, test.stored)
		}
	}
	if _, err := ingest.New(ingest.Config{Verifier: fakeVerifier{}, Publisher: &fakePublisher{}, CallbackKeys: []ingest.CallbackKey{{Name: "a", Secret: "short"}}}); err == nil {
		t.Error("a weak key was accepted")
	}
}

// TestCallbackKey_comesBeforeTheToken holds that a client without the key costs no
// signature.
func TestCallbackKey_comesBeforeTheToken(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := newHandler(t, ingest.Config{
		Registerer: reg, Verifier: forging,
		CallbackKeys: []ingest.CallbackKey{{Name: "new", Secret: goodKey}, {Name: "old", Secret: otherKey}},
	})
	// A missing key does not count as a failure of the client: it may be another
	// application of the resource.
	for range 100 {
		if w := serve(h, from("198.51.100.7:1")); w.Code != 401 || w.Header().Get("WWW-Authenticate") == "" {
			t.Fatalf("without the key: %d %v", w.Code, w.Header())
		}
	}
	r := from("198.51.100.7:1")
	r.URL.RawQuery = "acsbridge-key=" + goodKey
	if w := serve(h, r); w.Code != 200 {
		t.Errorf("with the key: %d", w.Code)
	}
	if diff := cmp.Diff(map[string]float64{"new": 1}, counts(t, reg, "acsbridge_callback_key_total")); diff != "" {
		t.Error(diff)
	}
	checkRejected(t, reg, "callback_key", 100)
}

func TestQuarantine_isLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, reg, log := &fakePublisher{}, prometheus.NewRegistry(), &logRecorder{}
		h := newHandler(t, ingest.Config{Registerer: reg, Publisher: p, Logger: slog.New(log)})
		round := func(what, body string, n, want int) {
			t.Helper()
			p.quarantined = 0
			answers := make(map[int]int)
			for range n {
				answers[serve(h, callback(body)).Code]++
			}
			if answers[400] != want || answers[503] != n-want || p.quarantined != want {
				t.Errorf("%s: answers %v, %d kept, want %d kept and as many answered 400", what, answers, p.quarantined, want)
			}
		}
		round("at once", "x", 150, 100)
		if diff := cmp.Diff([]string{"ERROR callback"}, log.messages()); diff != "" {
			t.Error(diff) // one line a second
		}
		if w := serve(h, callback(defaultBody)); w.Code != 200 {
			t.Errorf("a good callback of the resource: %d", w.Code)
		}
		time.Sleep(time.Second)
		round("a second later", "x", 50, 10)
		time.Sleep(time.Minute)
		round("large ones", strings.Repeat("x", 256<<10), 20, 100/17)
		checkRejected(t, reg, "quarantine_rate", 50+40+20-100/17)
	})
}
