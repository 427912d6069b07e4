package acstest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
)

// DemoTenant and DemoApplication are --eventgrid-tenant and --eventgrid-audience for
// the simulated Event Grid. They are invented.
const (
	DemoTenant      = "5aba7c7e-ac50-4de0-9f00-0acab0a7de02"
	DemoApplication = "5aba7c7e-ac50-4de0-9f00-0acab0a7de03"
)

// gridApplication is the application ID of Event Grid, which its tokens are issued
// to.
// https://learn.microsoft.com/azure/event-grid/secure-webhook-delivery
const gridApplication = "4962773b-9cdb-44cf-a8bf-237846a00ab7"

const (
	// gridLifetime is the lifetime of a token of Event Grid.
	gridLifetime = 24 * time.Hour
	// gridTokenFor is how long a token is used.
	gridTokenFor = gridLifetime / 2
	// gridOrigin is the origin that Event Grid sends in a handshake.
	gridOrigin = "eventgrid.azure.net"
)

// EventGridSchema is the schema of a subscription.
type EventGridSchema string

// The schemas.
const (
	EventGridCloudEvents EventGridSchema = "CloudEventSchemaV1_0"
	EventGridOwnSchema   EventGridSchema = "EventGridSchema"
)

// EventGridOptions are the settings of the Event Grid that a [Caller] simulates.
type EventGridOptions struct {
	// Target is the URL of the bridge's route for Event Grid. Required.
	Target string
	// Audience is the aud of good tokens. Empty means [DemoApplication].
	Audience string
	// Schema is the schema of all deliveries. Empty means [EventGridCloudEvents].
	Schema EventGridSchema
}

// eventGrid is the part of a Caller that simulates Event Grid.
type eventGrid struct {
	target   *url.URL
	audience string
	schema   EventGridSchema
	signer   Signer

	mu    sync.Mutex
	token string // for many deliveries, as Event Grid does
	since time.Time
}

func newEventGrid(o *EventGridOptions, signer Signer) (*eventGrid, error) {
	if o == nil {
		return nil, nil
	}
	target, err := parseTarget(o.Target)
	if err != nil {
		return nil, fmt.Errorf("event grid: %w", err)
	}
	g := &eventGrid{target: target, audience: cmp.Or(o.Audience, DemoApplication), schema: cmp.Or(o.Schema, EventGridCloudEvents), signer: signer}
	if g.schema != EventGridCloudEvents && g.schema != EventGridOwnSchema {
		return nil, fmt.Errorf("event grid: unknown schema %q", g.schema)
	}
	return g, nil
}

// request makes the POST of a delivery. before counts the attempts before it.
func (g *eventGrid) request(d *Callback, before int) (*http.Request, error) {
	body, contentType, err := gridBody(g.schema, d.Events)
	if err != nil {
		return nil, err
	}
	if d.body != nil {
		body, contentType = d.body, d.bodyType
	}
	r, err := g.newRequest(http.MethodPost, body, d.Bearer)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Aeg-Event-Type", gridKind(d.Events[0].Type))
	r.Header.Set("Aeg-Subscription-Name", "ACSTEST")
	r.Header.Set("Aeg-Callback-Count", strconv.Itoa(before))
	r.Header.Set("Aeg-Data-Version", "1.0")
	r.Header.Set("Aeg-Metadata-Version", "1")
	return r, nil
}

// gridKind is the aeg-event-type of a delivery.
// https://learn.microsoft.com/azure/event-grid/receive-events
func gridKind(eventType string) string {
	switch eventType {
	case "Microsoft.EventGrid.SubscriptionValidationEvent":
		return "SubscriptionValidation"
	case "Microsoft.EventGrid.SubscriptionDeletedEvent":
		return "SubscriptionDeletion"
	}
	return "Notification"
}

func (g *eventGrid) newRequest(method string, body []byte, bearer Bearer) (*http.Request, error) {
	r, err := http.NewRequest(method, g.target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make a delivery: %w", err)
	}
	if bearer == BearerMissing {
		return r, nil
	}
	token, err := g.sign(bearer)
	if err != nil {
		return nil, fmt.Errorf("sign a delivery: %w", err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	return r, nil
}

// GridToken returns the spec of a good token of Event Grid, which lives for a day. An
// empty audience means [DemoApplication].
func GridToken(audience string) TokenSpec {
	return TokenSpec{
		Audience: cmp.Or(audience, DemoApplication),
		Lifetime: gridLifetime,
		Claims:   map[string]any{"appid": gridApplication, "tid": DemoTenant, "ver": "1.0"},
	}
}

// sign returns the token for a delivery.
func (g *eventGrid) sign(bearer Bearer) (string, error) {
	spec, good := bearer.token(g.audience), GridToken(g.audience)
	maps.Copy(good.Claims, spec.Claims)
	spec.Claims, spec.Lifetime = good.Claims, good.Lifetime
	switch bearer {
	case BearerGood:
	case BearerMalformed:
		return malformedToken, nil
	case BearerExpired:
		spec.Now = time.Now().Add(-gridLifetime - time.Hour)
		return g.signer.Sign(spec)
	case BearerDayLong: // a day is the usual lifetime here
		spec.Lifetime = 2 * gridLifetime
		return g.signer.Sign(spec)
	default:
		return g.signer.Sign(spec)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.token != "" && time.Since(g.since) < gridTokenFor {
		return g.token, nil
	}
	token, err := g.signer.Sign(spec)
	g.token, g.since = token, time.Now()
	return token, err
}

// gridRetryable reports whether Event Grid delivers again after an answer. Four
// are final.
// https://learn.microsoft.com/azure/event-grid/delivery-and-retry
func gridRetryable(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestEntityTooLarge:
		return false
	}
	return status < 200 || status > http.StatusNoContent
}

// Subscribe validates the bridge's route, as Event Grid does for a new subscription,
// with the handshake of the caller's schema. It needs [CallerOptions.EventGrid].
func (c *Caller) Subscribe(ctx context.Context) error {
	g := c.grid
	if g == nil {
		return errors.New("the caller does not simulate event grid")
	}
	code := uuid.NewString()
	r, err := g.handshake(code)
	if err != nil {
		return err
	}
	answer := c.client.Do(ctx, r)
	if answer.Err != nil {
		return fmt.Errorf("event grid's handshake: %w", answer.Err)
	}
	if answer.Status != http.StatusOK {
		return fmt.Errorf("event grid's handshake was answered %d, want 200", answer.Status)
	}
	if g.schema == EventGridCloudEvents {
		if allowed := answer.Header.Get("WebHook-Allowed-Origin"); allowed != gridOrigin && allowed != "*" {
			return fmt.Errorf("event grid's handshake: the origin that may send is %q, not %s", allowed, gridOrigin)
		}
		return nil
	}
	var validation struct{ ValidationResponse string }
	if err := json.Unmarshal(answer.Body, &validation); err != nil || validation.ValidationResponse != code {
		return errors.New("event grid's handshake: the answer does not hold the code")
	}
	return nil
}

// handshake makes the request that validates a subscription.
func (g *eventGrid) handshake(code string) (*http.Request, error) {
	if g.schema == EventGridCloudEvents {
		r, err := g.newRequest(http.MethodOptions, nil, BearerGood)
		if err == nil {
			r.Header.Set("WebHook-Request-Origin", gridOrigin)
			r.Header.Set("WebHook-Request-Rate", "120")
		}
		return r, err
	}
	data, err := json.Marshal(map[string]string{
		"validationCode": code, "validationUrl": "https://eventgrid.example/validate?id=" + code,
	})
	if err != nil {
		return nil, err
	}
	body, contentType, err := gridBody(EventGridOwnSchema, []WireEvent{{
		ID: uuid.NewString(), Source: DemoTopic, Data: data, Time: formatTime(time.Now()),
		Type: "Microsoft.EventGrid.SubscriptionValidationEvent",
	}})
	if err != nil {
		return nil, err
	}
	r, err := g.newRequest(http.MethodPost, body, BearerGood)
	if err == nil {
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Aeg-Event-Type", "SubscriptionValidation")
	}
	return r, err
}
