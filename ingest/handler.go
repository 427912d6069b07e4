package ingest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/acsbridge/acsbridge/ingest/edge"
	"github.com/acsbridge/acsbridge/internal/lograte"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

// Defaults of [Config].
const (
	DefaultPath = "/callbacks"
	// LivezPath is the path of health probes by load balancers.
	LivezPath          = "/livez"
	DefaultMaxInFlight = 512 // × 32 KiB = 16 MiB of bodies at most
	// DefaultMaxConnections is ample for ACS, and takes some 60 MiB with TLS when all
	// are used.
	DefaultMaxConnections = 2048
	// unverifiedFactor times MaxInFlight requests may wait for the verification of
	// their token. At about 40 µs of a core each, 4096 take a sixth of a second; more
	// would cost memory and make ACS wait too long.
	unverifiedFactor = 8
	// storeWithin bounds the time from a complete body to the answer.
	storeWithin = 5 * time.Second
	// recordBytes of headers are stored with each event besides its body: up to 8
	// KiB, and half of that where the application has a long URL.
	recordBytes = 4 << 10
)

// CallbackKey is a secret that an application puts into its callback URL. The token
// proves that ACS sends for a resource; the key proves that the callback is for this
// bridge, and not for another application of the resource, whose tokens are as good.
type CallbackKey = verify.SharedKey

// Verifier verifies the tokens of callbacks. [verify.Verifier] is one.
type Verifier interface {
	BearerVerifier
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
	// MaxInFlight bounds the verified callbacks in flight, and their bytes to 32 KiB
	// times as much; others get 503. Zero means 512. Eight times as many may wait for
	// the verification of their token.
	MaxInFlight int
	// MaxConnections bounds the connections of [Handler.LimitListener]. Zero means
	// 2048.
	MaxConnections int

	// CallbackKeys are secrets. The query of the callback URL must have one of them
	// as [KeyParameter]. None means that no key is required.
	CallbackKeys []CallbackKey
	// SourceRanges are the networks that callbacks may come from. None means all.
	// Event Grid has others, and is not checked.
	SourceRanges []netip.Prefix
	// TrustedProxies are the networks of proxies whose X-Forwarded-For is
	// believed. None means that the peer is the client.
	TrustedProxies []netip.Prefix

	// EventGrid is the route for Event Grid. Nil means that there is none.
	EventGrid *EventGrid

	Logger     *slog.Logger          // nil means silence
	Registerer prometheus.Registerer // nil means no metrics
	Tracer     trace.Tracer          // nil means no traces
}

// Handler answers callbacks. See the package comment.
type Handler struct {
	config   Config
	metrics  *metrics
	keys     verify.SharedKeys // of callbacks
	grid     *gridRoute        // nil without Event Grid
	stopping atomic.Bool
	draining atomic.Bool

	addresses    edge.Addresses
	connections  *edge.Connections
	authFailures *edge.AuthFailures
	unverified   atomic.Int64 // requests that wait for the verification of their token
	inFlight     *edge.InFlight
	quarantine   publish.QuarantineLimit

	failures, panics        lograte.Limiter
	handshakes              lograte.Limiter // of Event Grid
	deletions, unknownKinds lograte.Limiter // the same
	subscriptions           subscriptions

	arrivals                              arrivals
	refusals                              refusalLog
	recentRefusals                        recentRefusals
	issuers                               map[string][]issuer // of tokens, by route
	lastCallback, lastStored, lastRefused lastTime
}

// New returns a handler.
func New(config Config) (*Handler, error) {
	config.Path = cmp.Or(config.Path, DefaultPath)
	config.MaxInFlight = cmp.Or(config.MaxInFlight, DefaultMaxInFlight)
	config.MaxConnections = cmp.Or(config.MaxConnections, DefaultMaxConnections)
	if err := config.Check(); err != nil {
		return nil, err
	}
	if config.Verifier == nil || config.Publisher == nil {
		return nil, errors.New("ingest: a verifier and a publisher are required")
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	keys, err := verify.NewSharedKeys(config.CallbackKeys)
	if err != nil {
		return nil, err
	}
	grid, err := newGridRoute(config.EventGrid)
	if err != nil {
		return nil, err
	}
	h := &Handler{
		config: config, keys: keys, grid: grid, issuers: config.issuers(),
		addresses: edge.Addresses{SourceRanges: config.SourceRanges, TrustedProxies: config.TrustedProxies},
		inFlight:  edge.NewInFlight(config.MaxInFlight, MaxBody+MaxEvents*recordBytes),
		deletions: lograte.Limiter{Burst: maxDeleted - 1}, // each names another subscription
		refusals:  refusalLog{logger: config.Logger},
	}
	h.authFailures = edge.NewAuthFailures(&h.addresses)
	h.connections = edge.NewConnections(config.MaxConnections, &h.addresses, config.Logger, func() {
		h.metrics.connectionsRejected.Inc()
		h.refusals.add(refusalKind{routeOther, reasonConnectionLimit}, 0, "connections were closed, since one client held a quarter of --max-connections", nil)
	})
	h.metrics = newMetrics(config.Registerer, h)
	return h, nil
}

// Server returns the server for callbacks, see [edge.NewServer].
func (h *Handler) Server(tlsConfig *tls.Config) *http.Server {
	return edge.NewServer(h, tlsConfig, h.config.Logger, h.metrics.http2Errors.Inc)
}

// LimitListener limits and counts the connections of l, see
// [edge.Connections.LimitListener].
func (h *Handler) LimitListener(l net.Listener) net.Listener { return h.connections.LimitListener(l) }

// Stopping makes [LivezPath] answer 503 and each answer over HTTP/1 close its
// connection, while callbacks are still accepted. Clients that keep connections
// through a TCP load balancer move to another bridge before the server closes idle
// connections, which may be while their next request is on its way. HTTP/2 has GOAWAY
// for that.
func (h *Handler) Stopping() { h.stopping.Store(true) }

// Drain makes the handler answer new callbacks with 503 as well, so that the
// sender brings them to another bridge.
func (h *Handler) Drain() {
	h.Stopping()
	h.draining.Store(true)
}

// request is one request on its way through the steps.
type request struct {
	handler   *Handler
	w         http.ResponseWriter
	r         *http.Request
	received  time.Time
	route     string
	resource  string       // known once the token is verified
	permit    *edge.Permit // nil before the body is read
	events    int
	reply     *bytes.Buffer // body of an answer 200: that to a handshake
	answered  bool
	bodyRead  bool // to its end, or there is none
	closeConn bool // also a connection of HTTP/2

	span trace.Span // nil before the token is verified, and without traces
	ctx  context.Context
}

// ServeHTTP answers one callback.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := request{handler: h, w: w, r: r, received: time.Now(), route: routeOther, bodyRead: r.ContentLength == 0}
	defer q.recoverPanic()
	q.answer(q.handle())
}

// handle does the steps of the package comment. Its error decides the answer.
func (q *request) handle() error {
	h, r := q.handler, q.r
	switch {
	case q.recordArrival():
		return nil
	case r.URL.Path == LivezPath && r.URL.RawPath == "":
		return q.handleLivez()
	case h.grid != nil && r.URL.Path == h.grid.path && r.URL.RawPath == "": // that path needs no escapes
		return q.handleEventGrid()
	case !h.addresses.Allow(r):
		return q.rejectClient(errSource)
	}
	below, ok := pathBelow(h.config.Path, r.URL.EscapedPath())
	if !ok {
		return errNotFound
	}
	q.route = routeCallbacks
	if r.Method != http.MethodPost {
		return errMethod
	}
	if h.draining.Load() {
		return errDraining
	}
	if h.authFailures.Exceeded(r, q.received) {
		return q.rejectClient(errRefusedClient)
	}

	query, keys := SplitKeys(r.URL.RawQuery)
	if h.keys.Asked() {
		name, ok := h.keys.Find(keys)
		if !ok {
			return errCallbackKey
		}
		h.metrics.callbackKeys.WithLabelValues(name).Inc()
	}
	claims, err := q.verifyToken(h.config.Verifier)
	if err != nil {
		return err
	}
	q.resource = claims.Resource()

	contentType, body, err := q.readBody()
	defer q.permit.Release()
	if err != nil {
		return err
	}
	if err := h.config.Verifier.CheckReuse(claims, body); err != nil {
		return err
	}
	events, err := new(decoder).decode(body)
	return q.store(claims, &publish.Delivery{Path: below, Query: query}, contentType, body, events, err)
}

// handleLivez answers a load balancer from any address: its own need not be in a
// source range.
func (q *request) handleLivez() error {
	q.route = routeLivez
	switch {
	case q.r.Method != http.MethodGet && q.r.Method != http.MethodHead:
		return errMethod
	case q.handler.stopping.Load():
		return errDraining
	}
	return nil
}

// rejectClient has the connection closed as well. Behind a trusted proxy it may be
// one of HTTP/2 that carries the callbacks of other clients, so there it stays open.
func (q *request) rejectClient(err error) error {
	q.closeConn = len(q.handler.addresses.TrustedProxies) == 0
	return err
}

// verifyToken verifies the request's token. The number of requests that wait for that
// is bounded.
func (q *request) verifyToken(v BearerVerifier) (*verify.Claims, error) {
	h := q.handler
	defer h.unverified.Add(-1)
	if h.unverified.Add(1) > int64(unverifiedFactor*h.config.MaxInFlight) {
		return nil, errBusy
	}
	began := time.Now()
	claims, err := v.VerifyBearer(q.r.Context(), q.r.Header["Authorization"])
	q.startTrace(began, err)
	if err != nil && isAuthFailure(err) {
		h.authFailures.Add(q.r, q.received)
	}
	return claims, err
}

// isAuthFailure reports whether a refusal counts against the client. Those do not
// that ACS earns from the addresses that good callbacks come from: with callbacks of
// a resource that is missing in the configuration or belongs to another customer, or
// with a clock that is wrong. See decision 11.
func isAuthFailure(err error) bool {
	var refused *verify.RefusedError
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Reason {
	case verify.MissingToken, verify.MalformedToken, verify.UnsupportedHeader, verify.BadAlgorithm,
		verify.UnknownKey, verify.BadSignature, verify.WrongIssuer:
		return true
	}
	return false
}

// readBody returns the media type and the body, within their bounds. The caller
// releases the permit, also after an error.
func (q *request) readBody() (contentType string, body []byte, err error) {
	r := q.r
	if contentType, err = mediaType(r.Header); err != nil {
		return "", nil, err
	}
	size := r.ContentLength
	switch {
	case size > MaxBody:
		return "", nil, errTooLarge
	case size < 0: // chunked
		size = MaxBody
	}
	q.permit = q.handler.inFlight.Acquire(int(size), time.Now(), func() { edge.StopReading(q.w) })
	if q.permit == nil {
		return "", nil, errBusy
	}
	if r.ContentLength >= 0 {
		body = make([]byte, size)
		_, err = io.ReadFull(r.Body, body) // net/http reads no more than was announced
	} else {
		body, err = io.ReadAll(http.MaxBytesReader(q.w, r.Body, MaxBody))
	}
	q.bodyRead = err == nil
	var tooLarge *http.MaxBytesError
	switch {
	case !q.permit.SetSize(len(body)):
		err = errBusy
	case errors.As(err, &tooLarge):
		err = errTooLarge
	case err != nil:
		err = errIncomplete
	}
	return contentType, body, err
}

// store makes the events of a body durable, or the whole body, in quarantine, when
// decoding it failed with err.
func (q *request) store(claims *verify.Claims, delivery *publish.Delivery, contentType string, body []byte, events []schemas.Inbound, err error) error {
	h := q.handler
	delivery.ID, delivery.ReceivedAt, delivery.Traceparent = uuid.Must(uuid.NewV7()), q.received, q.traceparent()
	ctx, cancel := context.WithTimeout(q.context(), storeWithin)
	defer cancel()
	var bad *malformedError
	if errors.As(err, &bad) {
		h.metrics.malformed.WithLabelValues(string(bad.reason)).Inc()
		if !h.quarantine.Allow(q.resource, len(body), q.received) {
			return errQuarantineRate
		}
		// 400 is final, so it is answered only once the callback is kept.
		if err := h.config.Publisher.Quarantine(ctx, claims, delivery, string(bad.reason), contentType, body); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	q.events = len(events)
	if !q.permit.Grow((len(events) - 1) * recordBytes) { // one is in the average
		return errBusy
	}
	return h.config.Publisher.Publish(ctx, claims, delivery, events)
}
