package ingest_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/verify"
)

// probe asks for a path as a load balancer does, from an address.
func probe(h http.Handler, method, target, peer string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.RemoteAddr = peer
	return serve(h, r)
}

func TestLivez(t *testing.T) {
	h := handler(t, ingest.Config{EventGrid: grid(), SourceRanges: ranges(t, "198.51.100.0/24")})
	const balancer = "10.0.0.4:1" // in no source range
	check := func(method, target string, want int, allow string) {
		t.Helper()
		w := probe(h, method, target, balancer)
		if w.Code != want || w.Header().Get("Allow") != allow || w.Body.Len() > 0 || w.Header().Get("Connection") != "close" {
			t.Errorf("%s %s: got %d %v %q, want %d", method, target, w.Code, w.Header(), w.Body, want)
		}
	}
	for range 2 {
		check("GET", "/livez", 200, "")
		check("HEAD", "/livez", 200, "")
		check("GET", "/livez?x=1", 200, "")
		for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"} {
			check(method, "/livez", 405, "GET, HEAD")
		}
		for _, target := range []string{"/livez/", "/livez/x", "/LIVEZ", "/%6civez", "/livez%2f", "/x/../livez", "/"} {
			check("GET", target, 403, "") // the rest is for the source ranges only
		}
	}
	h.Stopping()
	check("GET", "/livez", 503, "")
	check("HEAD", "/livez", 503, "")
	check("POST", "/livez", 405, "GET, HEAD")
	h.Drain()
	check("GET", "/livez", 503, "")
}

// TestLivez_CostsNothing has a client ask that has no refusal left, whose next
// callback gets 503.
func TestLivez_CostsNothing(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := handler(t, ingest.Config{Verifier: refusing{verify.BadSignature}, Registerer: reg})
	const client = "198.51.100.7:1"
	for range 100 { // these leave its bucket alone
		probe(h, "GET", "/livez", client)
		probe(h, "POST", "/livez", client)
	}
	flood(h, 50, client)
	h.StopRefilling()
	if w := serve(h, from(client)); w.Code != 503 {
		t.Fatalf("the client has refusals left: %d", w.Code)
	}
	if w := probe(h, "GET", "/livez", client); w.Code != 200 {
		t.Errorf("the probe: %d", w.Code)
	}
	h.Stopping()
	probe(h, "GET", "/livez", client)
	want := map[string]float64{"200 livez": 101, "401 callbacks": 50, "405 livez": 100, "503 callbacks": 1, "503 livez": 1}
	if diff := cmp.Diff(want, counts(t, reg, "acsbridge_requests_total")); diff != "" {
		t.Error(diff)
	}
	checkTurnedAway(t, reg, "refused_client", 1)
}

// TestStopping_ClosesConnections answers what comes while the load balancer finds
// out.
func TestStopping_ClosesConnections(t *testing.T) {
	h := handler(t, ingest.Config{EventGrid: grid()})
	requests := map[string]func() *http.Request{
		"callback":   func() *http.Request { return callback(defaultBody) },
		"Event Grid": func() *http.Request { return fromGrid("[" + incomingCall + "]") },
		"handshake": func() *http.Request {
			r := fromGrid("", "Webhook-Request-Origin: eventgrid.azure.net")
			r.Method, r.Body, r.ContentLength = http.MethodOptions, nil, 0
			return r
		},
	}
	for name, request := range requests {
		if w := serve(h, request()); w.Code != 200 || w.Header().Get("Connection") != "" {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
	}
	h.Stopping()
	for name, request := range requests {
		if w := serve(h, request()); w.Code != 200 || w.Header().Get("Connection") != "close" {
			t.Errorf("%s, stopping: %d %v", name, w.Code, w.Header())
		}
		r := request()
		r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
		if w := serve(h, r); w.Code != 200 || w.Header().Get("Connection") != "" {
			t.Errorf("%s over HTTP/2, stopping: %d %v", name, w.Code, w.Header())
		}
	}
	h.Drain()
	if w := serve(h, callback(defaultBody)); w.Code != 503 || w.Header().Get("Connection") != "close" {
		t.Errorf("draining: %d %v", w.Code, w.Header())
	}
}

func TestNew_RefusesPathsThatCoverLivez(t *testing.T) {
	for path, covers := range map[string]bool{"/": true, "/livez": true, "/livez/": false, "/livez/x": false, "/livezx": false, "/callbacks": false} {
		_, err := ingest.New(ingest.Config{Path: path, Verifier: trusting{}, Publisher: storing(stored)})
		if got := err != nil && strings.Contains(err.Error(), "covers /livez"); got != covers || (err != nil) != (covers || path == "/livez/") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
