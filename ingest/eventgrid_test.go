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
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
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

func TestNewRefusesBadRoutesForEventGrid(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*ingest.EventGrid)
		want   string
	}{
		"path without a slash":   {func(g *ingest.EventGrid) { g.Path = "eventgrid" }, "event grid path"},
		"path with a step up":    {func(g *ingest.EventGrid) { g.Path = "/x/../eventgrid" }, "event grid path"},
		"root":                   {func(g *ingest.EventGrid) { g.Path = "/" }, `event grid path "/": covers /livez`},
		"probe path":             {func(g *ingest.EventGrid) { g.Path = "/livez" }, `event grid path "/livez": covers /livez`},
		"below the probe path":   {func(g *ingest.EventGrid) { g.Path = "/livez/x" }, ""},
		"callback path":          {func(g *ingest.EventGrid) { g.Path = "/callbacks" }, "is the callback path or below it"},
		"below the callbacks":    {func(g *ingest.EventGrid) { g.Path = "/callbacks/eventgrid" }, "is the callback path or below it"},
		"no proof":               {func(g *ingest.EventGrid) { g.Keys = nil }, "a verifier or a key is required"},
		"weak key":               {func(g *ingest.EventGrid) { g.Keys[0].Secret = "short" }, "at least 32 are needed"},
		"no sources":             {func(g *ingest.EventGrid) { g.Sources = nil }, "at least one source"},
		"topic without a name":   {func(g *ingest.EventGrid) { g.Sources[gridTopic] = "" }, "is no name"},
		"name that is no token":  {func(g *ingest.EventGrid) { g.Sources[gridTopic] = "a.b" }, "is no name"},
		"name of nobody":         {func(g *ingest.EventGrid) { g.Sources[gridTopic] = "_" }, "is no name"},
		"name without a topic":   {func(g *ingest.EventGrid) { g.Sources[""] = "contoso" }, "is no name"},
		"good, beside callbacks": {func(g *ingest.EventGrid) { g.Path = "/callbacks-eventgrid" }, ""},
	} {
		route := grid()
		test.change(route)
		_, err := ingest.New(ingest.Config{Verifier: trusting{}, Publisher: storing(stored), EventGrid: route})
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// TestAnIncomingCallLeavesNoTraceInLogs looks at every line and metric for what
// the event holds.
func TestAnIncomingCallLeavesNoTraceInLogs(t *testing.T) {
	reg, log := prometheus.NewRegistry(), &lines{}
	answer := error(nil)
	h := handler(t, ingest.Config{Registerer: reg, Logger: slog.New(log), EventGrid: grid(), Publisher: storing(func(context.Context, *publish.Delivery) error {
		return answer
	})})
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
	if len(log.list) != 6 {
		t.Errorf("lines %v", log.list)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := log.all
	for _, f := range families {
		all += f.String()
	}
	for _, secret := range []string{"CONTEXT", "k-42", goodKey, "subscriptions", "i-1"} {
		if strings.Contains(all, secret) {
			t.Errorf("a log line or a metric holds %s", secret)
		}
	}
}

func TestDeliveriesAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := handler(t, ingest.Config{Registerer: reg, EventGrid: grid()})
	none, old := fromGrid(incomingCall), fromGrid(incomingCall)
	none.URL.RawQuery, old.URL.RawQuery = "", "acsbridge-key=fedcba9876543210fedcba9876543210"
	for _, r := range []*http.Request{fromGrid(incomingCall), fromGrid(incomingCall), old, none, fromGrid("[]"), callback(defaultBody)} {
		serve(h, r)
	}
	want := `
# HELP acsbridge_eventgrid_key_total Deliveries of Event Grid that came with a good key, by its name.
# TYPE acsbridge_eventgrid_key_total counter
acsbridge_eventgrid_key_total{key="new"} 3
acsbridge_eventgrid_key_total{key="old"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "acsbridge_eventgrid_key_total"); err != nil {
		t.Error(err)
	}
	counted := map[string]float64{"200 callbacks": 1, "200 eventgrid": 3, "400 eventgrid": 1, "401 eventgrid": 1}
	if diff := cmp.Diff(counted, counts(t, reg, "acsbridge_requests_total")); diff != "" {
		t.Error(diff)
	}
	checkTurnedAway(t, reg, "eventgrid_key", 1)
}

// TestPlacesAreSharedByBothRoutes fills the places with the one and asks for the
// other.
func TestPlacesAreSharedByBothRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := handler(t, ingest.Config{MaxInFlight: 2, EventGrid: grid(), Publisher: storing(func(context.Context, *publish.Delivery) error {
			<-release
			return nil
		})})
		go serve(h, fromGrid(incomingCall))
		go serve(h, callback(defaultBody))
		synctest.Wait()
		for _, r := range []*http.Request{fromGrid(incomingCall), callback(defaultBody)} {
			if w := serve(h, r); w.Code != 503 {
				t.Errorf("%s: got %d", r.URL.Path, w.Code)
			}
		}
		close(release)
		synctest.Wait()
		for _, r := range []*http.Request{fromGrid(incomingCall), callback(defaultBody)} {
			if w := serve(h, r); w.Code != 200 {
				t.Errorf("%s: got %d after all were answered", r.URL.Path, w.Code)
			}
		}
	})
}

// TestRefusalsOfEventGridAreCharged has one client come without tokens on this
// route: it is not listened to on either.
func TestRefusalsOfEventGridAreCharged(t *testing.T) {
	route := grid()
	route.Keys, route.Verifier = nil, trusting{}
	h := handler(t, ingest.Config{EventGrid: route})
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

// TestClaimsWithAResourceAreNotEventGrids: a verifier of the wrong profile cannot
// be wired to the route.
func TestClaimsWithAResourceAreNotEventGrids(t *testing.T) {
	route := grid()
	route.Keys, route.Verifier = nil, trusting{}
	if w := serve(handler(t, ingest.Config{EventGrid: route}), fromGrid(incomingCall)); w.Code != 503 {
		t.Errorf("got %d", w.Code)
	}
}

// recording keeps what is published.
type recording struct {
	deliveries []*publish.Delivery
	resources  []string
	events     []schemas.Inbound
}

func (p *recording) Publish(_ context.Context, c *verify.Claims, d *publish.Delivery, events []schemas.Inbound) error {
	p.deliveries, p.resources, p.events = append(p.deliveries, d), append(p.resources, c.Resource()), append(p.events, events...)
	return nil
}

func (p *recording) Quarantine(context.Context, *verify.Claims, *publish.Delivery, string, string, []byte) error {
	return nil
}

// TestOnlyDeliveriesOfEventGridSaySo sends the headers of Event Grid with a
// callback, where they mean nothing.
func TestOnlyDeliveriesOfEventGridSaySo(t *testing.T) {
	p := &recording{}
	h := handler(t, ingest.Config{Publisher: p, EventGrid: grid()})
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

// TestSourcesAreNotChanged: New keeps a map of its own.
func TestSourcesAreNotChanged(t *testing.T) {
	route := grid()
	before := maps.Clone(route.Sources)
	h := handler(t, ingest.Config{EventGrid: route})
	if !maps.Equal(before, route.Sources) {
		t.Errorf("got %v", route.Sources)
	}
	clear(route.Sources)
	if w := serve(h, fromGrid(incomingCall)); w.Code != 200 {
		t.Errorf("got %d", w.Code)
	}
}

// TestHandshakesAreTold in one line a second: whoever has the proof can shake hands
// all day.
func TestHandshakesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		h := handler(t, ingest.Config{Logger: slog.New(log), EventGrid: grid()})
		shake := func(n int) {
			for range n {
				r := fromGrid("")
				r.Method = http.MethodOptions
				r.Header.Set("WebHook-Request-Origin", "eventgrid.azure.net")
				if w := serve(h, r); w.Code != 200 {
					t.Errorf("got %d", w.Code)
				}
			}
		}
		shake(3)
		time.Sleep(time.Second)
		shake(1)
		told := slices.DeleteFunc(slices.Clone(log.list), func(line string) bool { return line == "DEBUG callback" })
		if diff := cmp.Diff(slices.Repeat([]string{"INFO event grid asked for leave to send and got it"}, 2), told); diff != "" || !strings.Contains(log.all, "suppressed=2") {
			t.Error(diff, log.all)
		}
	})
}
