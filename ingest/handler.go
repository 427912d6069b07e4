package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

// Defaults of [Config].
const (
	DefaultPath        = "/callbacks"
	DefaultMaxInFlight = 512 // × MaxBody = 128 MiB at most
	// DefaultMaxConnections is ample for what ACS does and takes some 60 MiB
	// with TLS when all are used.
	DefaultMaxConnections = 2048
)

// Verifier judges tokens. [verify.Verifier] is one.
type Verifier interface {
	VerifyBearer(ctx context.Context, authorization []string) (*verify.Claims, error)
	CheckReuse(claims *verify.Claims, body []byte) error
}

// Publisher makes callbacks durable. [publish.Publisher] is one.
type Publisher interface {
	Publish(ctx context.Context, claims *verify.Claims, d *publish.Delivery, events []schemas.Event) error
	Quarantine(ctx context.Context, claims *verify.Claims, d *publish.Delivery, reason, contentType string, body []byte) error
}

// Config of a [Handler].
type Config struct {
	// Path is where callbacks come in, with any path below it. Empty means
	// /callbacks. It starts with a slash and does not end with one.
	Path      string
	Verifier  Verifier  // required
	Publisher Publisher // required
	// MaxInFlight bounds the verified callbacks under way; others get 503.
	// Zero means 512. Each holds at most MaxBody bytes.
	MaxInFlight int
	// MaxConnections bounds the connections of [Handler.Bound]. Zero means 2048.
	MaxConnections int

	// CallbackKeys are the secrets of which the callback URL must have one in
	// its query, as [KeyParameter]. None means that none is asked for.
	CallbackKeys []CallbackKey
	// SourceRanges are the networks that callbacks may come from. None means
	// all.
	SourceRanges []netip.Prefix
	// TrustedProxies are the networks of proxies whose X-Forwarded-For is
	// believed. None means that the peer is the client.
	TrustedProxies []netip.Prefix

	Logger     *slog.Logger          // nil means silence
	Registerer prometheus.Registerer // nil means no metrics
}

// Handler answers callbacks. See the package comment.
type Handler struct {
	config   Config
	metrics  *metrics
	quiet    quiet // for errors of ours, which come in floods
	patience patience
	sources  sources
	keys     verify.SharedKeys // of callbacks
	refusals refusals
	inFlight atomic.Int64
	draining atomic.Bool

	quarantine  quarantineBuckets
	connections atomic.Int64
}

// New returns a handler.
func New(config Config) (*Handler, error) {
	if config.Path == "" {
		config.Path = DefaultPath
	}
	if !strings.HasPrefix(config.Path, "/") || strings.HasSuffix(config.Path, "/") || !plainPath(config.Path) {
		return nil, fmt.Errorf("callback path %q: must start with a slash, not end with one, and need no escapes", config.Path)
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
	h := &Handler{
		config: config, metrics: newMetrics(), keys: keys,
		sources: sources{ranges: config.SourceRanges, proxies: config.TrustedProxies},
	}
	h.metrics.register(config.Registerer, h)
	return h, nil
}

// Drain makes the handler answer new callbacks with 503, so that the sender
// brings them to another bridge.
func (h *Handler) Drain() { h.draining.Store(true) }

// ServeHTTP answers one callback.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := callback{handler: h, w: w, r: r, received: time.Now(), route: routeOther}
	defer c.recoverPanic()
	c.answer(c.handle())
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
	events   int
	answered bool
	hangUp   bool // the connection is closed, also one of HTTP/2
}

// handle takes the steps of the package comment. Its error decides the answer.
func (c *callback) handle() error {
	h, r := c.handler, c.r
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

	if h.inFlight.Add(1) > int64(h.config.MaxInFlight) {
		h.inFlight.Add(-1)
		return errBusy
	}
	defer h.inFlight.Add(-1)
	contentType, err := mediaType(r.Header)
	if err != nil {
		return err
	}
	body, err := c.readBody()
	if err != nil {
		return err
	}
	if err := h.config.Verifier.CheckReuse(claims, body); err != nil {
		return err
	}
	return c.publish(claims, below, contentType, body)
}

// authenticate returns the claims of the request's token. A client of whose
// tokens too many were refused is not listened to, and nobody without the key of
// the callback URL is.
func (c *callback) authenticate() (*verify.Claims, error) {
	h := c.handler
	if h.refusals.held.Load() > 0 && h.refusals.exhausted(h.sources.client(c.r), c.received) {
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
	claims, err := h.config.Verifier.VerifyBearer(c.r.Context(), c.r.Header["Authorization"])
	if err != nil && chargeable(err) {
		h.refusals.charge(h.sources.client(c.r), c.received)
	}
	return claims, err
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
	ctx := c.handler.patience.from(c.received)
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make delivery id: %w", err)
	}
	delivery := &publish.Delivery{
		ID: id, ReceivedAt: c.received,
		Path: below, Query: c.query,
		Traceparent: traceparent(c.r.Header),
	}
	events, err := decodeRequest(c.r.Header, contentType, body)
	var bad *malformedError
	if errors.As(err, &bad) {
		c.handler.metrics.malformed.WithLabelValues(string(bad.reason)).Inc()
		if !c.handler.quarantine.allow(c.resource, len(body), c.received) {
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
	return c.handler.config.Publisher.Publish(ctx, claims, delivery, events)
}

// route returns what the path has below the callback path, still escaped.
func (h *Handler) route(r *http.Request) (below string, err error) {
	path := r.URL.EscapedPath()
	below, ok := strings.CutPrefix(path, h.config.Path)
	if !ok || (below != "" && below[0] != '/') || !plainPath(path) {
		return "", errNotFound
	}
	return strings.TrimPrefix(below, "/"), nil
}

// plainPath reports whether a path means the same to every proxy: no encoded
// slash, backslash or NUL, and no step up.
func plainPath(path string) bool {
	lower := strings.ToLower(path)
	for _, bad := range []string{"%2f", "%5c", "%00", "%2e", "\\"} {
		if strings.Contains(lower, bad) {
			return false
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == ".." || segment == "." {
			return false
		}
	}
	return true
}

// usualType needs no parsing.
const usualType = "application/json; charset=utf-8"

// mediaType returns the media type of the body, empty when the request names
// none. Only JSON in its CloudEvents forms is taken, in UTF-8, uncompressed.
func mediaType(h http.Header) (string, error) {
	for _, encoding := range h["Content-Encoding"] {
		if encoding != "" && !strings.EqualFold(encoding, "identity") {
			return "", errMediaType
		}
	}
	values := h["Content-Type"]
	if len(values) == 0 || (len(values) == 1 && values[0] == "") {
		return "", nil
	}
	if values[0] == usualType && len(values) == 1 {
		return "application/json", nil
	}
	name, params, err := mime.ParseMediaType(values[0])
	if err != nil || len(values) > 1 {
		return "", errMediaType
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return "", errMediaType
	}
	switch name {
	case "application/json", schemas.ContentTypeEvent, "application/cloudevents-batch+json":
		return name, nil
	}
	return "", errMediaType
}

// readBody reads the body within its bound. A length that is announced too
// large is refused before anything is read.
func (c *callback) readBody() ([]byte, error) {
	if c.r.ContentLength > MaxBody {
		return nil, errTooLarge
	}
	var body []byte
	var err error
	if n := c.r.ContentLength; n >= 0 {
		body = make([]byte, n) // net/http reads no more than was announced
		_, err = io.ReadFull(c.r.Body, body)
	} else {
		body, err = io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, MaxBody))
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, errTooLarge
	case err != nil:
		return nil, errIncomplete
	}
	return body, nil
}

// traceparent returns the request's trace context when it is well formed (W3C
// Trace Context level 1, section 3.2.2).
func traceparent(h http.Header) string {
	v := h.Get("Traceparent")
	if len(v) != 55 || v[2] != '-' || v[35] != '-' || v[52] != '-' {
		return ""
	}
	for i := range len(v) {
		if c := v[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return ""
		}
	}
	if strings.Count(v, "-") != 3 || v[:2] == "ff" {
		return ""
	}
	return v
}
