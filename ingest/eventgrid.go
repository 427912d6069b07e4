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

	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

// DefaultGridPath is the path of the route for Event Grid.
const DefaultGridPath = "/eventgrid"

// EventGrid is the configuration of the route on which Event Grid delivers.
// Events of calls that have no connection yet come that way.
type EventGrid struct {
	// Path is the route's path; nothing below it is taken. Empty means
	// /eventgrid. It is neither the callback path nor below it.
	Path string
	// Verifier judges tokens of Entra ID. Nil means that none is asked for, and
	// then Keys are required. A [verify.Verifier] with a profile of Entra ID is
	// one.
	Verifier BearerVerifier
	// Keys are the secrets of which the URL must have one in its query, as
	// [KeyParameter]. None means that none is asked for, and then a Verifier is
	// required. With both, both are asked for.
	Keys []verify.SharedKey
	// Sources are the names of resources by the topics of their events, which
	// are the paths of the resources in Azure: required. Azure writes them in
	// either case.
	Sources map[string]string
}

// BearerVerifier judges the tokens of Event Grid.
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
func newGridRoute(config *EventGrid, callbackPath string) (*gridRoute, error) {
	if config == nil {
		return nil, nil
	}
	g := &gridRoute{path: config.Path, verifier: config.Verifier, sources: make(map[string]string)}
	if g.path == "" {
		g.path = DefaultGridPath
	}
	if err := checkPath("event grid path", g.path); err != nil {
		return nil, err
	}
	if g.path == callbackPath || strings.HasPrefix(g.path, callbackPath+"/") {
		return nil, fmt.Errorf("event grid path %q: is the callback path or below it; each route has its own senders", g.path)
	}
	var err error
	if g.keys, err = verify.NewSharedKeys(config.Keys); err != nil {
		return nil, err
	}
	if g.verifier == nil && !g.keys.Asked() {
		return nil, errors.New("event grid: a verifier or a key is required; nobody may send without a proof")
	}
	if len(config.Sources) == 0 {
		return nil, errors.New("event grid: at least one source is required")
	}
	for topic, name := range config.Sources {
		if topic == "" || !schemas.ValidToken(name) || name == schemas.NoResource {
			return nil, fmt.Errorf("event grid source: %q is no name for the topic %q", name, topic)
		}
		g.sources[strings.ToLower(topic)] = name
	}
	return g, nil
}

// takes reports whether a request is for the route, to the letter. The path
// needs no escapes, so that one with some is another.
func (g *gridRoute) takes(r *http.Request) bool {
	return g != nil && r.URL.Path == g.path && r.URL.RawPath == ""
}

// resource returns whose events these are. A delivery is of one subscription,
// and so of one topic. One that is not configured is final, as the audience of a
// resource that is missing is for a callback; but here the sender is proven, so
// that the delivery is kept, and can be published once it is.
func (g *gridRoute) resource(events []schemas.Inbound) (name string, err error) {
	for i := range events {
		of := g.sources[strings.ToLower(events[i].Source)]
		switch {
		case of == "":
			return "", malformed(UnknownSource, "event %d is of no configured source", i)
		case name != "" && name != of:
			return "", malformed(UnknownSource, "event %d is of another resource", i)
		}
		name = of
	}
	return name, nil
}

// handleGrid takes the steps for a delivery of Event Grid, or for one of its
// handshakes. They are those of callbacks: nobody without the proof gets a body
// read, or an answer to a handshake.
func (c *callback) handleGrid() error {
	h, r := c.handler, c.r
	c.route = routeEventGrid
	origin := r.Header["Webhook-Request-Origin"]
	asks := r.Method == http.MethodOptions && len(origin) > 0
	if r.Method != http.MethodPost && !asks {
		return errMethod
	}
	if h.draining.Load() {
		return errDraining
	}
	sender, err := c.authenticateGrid()
	if err != nil {
		return err
	}
	if asks {
		return c.allowOrigin(origin)
	}
	contentType, body, err := c.read()
	if c.place != nil {
		defer h.places.leave(c.place)
	}
	if err != nil {
		return err
	}
	return c.publishGrid(sender, contentType, body)
}

// authenticateGrid returns the claims of a sender that has what the route asks
// for: a key, a token, or both.
func (c *callback) authenticateGrid() (sender *verify.Claims, err error) {
	h, g := c.handler, c.handler.grid
	if c.exhausted() {
		return nil, c.away(errRefusedClient)
	}
	if g.keys.Asked() {
		_, values := splitKeys(c.r.URL.RawQuery)
		name, ok := g.keys.Find(values)
		if !ok {
			return nil, errGridKey
		}
		h.metrics.gridKeys.WithLabelValues(name).Inc()
		sender, _ = g.keys.Verify(values)
	}
	if g.verifier != nil {
		return c.verifyToken(g.verifier)
	}
	return sender, nil
}

// originName is the form of the name by which a sender asks for leave.
var originName = regexp.MustCompile(`^[A-Za-z0-9.-]{1,253}$`)

// allowOrigin answers the handshake of subscriptions that have the CloudEvents
// schema (CloudEvents HTTP webhook 1.0, section 4). Who got so far has the proof,
// so whatever the name, it may send, and as much as it likes.
func (c *callback) allowOrigin(origin []string) error {
	if len(origin) != 1 || !originName.MatchString(origin[0]) {
		return malformed(NotEventGrid, "the origin is no host name")
	}
	header := c.w.Header()
	header.Set("Allow", http.MethodPost)
	header.Set("Webhook-Allowed-Origin", origin[0])
	header.Set("Webhook-Allowed-Rate", "*")
	c.tellOfHandshake("options")
	return nil
}

// answerCode answers the handshake of subscriptions that have Event Grid's own
// schema. It must be 200 with the code; Event Grid takes no other success.
// https://learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema
func (c *callback) answerCode(code string) error {
	reply, err := json.Marshal(struct {
		ValidationResponse string `json:"validationResponse"`
	}{code})
	if err != nil {
		return fmt.Errorf("answer a handshake: %w", err)
	}
	c.reply = bytes.NewBuffer(reply)
	c.tellOfHandshake("code")
	return nil
}

// tellOfHandshake logs that somebody has made or changed a subscription.
func (c *callback) tellOfHandshake(kind string) {
	h := c.handler
	h.metrics.gridDeliveries.WithLabelValues(gridHandshake).Inc()
	h.handshakes.Log(h.config.Logger, slog.LevelInfo, "event grid asked for leave to send and got it", slog.String("handshake", kind))
}

// publishGrid decodes a delivery and makes its events durable, answers its
// handshake, or keeps the whole of it in quarantine. There nobody knows whose it
// is.
func (c *callback) publishGrid(sender *verify.Claims, contentType string, body []byte) error {
	grid := &schemas.GridDelivery{
		Subscription:    c.r.Header.Get("Aeg-Subscription-Name"),
		Count:           c.r.Header.Get("Aeg-Delivery-Count"),
		DataVersion:     c.r.Header.Get("Aeg-Data-Version"),
		MetadataVersion: c.r.Header.Get("Aeg-Metadata-Version"),
	}
	handshake := strings.EqualFold(c.r.Header.Get("Aeg-Event-Type"), gridValidation)
	events, code, err := decodeGrid(contentType, handshake, body)
	if err == nil && handshake {
		return c.answerCode(code)
	}
	c.resource = schemas.NoResource
	if err == nil {
		var name string
		if name, err = c.handler.grid.resource(events); err == nil {
			c.resource = name
		}
	}
	c.noteGridDelivery(c.r.Header.Get("Aeg-Event-Type"), grid.Subscription, events)
	claims, pickErr := sender.ForResource(c.resource)
	if pickErr != nil {
		return pickErr
	}
	delivery, idErr := c.delivery()
	if idErr != nil {
		return idErr
	}
	delivery.Grid = grid
	return c.store(claims, delivery, contentType, body, events, err)
}
