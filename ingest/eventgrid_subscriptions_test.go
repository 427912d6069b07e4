package ingest_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/publish"
)

const (
	deletedID  = gridTopic + "/providers/Microsoft.EventGrid/eventSubscriptions/Bridge-Sub"
	deletedOwn = `[{"id":"d-1","topic":"` + gridTopic + `","subject":"","data":{"eventSubscriptionId":"` + deletedID + `"},` +
		`"eventType":"Microsoft.EventGrid.SubscriptionDeletedEvent","dataVersion":"2","metadataVersion":"1","eventTime":"2026-03-01T12:00:00Z"}]`
	deletedCloud = `{"id":"d-1","source":"` + gridTopic + `","specversion":"1.0","type":"Microsoft.EventGrid.SubscriptionDeletedEvent","subject":"",` +
		`"time":"2026-03-01T12:00:00Z","data":{"eventSubscriptionId":"` + deletedID + `"}}`
	unnamed = `{"id":"d-1","source":"` + gridTopic + `","specversion":"1.0","type":"Microsoft.EventGrid.SubscriptionDeletedEvent"}`
)

func TestSubscriptions_deletedUntilTheyDeliverAgain(t *testing.T) {
	const deletion, notification = "SubscriptionDeletion", "Notification"
	send := func(h http.Handler, body, kind, subscription string) int {
		return serve(h, fromGrid(body, "Aeg-Event-Type: "+kind, "Aeg-Subscription-Name: "+subscription)).Code
	}
	for name, test := range map[string]struct {
		body, kind, subscription string
		code                     int
		resource, want           string
	}{
		"own schema":              {deletedOwn, deletion, "BRIDGE-SUB", 200, "contoso", "Bridge-Sub"},
		"CloudEvents":             {deletedCloud, deletion, "BRIDGE-SUB", 200, "contoso", "Bridge-Sub"},
		"no name in the header":   {deletedCloud, deletion, "", 200, "contoso", "Bridge-Sub"},
		"no name in the body":     {unnamed, deletion, "BRIDGE-SUB", 200, "contoso", "BRIDGE-SUB"},
		"no name":                 {unnamed, deletion, "", 200, "contoso", ""},
		"header that was dropped": {deletedOwn, "", "", 200, "contoso", "Bridge-Sub"},
		"small letters":           {deletedOwn, "subscriptiondeletion", "bridge-sub", 200, "contoso", "Bridge-Sub"},
		"the header alone":        {incomingCall, deletion, "BRIDGE-SUB", 200, "contoso", "BRIDGE-SUB"},
		"unknown topic":           {strings.ReplaceAll(deletedOwn, "contoso", "tailspin"), deletion, "", 400, "_", "Bridge-Sub"},
		"not JSON":                {"{", deletion, "BRIDGE-SUB", 400, "_", "BRIDGE-SUB"},
		"what no name has":        {unnamed, deletion, "+1 555 0100\x1b" + strings.Repeat("x", 100), 200, "contoso", "15550100" + strings.Repeat("x", 56)},
		"not stored":              {deletedOwn, deletion, "BRIDGE-SUB", 503, "contoso", "Bridge-Sub"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, p := everything(), &fakePublisher{}
				if test.code == 503 {
					p = failing(publish.ErrUnavailable)
				}
				h := newHandler(t, ingest.Config{Logger: slog.New(log), EventGrid: grid(), Publisher: p})
				for range 2 { // Event Grid repeats what was not answered 200
					if code := send(h, test.body, test.kind, test.subscription); code != test.code {
						t.Errorf("answered %d, want %d", code, test.code)
					}
					time.Sleep(10 * time.Second)
				}
				got := h.DeletedSubscriptions()
				if len(got) != 1 || got[0].Name != test.want || got[0].Resource != test.resource || got[0].At.IsZero() {
					t.Fatalf("deleted %+v, want %s of %s", got, test.want, test.resource)
				}
				if n := strings.Count(strings.Join(log.messages(), "\n"), "WARN event grid subscription was deleted"); n != 1 || !strings.Contains(log.text(), test.want) {
					t.Errorf("logged %d times:\n%s", n, log.text())
				}
				// Others of its resource, and one of its name elsewhere, change nothing.
				send(h, incomingCall, notification, "OTHER")
				send(h, strings.Replace(incomingCall, "contoso", "fabrikam", 1), notification, test.want)
				if got := h.DeletedSubscriptions(); len(got) != 1 {
					t.Errorf("after events of others: %+v", got)
				}
				if test.resource != "contoso" {
					return
				}
				send(h, incomingCall, notification, strings.ToUpper(test.want))
				if got := h.DeletedSubscriptions(); len(got) != 0 {
					t.Errorf("it delivers, and is still deleted: %+v", got)
				}
			})
		})
	}
}

// TestSubscriptions_deletedTogether holds that each is named in the log: the
// subscriptions of a resource are deleted in the same moment.
func TestSubscriptions_deletedTogether(t *testing.T) {
	log := everything()
	h := newHandler(t, ingest.Config{Logger: slog.New(log), EventGrid: grid()})
	for _, name := range []string{"INCOMING", "OTHERS", "OTHERS"} {
		serve(h, fromGrid(unnamed, "Aeg-Event-Type: SubscriptionDeletion", "Aeg-Subscription-Name: "+name))
	}
	for name, want := range map[string]int{"INCOMING": 1, "OTHERS": 1} {
		if got := strings.Count(log.text(), name); got != want {
			t.Errorf("%s is named %d times, want %d:\n%s", name, got, want, log.text())
		}
	}
}

func TestSubscriptions_deletedAreBounded(t *testing.T) {
	h := newHandler(t, ingest.Config{EventGrid: grid()})
	for n := range 100 {
		serve(h, fromGrid(unnamed, "Aeg-Event-Type: SubscriptionDeletion", fmt.Sprint("Aeg-Subscription-Name: SUB", n)))
	}
	if got := len(h.DeletedSubscriptions()); got != 64 {
		t.Errorf("%d are remembered, want 64", got)
	}
}

func TestEventGrid_deliveriesAreCountedByType(t *testing.T) {
	reg, log := prometheus.NewRegistry(), everything()
	h := newHandler(t, ingest.Config{Registerer: reg, Logger: slog.New(log), EventGrid: grid()})
	handshake := `[{"id":"h-1","topic":"` + gridTopic + `","data":{"validationCode":"512d38b6-c7b8-40c8-89fe-f46f9e9622b6"},"eventType":"Microsoft.EventGrid.SubscriptionValidationEvent"}]`
	if got := testutil.CollectAndCount(reg, "acsbridge_eventgrid_deliveries_total"); got != 4 {
		t.Errorf("%d series, want all types from the start", got)
	}
	for _, r := range []*http.Request{
		fromGrid(incomingCall), fromGrid(incomingCall, "Aeg-Event-Type: Notification"),
		fromGrid(handshake, "Aeg-Event-Type: SubscriptionValidation"),
		fromGrid(deletedOwn, "Aeg-Event-Type: SubscriptionDeletion"),
		fromGrid(incomingCall, "Aeg-Event-Type: Subscription\nUpdate +15550100"),
	} {
		if w := serve(h, r); w.Code != 200 {
			t.Errorf("%q: answered %d", r.Header.Get("Aeg-Event-Type"), w.Code)
		}
	}
	want := map[string]float64{"notification": 2, "validation": 1, "deletion": 1, "other": 1}
	if diff := cmp.Diff(want, counts(t, reg, "acsbridge_eventgrid_deliveries_total")); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(log.text(), "SubscriptionUpdate15550100") {
		t.Errorf("an unknown kind is not named:\n%s", log.text())
	}
}
