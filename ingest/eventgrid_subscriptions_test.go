package ingest_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

func TestEventGrid_aDeletedSubscriptionIsSaidUntilItDeliversAgain(t *testing.T) {
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
				log := &lines{}
				h := handler(t, ingest.Config{Logger: slog.New(log), EventGrid: grid(), Publisher: storing(func(context.Context, *publish.Delivery) error {
					if test.code == 503 {
						return publish.ErrUnavailable
					}
					return nil
				})})
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
				if n := strings.Count(strings.Join(log.list, "\n"), "WARN event grid subscription was deleted"); n != 1 || !strings.Contains(log.all, test.want) {
					t.Errorf("said %d times:\n%v\n%s", n, log.list, log.all)
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

// TestEventGrid_subscriptionsDeletedTogether holds that each is named in the log:
// with a resource, or a script, its subscriptions go in the same moment.
func TestEventGrid_subscriptionsDeletedTogether(t *testing.T) {
	log := &lines{}
	h := handler(t, ingest.Config{Logger: slog.New(log), EventGrid: grid()})
	for _, name := range []string{"INCOMING", "OTHERS", "OTHERS"} {
		serve(h, fromGrid(unnamed, "Aeg-Event-Type: SubscriptionDeletion", "Aeg-Subscription-Name: "+name))
	}
	for name, want := range map[string]int{"INCOMING": 1, "OTHERS": 1} {
		if got := strings.Count(log.all, name); got != want {
			t.Errorf("%s is named %d times, want %d:\n%s", name, got, want, log.all)
		}
	}
}

func TestEventGrid_deletedSubscriptionsAreBounded(t *testing.T) {
	h := handler(t, ingest.Config{EventGrid: grid()})
	for n := range 100 {
		serve(h, fromGrid(unnamed, "Aeg-Event-Type: SubscriptionDeletion", fmt.Sprint("Aeg-Subscription-Name: SUB", n)))
	}
	if got := len(h.DeletedSubscriptions()); got != 64 {
		t.Errorf("%d are remembered, want 64", got)
	}
}

func TestEventGrid_deliveriesAreCountedByType(t *testing.T) {
	reg, log := prometheus.NewRegistry(), &lines{}
	h := handler(t, ingest.Config{Registerer: reg, Logger: slog.New(log), EventGrid: grid()})
	handshake := `[{"id":"h-1","topic":"` + gridTopic + `","data":{"validationCode":"512d38b6-c7b8-40c8-89fe-f46f9e9622b6"},"eventType":"Microsoft.EventGrid.SubscriptionValidationEvent"}]`
	compare := func(notification, validation, deletion, other int) {
		t.Helper()
		want := fmt.Sprintf(`
# HELP acsbridge_eventgrid_deliveries_total Deliveries of Event Grid with a good proof, by what they are: notification, validation (a handshake), deletion (of a subscription), other.
# TYPE acsbridge_eventgrid_deliveries_total counter
acsbridge_eventgrid_deliveries_total{type="deletion"} %d
acsbridge_eventgrid_deliveries_total{type="notification"} %d
acsbridge_eventgrid_deliveries_total{type="other"} %d
acsbridge_eventgrid_deliveries_total{type="validation"} %d
`, deletion, notification, other, validation)
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "acsbridge_eventgrid_deliveries_total"); err != nil {
			t.Error(err)
		}
	}
	compare(0, 0, 0, 0)
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
	compare(2, 1, 1, 1)
	if !strings.Contains(log.all, "SubscriptionUpdate15550100") {
		t.Errorf("an unknown kind is not named:\n%s", log.all)
	}
}
