package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

// DefaultGridPath is the path of the route for Event Grid.
const DefaultGridPath = "/eventgrid"

// gridValidation is what aeg-event-type says of a handshake, and
// gridValidationType the type of the event in it.
const (
	gridValidation     = "SubscriptionValidation"
	gridValidationType = "Microsoft.EventGrid.SubscriptionValidationEvent"
)

// maxGridCode bounds the code of a handshake in bytes; it is a GUID.
const maxGridCode = 512

// EventGrid is the configuration of the route on which Event Grid delivers.
// Events of calls that have no connection yet come that way.
type EventGrid struct {
	// Path is the route's path; paths below it are 404. Empty means
	// /eventgrid. It is neither the callback path nor below it.
	Path string
	// Verifier verifies tokens of Entra ID: a [verify.Verifier] with a profile of
	// Entra ID. Nil means that no token is required, and then Keys are. With both,
	// both are required.
	Verifier BearerVerifier
	// Keys are secrets. The query of the URL must have one of them as
	// [KeyParameter]. None means that no key is required, and then a Verifier is.
	Keys []verify.SharedKey
	// Sources are the names of resources by the topics of their events, which
	// are the paths of the resources in Azure, in either case. At least one.
	Sources map[string]string
}

// BearerVerifier verifies bearer tokens.
type BearerVerifier interface {
	VerifyBearer(ctx context.Context, authorization []string) (*verify.Claims, error)
}

// gridRoute is the route for Event Grid.
type gridRoute struct {
	path     string
	verifier BearerVerifier
	keys     verify.SharedKeys
	sources  map[string]string // name by topic in lower case
}

// newGridRoute checks the configuration of the route.
func newGridRoute(config *EventGrid) (*gridRoute, error) {
	if config == nil {
		return nil, nil
	}
	g := &gridRoute{path: config.Path, verifier: config.Verifier, sources: make(map[string]string)}
	if g.path == "" {
		g.path = DefaultGridPath
	}
	var err error
	if g.keys, err = verify.NewSharedKeys(config.Keys); err != nil {
		return nil, err
	}
	if g.verifier == nil && !g.keys.Asked() {
		return nil, errors.New("event grid: a verifier or a key is required: without one, any client could send")
	}
	if len(config.Sources) == 0 {
		return nil, errors.New("event grid: at least one source is required")
	}
	for topic, name := range config.Sources {
		if topic == "" || !schemas.ValidToken(name) || name == schemas.NoResource {
			return nil, fmt.Errorf("event grid source: %q is not a valid name for the topic %q", name, topic)
		}
		g.sources[strings.ToLower(topic)] = name
	}
	return g, nil
}

// resource returns the resource of the events. A delivery is of one subscription, and
// so of one topic. An unknown topic is final, like an unknown audience of a callback;
// but here the sender is authenticated, so that the delivery is kept, and can be
// published once the topic is configured.
func (g *gridRoute) resource(events []schemas.Inbound) (name string, err error) {
	for i := range events {
		of := g.sources[strings.ToLower(events[i].Source)]
		switch {
		case of == "":
			return "", malformed(UnknownSource, "event %d is of a source that is not configured", i)
		case name != "" && name != of:
			return "", malformed(UnknownSource, "event %d is of another resource", i)
		}
		name = of
	}
	return name, nil
}

// handleEventGrid does the steps for a delivery of Event Grid, or for one of its
// handshakes. As with callbacks, no body is read and no handshake is answered before
// the sender is authenticated.
func (q *request) handleEventGrid() error {
	h, g, r := q.handler, q.handler.grid, q.r
	q.route = routeEventGrid
	origin := r.Header["Webhook-Request-Origin"]
	handshake := r.Method == http.MethodOptions && len(origin) > 0
	if r.Method != http.MethodPost && !handshake {
		return errMethod
	}
	if h.draining.Load() {
		return errDraining
	}
	if h.authFailures.Exceeded(r, q.received) {
		return q.rejectClient(errRefusedClient)
	}

	var sender *verify.Claims
	if g.keys.Asked() {
		_, values := SplitKeys(r.URL.RawQuery)
		name, ok := g.keys.Find(values)
		if !ok {
			return errGridKey
		}
		h.metrics.gridKeys.WithLabelValues(name).Inc()
		sender, _ = g.keys.Verify(values)
	}
	if g.verifier != nil {
		var err error
		if sender, err = q.verifyToken(g.verifier); err != nil {
			return err
		}
	} else {
		q.startTrace(time.Time{}, nil)
	}
	if handshake {
		return q.allowOrigin(origin)
	}

	contentType, body, err := q.readBody()
	defer q.permit.Release()
	if err != nil {
		return err
	}
	kind := r.Header.Get("Aeg-Event-Type")
	handshake = strings.EqualFold(kind, gridValidation)
	events, code, err := decodeGrid(contentType, handshake, body)
	if err == nil && handshake {
		return q.answerCode(code)
	}
	if err == nil {
		q.resource, err = g.resource(events)
	}
	if err != nil {
		q.resource = schemas.NoResource
	}
	return q.storeDelivery(sender, kind, contentType, body, events, err)
}

// storeDelivery adds to a delivery what its headers say, and stores it.
func (q *request) storeDelivery(sender *verify.Claims, kind, contentType string, body []byte, events []schemas.Inbound, err error) error {
	grid := &schemas.GridDelivery{
		Subscription:    q.r.Header.Get("Aeg-Subscription-Name"),
		Count:           q.r.Header.Get("Aeg-Delivery-Count"),
		DataVersion:     q.r.Header.Get("Aeg-Data-Version"),
		MetadataVersion: q.r.Header.Get("Aeg-Metadata-Version"),
	}
	q.countDelivery(kind, grid.Subscription, events)
	claims, claimsErr := sender.ForResource(q.resource)
	if claimsErr != nil {
		return claimsErr
	}
	return q.store(claims, &publish.Delivery{Grid: grid}, contentType, body, events, err)
}

// originName is the form of the name by which a sender asks for permission.
var originName = regexp.MustCompile(`^[A-Za-z0-9.-]{1,253}$`)

// allowOrigin answers the handshake of subscriptions that have the CloudEvents
// schema (CloudEvents HTTP webhook 1.0, section 4). The sender is authenticated, so
// whatever its name, it may send, and at any rate.
func (q *request) allowOrigin(origin []string) error {
	if len(origin) != 1 || !originName.MatchString(origin[0]) {
		return malformed(NotEventGrid, "the origin is not a host name")
	}
	header := q.w.Header()
	header.Set("Allow", http.MethodPost)
	header.Set("Webhook-Allowed-Origin", origin[0])
	header.Set("Webhook-Allowed-Rate", "*")
	q.logHandshake("options")
	return nil
}

// answerCode answers the handshake of subscriptions that have Event Grid's own
// schema. It must be 200 with the code; Event Grid accepts no other success.
// https://learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema
func (q *request) answerCode(code string) error {
	reply, err := json.Marshal(map[string]string{"validationResponse": code})
	if err != nil {
		return fmt.Errorf("answer a handshake: %w", err)
	}
	q.reply = bytes.NewBuffer(reply)
	q.logHandshake("code")
	return nil
}

// logHandshake logs that a subscription was made or changed.
func (q *request) logHandshake(kind string) {
	h := q.handler
	h.metrics.gridDeliveries.WithLabelValues(gridHandshake).Inc()
	h.handshakes.Log(h.config.Logger, slog.LevelInfo, "event grid validated a subscription", slog.String("handshake", kind))
}
