package ingest_test

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

const incomingCall = `{"id":"i-1","source":"` + gridTopic + `","data":{"incomingCallContext":"CONTEXT","correlationId":"k-42"},` +
	`"type":"Microsoft.Communication.IncomingCall","specversion":"1.0","time":"2026-03-01T12:00:00Z"}`

// grid is a configuration of the route with a key for the proof.
func grid() *ingest.EventGrid {
	return &ingest.EventGrid{Keys: gridKeys(), Sources: map[string]string{gridTopic: "contoso", gridOtherTopic: "fabrikam"}}
}

// fromGrid returns a delivery that is answered 200.
func fromGrid(body string, headers ...string) *http.Request {
	r := callback(body, headers...)
	r.URL.Path = "/eventgrid"
	r.URL.RawQuery = "acsbridge-key=" + goodKey
	return r
}

func TestNew_refusesRoutesForEventGrid(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*ingest.EventGrid)
		want   string
	}{
		"path without a slash":     {func(g *ingest.EventGrid) { g.Path = "eventgrid" }, "eventgrid-path: "},
		"path with a dot segment":  {func(g *ingest.EventGrid) { g.Path = "/x/../eventgrid" }, "eventgrid-path: "},
		"root":                     {func(g *ingest.EventGrid) { g.Path = "/" }, `eventgrid-path: "/" covers /livez`},
		"probe path":               {func(g *ingest.EventGrid) { g.Path = "/livez" }, `eventgrid-path: "/livez" covers /livez`},
		"below the probe path":     {func(g *ingest.EventGrid) { g.Path = "/livez/x" }, ""},
		"callback path":            {func(g *ingest.EventGrid) { g.Path = "/callbacks" }, "is callback-path or below it"},
		"below the callbacks":      {func(g *ingest.EventGrid) { g.Path = "/callbacks/eventgrid" }, "is callback-path or below it"},
		"no credentials":           {func(g *ingest.EventGrid) { g.Keys = nil }, "a verifier or a key is required"},
		"weak key":                 {func(g *ingest.EventGrid) { g.Keys[0].Secret = "short" }, "at least 32 are needed"},
		"no sources":               {func(g *ingest.EventGrid) { g.Sources = nil }, "at least one source"},
		"topic without a name":     {func(g *ingest.EventGrid) { g.Sources[gridTopic] = "" }, "is not a valid name"},
		"name that is not a token": {func(g *ingest.EventGrid) { g.Sources[gridTopic] = "a.b" }, "is not a valid name"},
		"name without a resource":  {func(g *ingest.EventGrid) { g.Sources[gridTopic] = "_" }, "is not a valid name"},
		"name without a topic":     {func(g *ingest.EventGrid) { g.Sources[""] = "contoso" }, "is not a valid name"},
		"good, beside callbacks":   {func(g *ingest.EventGrid) { g.Path = "/callbacks-eventgrid" }, ""},
	} {
		route := grid()
		test.change(route)
		_, err := ingest.New(ingest.Config{Verifier: fakeVerifier{}, Publisher: &fakePublisher{}, EventGrid: route})
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// TestEventGrid_incomingCallIsNotLogged searches every line and metric for what the
// event has.
func TestEventGrid_incomingCallIsNotLogged(t *testing.T) {
	reg, log := prometheus.NewRegistry(), everything()
	answer := error(nil)
	h := newHandler(t, ingest.Config{Registerer: reg, Logger: slog.New(log), EventGrid: grid(), Publisher: &fakePublisher{do: func(context.Context, *publish.Delivery) error {
		return answer
	}}})
	twice := fromGrid(incomingCall)
	twice.URL.RawQuery = strings.Repeat(twice.URL.RawQuery+"&", 2)
	for _, r := range []*http.Request{
		fromGrid(incomingCall), fromGrid(incomingCall[:100]), fromGrid(strings.Replace(incomingCall, "contoso", "tailspin", 1)), twice,
		fromGrid(strings.Replace(incomingCall, `"i-1"`, "7", 1)),
	} {
		serve(h, r)
	}
	answer = publish.ErrUnavailable
	serve(h, fromGrid(incomingCall))
	if lines := log.messages(); len(lines) != 6 {
		t.Errorf("lines %v", lines)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := log.text()
	for _, f := range families {
		all += f.String()
	}
	for _, secret := range []string{"CONTEXT", "k-42", goodKey, "subscriptions", "i-1"} {
		if strings.Contains(all, secret) {
			t.Errorf("a log line or a metric has %s", secret)
		}
	}
}

func TestEventGrid_requestsAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := newHandler(t, ingest.Config{Registerer: reg, EventGrid: grid()})
	none, old := fromGrid(incomingCall), fromGrid(incomingCall)
	none.URL.RawQuery, old.URL.RawQuery = "", "acsbridge-key=fedcba9876543210fedcba9876543210"
	for _, r := range []*http.Request{fromGrid(incomingCall), fromGrid(incomingCall), old, none, fromGrid("[]"), callback(defaultBody)} {
		serve(h, r)
	}
	if diff := cmp.Diff(map[string]float64{"new": 3, "old": 1}, counts(t, reg, "acsbridge_eventgrid_key_total")); diff != "" {
		t.Error(diff)
	}
	counted := map[string]float64{"200 callbacks": 1, "200 eventgrid": 3, "400 eventgrid": 1, "401 eventgrid": 1}
	if diff := cmp.Diff(counted, counts(t, reg, "acsbridge_requests_total")); diff != "" {
		t.Error(diff)
	}
	checkRejected(t, reg, "eventgrid_key", 1)
}

// TestEventGrid_authFailuresCount has one client fail to authenticate on this route. It
// is limited on both.
func TestEventGrid_authFailuresCount(t *testing.T) {
	route := grid()
	route.Keys, route.Verifier = nil, forging
	h := newHandler(t, ingest.Config{EventGrid: route})
	answers := map[int]int{}
	for range 60 {
		r := fromGrid(incomingCall)
		r.Header.Del("Authorization")
		r.RemoteAddr = "198.51.100.7:1"
		answers[serve(h, r).Code]++
	}
	if answers[401] < 50 || answers[503] == 0 || answers[401]+answers[503] != 60 {
		t.Errorf("answers %v", answers)
	}
	if w := serve(h, from("198.51.100.7:1")); w.Code != 503 {
		t.Errorf("a callback of the same client: %d", w.Code)
	}
}

// TestEventGrid_refusesClaimsOfCallbacks holds that a verifier of the wrong profile
// stores nothing on the route.
func TestEventGrid_refusesClaimsOfCallbacks(t *testing.T) {
	route := grid()
	route.Keys, route.Verifier = nil, fakeVerifier{}
	if w := serve(newHandler(t, ingest.Config{EventGrid: route}), fromGrid(incomingCall)); w.Code != 503 {
		t.Errorf("got %d", w.Code)
	}
}

// TestEventGrid_headersOfACallbackAreIgnored sends the headers of Event Grid with a
// callback.
func TestEventGrid_headersOfACallbackAreIgnored(t *testing.T) {
	p := &fakePublisher{}
	h := newHandler(t, ingest.Config{Publisher: p, EventGrid: grid()})
	aeg := []string{"Aeg-Subscription-Name: CALLS", "Aeg-Event-Type: SubscriptionValidation", "Aeg-Delivery-Count: 3"}
	if w := serve(h, callback(defaultBody, aeg...)); w.Code != 200 || w.Body.Len() > 0 {
		t.Fatalf("a callback: %d %s", w.Code, w.Body)
	}
	if w := serve(h, fromGrid(incomingCall, aeg[0], aeg[2])); w.Code != 200 {
		t.Fatalf("a delivery: %d", w.Code)
	}
	if p.deliveries[0].Grid != nil || p.events[0].Grid != nil {
		t.Error("a callback says that it came by Event Grid")
	}
	if g := p.deliveries[1].Grid; g == nil || *g != (schemas.GridDelivery{Subscription: "CALLS", Count: "3"}) || p.resources[1] != "contoso" {
		t.Errorf("got %+v for %q", g, p.resources[1])
	}
}

// TestEventGrid_copiesItsSources holds that New keeps a map of its own.
func TestEventGrid_copiesItsSources(t *testing.T) {
	route := grid()
	before := maps.Clone(route.Sources)
	h := newHandler(t, ingest.Config{EventGrid: route})
	if !maps.Equal(before, route.Sources) {
		t.Errorf("got %v", route.Sources)
	}
	clear(route.Sources)
	if w := serve(h, fromGrid(incomingCall)); w.Code != 200 {
		t.Errorf("got %d", w.Code)
	}
}

// handshake returns a handshake that is answered 200.
func handshake() *http.Request {
	r := fromGrid("", "Webhook-Request-Origin: eventgrid.azure.net")
	r.Method, r.Body, r.ContentLength = http.MethodOptions, nil, 0
	return r
}

// TestEventGrid_handshakesAreLogged in one line a second: an authenticated sender can
// make any number.
func TestEventGrid_handshakesAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &logRecorder{}
		h := newHandler(t, ingest.Config{Logger: slog.New(log), EventGrid: grid()})
		for range 3 {
			serve(h, handshake())
		}
		time.Sleep(time.Second)
		serve(h, handshake())
		const message = "event grid validated a subscription"
		if diff := cmp.Diff(slices.Repeat([]string{"INFO " + message}, 2), log.messages()); diff != "" || log.last(message, "suppressed") != "2" {
			t.Error(diff, log.text())
		}
	})
}
