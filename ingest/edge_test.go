package ingest_test

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/verify"
)

// ranges parses networks as a configuration has them.
func ranges(t *testing.T, texts ...string) (list []netip.Prefix) {
	t.Helper()
	for _, text := range texts {
		r, err := ingest.ParseRange(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

// from returns a good callback of a peer.
func from(peer string, headers ...string) *http.Request {
	r := callback(defaultBody, headers...)
	r.RemoteAddr = peer
	return r
}

func TestSourceRanges(t *testing.T) {
	public := ingest.Config{SourceRanges: ranges(t, "52.122.0.0/15", "52.112.0.0/14", "2603:1027::/48", "198.51.100.7")}
	proxied := public
	proxied.TrustedProxies = ranges(t, "10.0.0.0/8", "2001:db8:1::/48", "127.0.0.1")
	for _, test := range []struct {
		config  ingest.Config
		peer    string
		headers []string
		want    int
	}{
		{public, "52.112.0.1:443", nil, 200},
		{public, "[::ffff:52.123.255.255]:1", nil, 200},
		{public, "52.124.0.0:1", nil, 403},
		{public, "[2603:1027::1]:1", nil, 200},
		{public, "[2603:1027:0:1::1]:1", nil, 200},
		{public, "[2603:1028::1]:1", nil, 403},
		{public, "198.51.100.7:1", nil, 200},
		{public, "198.51.100.8:1", nil, 403},
		{public, "127.0.0.1:1", nil, 403},
		{public, "", nil, 403},
		{public, "198.51.100.8:1", []string{"X-Forwarded-For: 52.112.0.1"}, 403}, // nobody trusts that peer
		{proxied, "10.0.0.1:1", []string{"X-Forwarded-For: 52.112.0.1"}, 200},
		{proxied, "10.0.0.1:1", []string{"X-Forwarded-For: 52.112.0.1:5000"}, 200},
		{proxied, "10.0.0.1:1", []string{"X-Forwarded-For: [2603:1027::1]:5000"}, 200},
		{proxied, "10.0.0.1:1", []string{"X-Forwarded-For: [2603:1027::1]"}, 200},
		{proxied, "10.0.0.1:1", []string{"X-Forwarded-For: 52.112.0.1, 203.0.113.9"}, 403}, // the left one is a lie
		{proxied, "10.0.0.1:1", []string{"X-Forwarded-For: 203.0.113.9, 52.112.0.1,10.1.2.3"}, 200},
		{proxied, "10.0.0.1:1", []string{"X-Forwarded-For: 52.112.0.1", "X-Forwarded-For: 203.0.113.9"}, 403},
		{proxied, "10.0.0.1:1", []string{"X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 52.112.0.1", "X-Forwarded-For: 10.0.0.2"}, 200},
		{proxied, "10.0.0.1:1", []string{"X-Forwarded-For: 52.112.0.1, unknown"}, 403},
		{proxied, "10.0.0.1:1", []string{"X-Forwarded-For: 52.112.0.1,"}, 403},
		{proxied, "10.0.0.1:1", nil, 403},
		{proxied, "[2001:db8:1::9]:1", []string{"X-Forwarded-For: 52.112.0.1"}, 200},
		{proxied, "52.112.0.1:1", []string{"X-Forwarded-For: 203.0.113.9"}, 200}, // not through a proxy
	} {
		r := from(test.peer, test.headers...)
		w := serve(handler(t, test.config), r)
		if w.Code != test.want {
			t.Errorf("peer %s, %v: got %d, want %d", test.peer, test.headers, w.Code, test.want)
		}
		if w.Code == 403 && w.Body.Len() > 0 {
			t.Errorf("403 says %q", w.Body)
		}
	}
}

// TestSourceRangesComeFirst has a stranger ask for what would be another answer,
// over a connection that would otherwise stay open.
func TestSourceRangesComeFirst(t *testing.T) {
	h := handler(t, ingest.Config{SourceRanges: ranges(t, "198.51.100.0/24")})
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
		if w := serve(h, r); w.Code != 403 || w.Header().Get("Connection") != "close" {
			t.Errorf("%s: got %d %v", what, w.Code, w.Header())
		}
	}
}

func TestRangesThatAreNone(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "no network",
		"microsoft":              "no network", // names are not resolved
		"10.0.0.0/33":            "no network",
		"10.0.0.1/8":             "the network is 10.0.0.0/8",
		"::ffff:10.0.0.0/104":    "write it as IPv4",
		"fe80::1%eth0":           "no network",
		"203.0.113.1-20":         "no network",
		"https://203.0.113.0/24": "no network",
	} {
		if _, err := ingest.ParseRange(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

const goodKey, otherKey = "0123456789abcdef0123456789abcdef", "fedcba9876543210-._~ABCDEFGHIJKLMNOP"

func TestCallbackKeys(t *testing.T) {
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
		stored := ""
		h := handler(t, ingest.Config{CallbackKeys: test.keys, Publisher: storing(func(_ context.Context, d *publish.Delivery) error {
			stored = d.Query
			return nil
		})})
		r := callback(defaultBody)
		r.URL.RawQuery = test.query
		if w := serve(h, r); w.Code != test.want || stored != test.stored {
			t.Errorf("%s: got %d and the query %q, want %d and %q", test.query, w.Code, stored, test.want, test.stored)
		}
	}
}

// TestCallbackKeyComesBeforeTheToken sees to it that strangers cost no
// signature, and that the key they guess at shows up nowhere.
func TestCallbackKeyComesBeforeTheToken(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := handler(t, ingest.Config{
		Registerer: reg, Verifier: refusing{verify.BadSignature},
		CallbackKeys: []ingest.CallbackKey{{Name: "new", Secret: goodKey}, {Name: "old", Secret: otherKey}},
	})
	// A stranger's 100 refusals, and then the same address with the key: what
	// has no key is not charged, since it may be another application of ours.
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
	want := `
# HELP acsbridge_callback_key_total Requests that came with a good callback key, by its name.
# TYPE acsbridge_callback_key_total counter
acsbridge_callback_key_total{key="new"} 1
acsbridge_callback_key_total{key="old"} 0
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "acsbridge_callback_key_total"); err != nil {
		t.Error(err)
	}
	checkTurnedAway(t, reg, "callback_key", 100)
}

func TestCallbackKeysThatAreTooWeak(t *testing.T) {
	for what, keys := range map[string][]ingest.CallbackKey{
		"short":                {{Name: "a", Secret: goodKey[1:]}},
		"long":                 {{Name: "a", Secret: strings.Repeat("x", 513)}},
		"characters to escape": {{Name: "a", Secret: goodKey + "+"}},
		"no name":              {{Name: "", Secret: goodKey}},
		"name with a dot":      {{Name: "a.b", Secret: goodKey}},
		"name twice":           {{Name: "a", Secret: goodKey}, {Name: "a", Secret: otherKey}},
		"secret twice":         {{Name: "a", Secret: goodKey}, {Name: "b", Secret: goodKey}},
	} {
		_, err := ingest.New(ingest.Config{Verifier: trusting{}, Publisher: storing(stored), CallbackKeys: keys})
		if err == nil || strings.Contains(err.Error(), keys[0].Secret) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestQuarantineIsBoundedInRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept, reg := 0, prometheus.NewRegistry()
		h := handler(t, ingest.Config{Registerer: reg, Publisher: storing(func(context.Context, *publish.Delivery) error {
			kept++
			return nil
		})})
		round := func(what, body string, n, want int) {
			t.Helper()
			kept = 0
			answers := make(map[int]int)
			for range n {
				answers[serve(h, callback(body)).Code]++
			}
			if answers[400] != want || answers[503] != n-want || kept != want {
				t.Errorf("%s: answers %v, %d kept, want %d kept and as many answered 400", what, answers, kept, want)
			}
		}
		large := strings.Repeat("x", 256<<10)
		round("at once", "x", 150, 100)
		if w := serve(h, callback(defaultBody)); w.Code != 200 {
			t.Errorf("a good callback of the resource: %d", w.Code)
		}
		time.Sleep(time.Second)
		round("a second later", "x", 50, 10)
		time.Sleep(time.Minute)
		round("large ones", large, 20, 100/17)
		checkTurnedAway(t, reg, "quarantine_rate", 50+40+20-100/17)
	})
}
