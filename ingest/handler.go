package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/internal/lograte"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

// Defaults of [Config].
const (
	DefaultPath = "/callbacks"
	// LivezPath is where a load balancer asks whether the bridge is there.
	LivezPath          = "/livez"
	DefaultMaxInFlight = 512 // × placeBytes = 16 MiB of bodies at most
	// DefaultMaxConnections is ample for what ACS does and takes some 60 MiB
	// with TLS when all are used.
	DefaultMaxConnections = 2048
	// unverifiedFactor times MaxInFlight requests wait for a verdict: at some 40
	// µs of a core each, 4096 are done in a sixth of a second of it. More of them
	// would cost memory, and make all wait longer than ACS may.
	unverifiedFactor = 8
)

// Verifier judges tokens. [verify.Verifier] is one.
type Verifier interface {
	VerifyBearer(ctx context.Context, authorization []string) (*verify.Claims, error)
	CheckReuse(claims *verify.Claims, body []byte) error
}

// Publisher makes callbacks durable. [publish.Publisher] is one.
type Publisher interface {
	Publish(ctx context.Context, claims *verify.Claims, d *publish.Delivery, events []schemas.Inbound) error
	Quarantine(ctx context.Context, claims *verify.Claims, d *publish.Delivery, reason, contentType string, body []byte) error
}

// Config of a [Handler].
type Config struct {
	// Path is where callbacks come in, with any path below it. Empty means
	// /callbacks. It starts with a slash and does not end with one.
	Path      string
	Verifier  Verifier  // required
	Publisher Publisher // required
	// MaxInFlight bounds the verified callbacks under way, and what they hold to
	// 32 KiB times as much; others get 503. Zero means 512. Eight times as many
	// may wait for a verdict about their token.
	MaxInFlight int
	// MaxConnections bounds the connections of [Handler.Bound]. Zero means 2048.
	MaxConnections int

	// CallbackKeys are the secrets of which the callback URL must have one in
	// its query, as [KeyParameter]. None means that none is asked for.
	CallbackKeys []CallbackKey
	// SourceRanges are the networks that callbacks may come from. None means
	// all. Event Grid comes from others, and is not held to them.
	SourceRanges []netip.Prefix
	// TrustedProxies are the networks of proxies whose X-Forwarded-For is
	// believed. None means that the peer is the client.
	TrustedProxies []netip.Prefix

	// EventGrid is the route for Event Grid. Nil means that there is none.
	EventGrid *EventGrid

	Logger     *slog.Logger          // nil means silence
	Registerer prometheus.Registerer // nil means no metrics
}

// Handler answers callbacks. See the package comment.
type Handler struct {
	config   Config
	metrics  *metrics
	patience patience
	sources  sources
	keys     verify.SharedKeys // of callbacks
	grid     *gridRoute        // nil without Event Grid
	refusals refusals
	places   *places
	stopping atomic.Bool
	draining atomic.Bool

	unverified atomic.Int64 // requests that wait for a verdict

	failures, panics, accepts lograte.Limiter // of ours, which come in floods
	handshakes                lograte.Limiter // of Event Grid
	deletions, unknownKinds   lograte.Limiter // the same

	subscriptions subscriptions

	quarantine  publish.QuarantineLimit
	connections connections
	lingering   lingering

	refused                               refusalLog
	issuers                               map[string][]issuer // of tokens, by route
	lastCallback, lastStored, lastRefused lastTime
}

// New returns a handler.
func New(config Config) (*Handler, error) {
	if config.Path == "" {
		config.Path = DefaultPath
	}
	if err := checkPath("callback path", config.Path); err != nil {
		return nil, err
	}
	if config.Verifier == nil || config.Publisher == nil {
		return nil, errors.New("ingest: a verifier and a publisher are required")
	}
	if config.MaxInFlight == 0 {
		config.MaxInFlight = DefaultMaxInFlight
	}
	if config.MaxConnections == 0 {
		config.MaxConnections = DefaultMaxConnections
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	keys, err := verify.NewSharedKeys(config.CallbackKeys)
	if err != nil {
		return nil, err
	}
	grid, err := newGridRoute(config.EventGrid, config.Path)
	if err != nil {
		return nil, err
	}
	h := &Handler{
		config: config, metrics: newMetrics(), keys: keys, grid: grid, places: newPlaces(config.MaxInFlight),
		sources:   sources{ranges: config.SourceRanges, proxies: config.TrustedProxies},
		lingering: make(lingering, maxLingering),
		deletions: lograte.Limiter{Burst: maxDeleted - 1}, // each names another subscription
	}
	h.refused.logger, h.issuers = config.Logger, config.issuers()
	h.metrics.register(config.Registerer, h)
	return h, nil
}

// Stopping makes [LivezPath] answer 503 and each answer over HTTP/1 close its
// connection, while callbacks are still taken: clients that keep connections
// through a balancer of TCP move to another bridge before the server closes what
// is idle, which may be when their next request is on its way. HTTP/2 has GOAWAY
// for that.
func (h *Handler) Stopping() { h.stopping.Store(true) }

// Drain makes the handler answer new callbacks with 503 as well, so that the
// sender brings them to another bridge.
func (h *Handler) Drain() {
	h.Stopping()
	h.draining.Store(true)
}

// ServeHTTP answers one callback.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := callback{handler: h, w: w, r: r, received: time.Now(), route: routeOther}
	defer c.recoverPanic()
	c.answer(c.handle())
	c.discard()
}

// callback is one request on its way through the steps.
type callback struct {
	handler  *Handler
	w        http.ResponseWriter
	r        *http.Request
	received time.Time
	route    string
	query    string // without the callback key
	resource string // known once the token is verified
	place    *place // the same
	events   int
	reply    *bytes.Buffer // body of an answer 200: that to a handshake
	answered bool
	whole    bool // the body was read
	hangUp   bool // the connection is closed, also one of HTTP/2
}

// handle takes the steps of the package comment. Its error decides the answer.
func (c *callback) handle() error {
	h, r := c.handler, c.r
	if r.URL.Path == LivezPath && r.URL.RawPath == "" {
		return c.handleLivez()
	}
	if h.grid.takes(r) {
		return c.handleGrid()
	}
	if !h.sources.allow(r) {
		return c.away(errSource)
	}
	below, err := h.route(r)
	if err != nil {
		return err
	}
	c.route = routeCallbacks
	if r.Method != http.MethodPost {
		return errMethod
	}
	if h.draining.Load() {
		return errDraining
	}
	claims, err := c.authenticate()
	if err != nil {
		return err
	}
	c.resource = claims.Resource()

	contentType, body, err := c.read()
	if c.place != nil {
		defer h.places.leave(c.place)
	}
	if err != nil {
		return err
	}
	if err := h.config.Verifier.CheckReuse(claims, body); err != nil {
		return err
	}
	return c.publish(claims, below, contentType, body)
}

// handleLivez answers a load balancer, from wherever it asks: its own address is
// in no source range.
func (c *callback) handleLivez() error {
	c.route = routeLivez
	switch {
	case c.r.Method != http.MethodGet && c.r.Method != http.MethodHead:
		return errMethod
	case c.handler.stopping.Load():
		return errDraining
	}
	return nil
}

// read returns the media type and the body, when both can be taken. From then on
// the request has a place, also beside an error; its holder gives it back.
func (c *callback) read() (contentType string, body []byte, err error) {
	if contentType, err = mediaType(c.r.Header); err != nil {
		return "", nil, err
	}
	announced, err := c.announced()
	if err != nil {
		return "", nil, err
	}
	places := c.handler.places
	if c.place = places.take(announced, time.Now(), c.cutOff); c.place == nil {
		return "", nil, errBusy
	}
	body, err = c.readBody()
	c.whole = err == nil
	if !places.arrived(c.place, len(body)) {
		err = errBusy
	}
	return contentType, body, err
}

// authenticate returns the claims of the request's token. A client of whose
// tokens too many were refused is not listened to, and nobody without the key of
// the callback URL is.
func (c *callback) authenticate() (*verify.Claims, error) {
	h := c.handler
	if c.exhausted() {
		return nil, c.away(errRefusedClient)
	}
	var values []string
	c.query, values = splitKeys(c.r.URL.RawQuery)
	if h.keys.Asked() {
		key, ok := h.keys.Find(values)
		if !ok {
			return nil, errCallbackKey
		}
		h.metrics.callbackKeys.WithLabelValues(key).Inc()
	}
	return c.verifyToken(h.config.Verifier)
}

// verifyToken has the request's token judged. So many requests wait for that at a
// time, and no more.
func (c *callback) verifyToken(v BearerVerifier) (*verify.Claims, error) {
	h := c.handler
	if h.unverified.Add(1) > int64(unverifiedFactor*h.config.MaxInFlight) {
		h.unverified.Add(-1)
		return nil, errBusy
	}
	defer h.unverified.Add(-1)
	claims, err := v.VerifyBearer(c.r.Context(), c.r.Header["Authorization"])
	if err != nil && chargeable(err) {
		h.refusals.charge(h.sources.client(c.r), c.received)
	}
	return claims, err
}

// exhausted reports whether too many tokens of the client were refused.
func (c *callback) exhausted() bool {
	h := c.handler
	return h.refusals.held.Load() > 0 && h.refusals.exhausted(h.sources.client(c.r), c.received)
}

// away has the connection closed as well. Behind a trusted proxy it may be one
// of HTTP/2 that carries the callbacks of others, so there it stays open.
func (c *callback) away(err error) error {
	c.hangUp = len(c.handler.sources.proxies) == 0
	return err
}

// publish decodes the body and makes its events durable, or keeps the whole
// callback in quarantine.
func (c *callback) publish(claims *verify.Claims, below, contentType string, body []byte) error {
	delivery, err := c.delivery()
	if err != nil {
		return err
	}
	delivery.Path, delivery.Query = below, c.query
	events, err := decode(body)
	return c.store(claims, delivery, contentType, body, events, err)
}

// delivery says what is known of the request.
func (c *callback) delivery() (*publish.Delivery, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make delivery id: %w", err)
	}
	return &publish.Delivery{ID: id, ReceivedAt: c.received, Traceparent: traceparent(c.r.Header)}, nil
}

// store makes the events of a body durable, or the body itself when it could
// not be decoded because of err.
func (c *callback) store(claims *verify.Claims, delivery *publish.Delivery, contentType string, body []byte, events []schemas.Inbound, err error) error {
	ctx := c.handler.patience.from(c.received)
	var bad *malformedError
	if errors.As(err, &bad) {
		c.handler.metrics.malformed.WithLabelValues(string(bad.reason)).Inc()
		if !c.handler.quarantine.Allow(c.resource, len(body), c.received) {
			return errQuarantineRate
		}
		// 400 is final: it is given only once the callback is kept.
		if err := c.handler.config.Publisher.Quarantine(ctx, claims, delivery, string(bad.reason), contentType, body); err != nil {
			return err
		}
		return bad
	}
	if err != nil {
		return err
	}
	c.events = len(events)
	if !c.handler.places.grow(c.place, (len(events)-1)*recordBytes) { // one is in the average
		return errBusy
	}
	return c.handler.config.Publisher.Publish(ctx, claims, delivery, events)
}
