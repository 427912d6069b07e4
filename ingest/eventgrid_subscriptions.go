package ingest

import (
	"cmp"
	"encoding/json"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/acsbridge/acsbridge/schemas"
)

// What a delivery of Event Grid is, by its header aeg-event-type: a closed set,
// used as a metric label. A delivery without the header is a notification.
const (
	gridNotification = "notification"
	gridHandshake    = "validation"
	gridDeletion     = "deletion"
	gridOther        = "other"
)

var gridDeliveries = []string{gridNotification, gridHandshake, gridDeletion, gridOther}

// gridDeletedType is the type of the event that Event Grid sends last to the
// endpoint of a subscription that was deleted.
const gridDeletedType = "Microsoft.EventGrid.SubscriptionDeletedEvent"

// gridDelivery returns what a delivery is. A deletion is recognised by its header or
// its event, since a proxy may drop the header.
func gridDelivery(header string, events []schemas.Inbound) string {
	deleted := func(e schemas.Inbound) bool { return strings.EqualFold(e.Type, gridDeletedType) }
	switch {
	case strings.EqualFold(header, "SubscriptionDeletion") || slices.ContainsFunc(events, deleted):
		return gridDeletion
	case strings.EqualFold(header, gridValidation):
		return gridHandshake
	case header == "" || strings.EqualFold(header, "Notification"):
		return gridNotification
	}
	return gridOther
}

// maxDeleted bounds the deleted subscriptions that are remembered. A topic of
// Event Grid has at most 500, and a bridge has a few.
const maxDeleted = 64

// DeletedSubscription is a subscription of Event Grid that was deleted, and from
// which nothing has come since.
type DeletedSubscription struct {
	Name     string // empty when the delivery does not say
	Resource string // "_" when its topic is not configured
	At       time.Time
}

// subscriptions remembers which subscriptions were deleted. The zero value is
// ready.
type subscriptions struct {
	mu      sync.Mutex
	deleted map[string]DeletedSubscription // by resource and name in lower case
}

// delete records a deletion and reports whether it is new: Event Grid repeats a
// delivery that was not answered 200.
func (s *subscriptions) delete(d DeletedSubscription) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := subscriptionKey(d.Resource, d.Name)
	if _, recorded := s.deleted[key]; recorded || len(s.deleted) == maxDeleted {
		return false
	}
	if s.deleted == nil {
		s.deleted = make(map[string]DeletedSubscription)
	}
	s.deleted[key] = d
	return true
}

// seen forgets a deletion: the subscription delivers.
func (s *subscriptions) seen(resource, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.deleted, subscriptionKey(resource, name))
}

// subscriptionKey has both, as names are unique only within a topic. Event Grid
// writes them in capitals in its headers.
func subscriptionKey(resource, name string) string {
	return resource + "/" + strings.ToLower(name)
}

// DeletedSubscriptions returns the subscriptions of Event Grid that were deleted
// and from which nothing has come since, by resource and name.
func (h *Handler) DeletedSubscriptions() []DeletedSubscription {
	h.subscriptions.mu.Lock()
	defer h.subscriptions.mu.Unlock()
	var list []DeletedSubscription
	for _, d := range h.subscriptions.deleted {
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b DeletedSubscription) int {
		return cmp.Or(cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// countDelivery counts a delivery, and logs when it is the last one of its
// subscription. It is stored like any other.
func (q *request) countDelivery(header, subscription string, events []schemas.Inbound) {
	h := q.handler
	kind := gridDelivery(header, events)
	h.metrics.gridDeliveries.WithLabelValues(kind).Inc()
	subscription = subscriptionName(subscription)
	switch kind {
	case gridNotification:
		h.subscriptions.seen(q.resource, subscription)
	case gridDeletion:
		name := cmp.Or(deletedName(events), subscription)
		if h.subscriptions.delete(DeletedSubscription{Name: name, Resource: q.resource, At: q.received}) {
			h.deletions.Log(h.config.Logger, slog.LevelWarn,
				"event grid subscription was deleted: its events, such as incoming calls, do not come any more; create it again unless that was meant (docs/operations.md, Event Grid)",
				slog.String("subscription", name), slog.String("resource", q.resource))
		}
	case gridOther:
		h.unknownKinds.Log(h.config.Logger, slog.LevelInfo,
			"event grid sent a delivery of an unknown kind, which is stored like a notification", slog.String("kind", subscriptionName(header)))
	}
}

// deletedName is the name of the deleted subscription, as it was made: the last
// part of its id in Azure.
func deletedName(events []schemas.Inbound) string {
	for _, e := range events {
		var event struct {
			Data struct {
				EventSubscriptionID string `json:"eventSubscriptionId"`
			} `json:"data"`
		}
		if strings.EqualFold(e.Type, gridDeletedType) && json.Unmarshal(e.Raw, &event) == nil && event.Data.EventSubscriptionID != "" {
			return subscriptionName(path.Base(event.Data.EventSubscriptionID))
		}
	}
	return ""
}

// subscriptionName keeps of a text what the name of a subscription can have: at
// most 64 letters, digits and hyphens.
func subscriptionName(text string) string {
	name := strings.Map(func(r rune) rune {
		if r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, text)
	return name[:min(len(name), 64)]
}
