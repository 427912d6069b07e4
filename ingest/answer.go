package ingest

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/acsbridge/acsbridge/ingest/edge"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/verify"
)

// Refusals that concern the request itself.
var (
	errNotFound       = errors.New("no such path")
	errMethod         = errors.New("the method is not allowed there")
	errMediaType      = errors.New("media type or encoding is not accepted")
	errTooLarge       = errors.New("body is too large")
	errIncomplete     = errors.New("body ended early")
	errBusy           = errors.New("too many callbacks in flight")
	errDraining       = errors.New("shutting down")
	errSource         = errors.New("the sender's address is in no source range")
	errCallbackKey    = errors.New("the callback URL has no good key")
	errGridKey        = errors.New("the URL of event grid's delivery has no good key")
	errRefusedClient  = errors.New("too many tokens of this client were refused")
	errQuarantineRate = errors.New("too many malformed callbacks of this resource")
)

// Reasons of answers, besides those of [verify.Reasons] and [Reasons].
const (
	reasonNotFound        = "not_found"
	reasonMethod          = "method"
	reasonTooLarge        = "too_large"
	reasonMediaType       = "media_type"
	reasonIncomplete      = "incomplete"
	reasonDraining        = "draining"
	reasonConnectionLimit = "connection_limit" // before there is a request

	// The limits of the edge: see [rejectReasons].
	reasonSource         = "source_range"
	reasonCallbackKey    = "callback_key"
	reasonGridKey        = "eventgrid_key"
	reasonRefusedClient  = "refused_client"
	reasonBusy           = "busy"
	reasonQuarantineRate = "quarantine_rate"
)

// retryAfter is what 503 asks of the sender, in seconds. ACS's own schedule is
// unpublished; Event Grid's begins at 10 s.
const retryAfter = "5"

// statusOf turns an error into a status code and a reason for log and metric. It is
// the only place that decides this. An unclassified error is ours, so it is 503.
func statusOf(err error) (code int, reason string) {
	var refused *verify.RefusedError
	var bad *malformedError
	switch {
	case err == nil:
		return http.StatusOK, "ok"
	case errors.As(err, &refused):
		return http.StatusUnauthorized, string(refused.Reason)
	case errors.As(err, &bad):
		return http.StatusBadRequest, string(bad.reason)
	case errors.Is(err, errSource):
		return http.StatusForbidden, reasonSource
	case errors.Is(err, errCallbackKey):
		return http.StatusUnauthorized, reasonCallbackKey
	case errors.Is(err, errGridKey):
		return http.StatusUnauthorized, reasonGridKey
	case errors.Is(err, errRefusedClient):
		return http.StatusServiceUnavailable, reasonRefusedClient
	case errors.Is(err, errQuarantineRate):
		return http.StatusServiceUnavailable, reasonQuarantineRate
	case errors.Is(err, errNotFound):
		return http.StatusNotFound, reasonNotFound
	case errors.Is(err, errMethod):
		return http.StatusMethodNotAllowed, reasonMethod
	case errors.Is(err, errTooLarge):
		return http.StatusRequestEntityTooLarge, reasonTooLarge
	case errors.Is(err, errMediaType):
		return http.StatusUnsupportedMediaType, reasonMediaType
	case errors.Is(err, verify.ErrNoKeys):
		return http.StatusServiceUnavailable, "keys_unavailable"
	case errors.Is(err, publish.ErrUnavailable):
		return http.StatusServiceUnavailable, "not_durable"
	case errors.Is(err, errBusy):
		return http.StatusServiceUnavailable, reasonBusy
	case errors.Is(err, errDraining):
		return http.StatusServiceUnavailable, reasonDraining
	case errors.Is(err, errIncomplete), errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable, reasonIncomplete
	}
	return http.StatusServiceUnavailable, "internal"
}

// answer writes the answer, counts it and logs one line.
func (q *request) answer(err error) {
	code, reason := statusOf(err)
	q.write(code)
	took := time.Since(q.received)
	q.count(code, reason, took)
	q.endTrace(code, reason)
	q.recordActivity(err, code, reason)
	q.log(err, code, reason, took)
	q.discardBody()
}

// write writes the answer. After a refused HTTP/1 request, or one framed by
// Transfer-Encoding, it closes the connection: what follows may be something that a
// proxy took for the body. HTTP/2 is not ambiguous in that way.
func (q *request) write(code int) {
	q.answered = true
	header := q.w.Header()
	switch code {
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	case http.StatusMethodNotAllowed:
		allow := map[string]string{routeEventGrid: "OPTIONS, POST", routeLivez: "GET, HEAD"}[q.route]
		if allow == "" {
			allow = http.MethodPost
		}
		header.Set("Allow", allow)
	case http.StatusServiceUnavailable:
		header.Set("Retry-After", retryAfter)
	}
	http1 := q.r.ProtoMajor == 1
	if q.closeConn || http1 && (code != http.StatusOK || len(q.r.TransferEncoding) > 0 || !q.bodyRead || q.route == routeLivez || q.handler.stopping.Load()) {
		header.Set("Connection", "close") // over HTTP/2: GOAWAY
	}
	if http1 && !q.bodyRead {
		edge.StopReading(q.w) // by net/http; the connection discards the rest when it is closed
	}
	if code == http.StatusOK && q.reply != nil {
		header.Set("Content-Type", "application/json")
		q.w.WriteHeader(code)
		_, _ = q.reply.WriteTo(q.w) // a sender that has gone asks again
		return
	}
	q.w.WriteHeader(code)
}

// discardBody discards the rest of a body that comes over HTTP/2, once the answer has
// been sent. Else net/http would reset the stream without an error, as RFC 9113,
// section 8.1 has it, on which some proxies drop the answer: HAProxy 2.6 does.
func (q *request) discardBody() {
	if q.r.ProtoMajor == 1 || q.bodyRead {
		return
	}
	stream := http.NewResponseController(q.w)
	if stream.Flush() == nil {
		q.handler.connections.Discard(q.r.Body, stream.SetReadDeadline)
	}
}

// count counts an answer.
func (q *request) count(code int, reason string, took time.Duration) {
	m, label := q.handler.metrics, strconv.Itoa(code)
	m.requests.WithLabelValues(q.route, label).Inc()
	if q.route == routeCallbacks || q.route == routeEventGrid {
		q.observe(m.duration.WithLabelValues(q.route, label), took)
	}
	if slices.Contains(rejectReasons, reason) {
		m.rejected.WithLabelValues(reason).Inc()
	}
}

// recordActivity records how a request was answered, if it may have been a callback.
func (q *request) recordActivity(err error, code int, reason string) {
	h, mayBeCallback := q.handler, q.route == routeCallbacks || q.route == routeEventGrid
	// On another path, or with another method than POST, it needs a token or a good
	// key for that: scanners request anything.
	switch code {
	case http.StatusNotFound:
		mayBeCallback = q.r.Method == http.MethodPost && q.hasCredentials()
	case http.StatusForbidden:
		_, onPath := pathBelow(h.config.Path, q.r.URL.EscapedPath())
		mayBeCallback = q.r.Method == http.MethodPost && (onPath || q.hasCredentials())
	case http.StatusMethodNotAllowed:
		mayBeCallback = q.hasCredentials()
	}
	if !mayBeCallback {
		return
	}
	h.lastCallback.Store(q.received.UnixNano())
	// An answer 503 is a refusal only when the sender is the cause; the others are
	// logged as errors.
	switch {
	case code == http.StatusOK && q.events > 0:
		h.lastStored.Store(q.received.UnixNano())
	case code != http.StatusOK && code < 500, reason == reasonRefusedClient, errors.Is(err, errIncomplete):
		h.lastRefused.Store(q.received.UnixNano())
		token := q.refusedToken(err, code)
		h.recentRefusals.add(Refused{At: q.received, Route: q.route, Reason: reason, Status: code}, h.addresses.Client(q.r), token)
		h.refusals.add(refusalKind{q.route, reason}, code, q.cause(err), token)
	}
}

// log writes at most one line, without anything that the sender chose. The
// sender's faults are for debugging; ours are errors.
func (q *request) log(err error, code int, reason string, took time.Duration) {
	h, ctx := q.handler, context.Background()
	logger, level, suppressed := h.config.Logger, slog.LevelDebug, 0
	ours := code >= 500 && reason != reasonDraining && reason != reasonIncomplete && reason != reasonRefusedClient
	if ours {
		level = slog.LevelError
		var ok bool
		if ok, suppressed = h.failures.Allow(time.Now()); !ok {
			return
		}
	}
	if !logger.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("route", q.route), slog.Int("status", code), slog.String("reason", reason),
		slog.Int("events", q.events), slog.Float64("duration_seconds", took.Seconds()),
	}
	if logger.Enabled(ctx, slog.LevelDebug) { // the addresses show what --trusted-proxy does
		for _, a := range []struct {
			name    string
			address netip.Addr
		}{{"client", h.addresses.Client(q.r)}, {"peer", edge.ParseAddr(q.r.RemoteAddr)}} {
			text := "unknown"
			if a.address.IsValid() {
				text = a.address.String()
			}
			attrs = append(attrs, slog.String(a.name, text))
		}
	}
	if q.resource != "" {
		attrs = append(attrs, slog.String("resource", q.resource))
	}
	if id, ok := q.traceID(); ok {
		attrs = append(attrs, slog.String("trace_id", id))
	}
	if ours {
		attrs = append(attrs, slog.Any("error", err), slog.Int("suppressed", suppressed))
	}
	logger.LogAttrs(ctx, level, "callback", attrs...)
}

// recoverPanic answers a fault of ours with 500 and closes the connection. The
// stack names functions, not values.
func (q *request) recoverPanic() {
	p := recover()
	if p == nil {
		return
	}
	h := q.handler
	h.metrics.panics.Inc()
	h.panics.Log(h.config.Logger, slog.LevelError, "panic in a handler", slog.String("stack", string(debug.Stack())))
	if q.answered {
		panic(http.ErrAbortHandler)
	}
	q.write(http.StatusInternalServerError)
	q.count(http.StatusInternalServerError, "", time.Since(q.received))
	q.endTrace(http.StatusInternalServerError, "panic")
	q.discardBody()
}

// Activity summarizes recent callbacks, for operators.
type Activity struct {
	// When the last callback or delivery of Event Grid came, was stored, and was
	// refused. Zero means not since the start.
	LastCallback, LastStored, LastRefused time.Time
	// Refused are the refusals of the last [RecentRefusals], by route and reason.
	Refused []Refusals
}

// Activity returns a summary of recent callbacks.
func (h *Handler) Activity() Activity {
	return Activity{h.lastCallback.time(), h.lastStored.time(), h.lastRefused.time(), h.refusals.recent()}
}

// lastTime is when something last happened, in nanoseconds since 1970.
type lastTime struct{ atomic.Int64 }

func (l *lastTime) seconds() float64 { return float64(l.Load()) / 1e9 }

func (l *lastTime) time() time.Time {
	if n := l.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

// issuers returns the issuers whose tokens may come on each route. A token may have
// been sent to the wrong route.
func (c *Config) issuers() map[string][]issuer {
	var callbacks, grid []issuer
	if v, ok := c.Verifier.(explainer); ok {
		callbacks = []issuer{{"ACS", v}}
	}
	if c.EventGrid != nil {
		if v, ok := c.EventGrid.Verifier.(explainer); ok {
			grid = []issuer{{"Microsoft Entra ID", v}}
		}
	}
	both := append(callbacks[:len(callbacks):len(callbacks)], grid...)
	return map[string][]issuer{routeCallbacks: both, routeOther: both, routeEventGrid: append(grid, callbacks...)}
}

// hasCredentials reports whether a request has a bearer token, good or not, or a good
// key.
func (q *request) hasCredentials() bool {
	_, values := SplitKeys(q.r.URL.RawQuery)
	_, good := q.handler.keys.Find(values)
	if !good && q.handler.grid != nil {
		_, good = q.handler.grid.keys.Find(values)
	}
	return good || q.hasToken()
}

func (q *request) hasToken() bool {
	_, err := verify.BearerToken(q.r.Header["Authorization"])
	var refused *verify.RefusedError
	return !errors.As(err, &refused) || refused.Reason != verify.MissingToken
}

// refusedToken returns the token of a refused request for the refusal log, nil when
// it has none or the token was good: a body is refused after a good token only.
func (q *request) refusedToken(err error, code int) *refusedToken {
	values := q.r.Header["Authorization"]
	body := code == http.StatusBadRequest || code == http.StatusRequestEntityTooLarge || code == http.StatusUnsupportedMediaType || errors.Is(err, errIncomplete)
	if body || len(values) != 1 || !q.hasToken() {
		return nil
	}
	client, _ := edge.LimitKey(q.handler.addresses.Client(q.r))
	return &refusedToken{client: client, at: q.received, authorization: values[0], issuers: q.handler.issuers[q.route]}
}

// cause is the text of a refusal, without anything that the sender chose.
func (q *request) cause(err error) string {
	var refused *verify.RefusedError
	var bad *malformedError
	_, keys := SplitKeys(q.r.URL.RawQuery)
	switch {
	case errors.As(err, &refused) && refused.Err != nil:
		return refused.Err.Error()
	case errors.As(err, &bad):
		return "the token or key was good, but the body is not accepted"
	case errors.Is(err, errNotFound) && strings.HasPrefix(q.r.URL.EscapedPath(), q.handler.config.Path+"/"):
		return "the path below --callback-path has %2F, %5C, %2E, %00 or a dot segment, which proxies read in different ways; in the query they are allowed"
	case errors.Is(err, errNotFound):
		return "the path is neither --callback-path nor below it"
	case errors.Is(err, errSource) && !q.handler.addresses.Client(q.r).IsValid():
		return "a trusted proxy sends no X-Forwarded-For that ends with the client's address"
	case (errors.Is(err, errCallbackKey) || errors.Is(err, errGridKey)) && len(keys) == 0:
		return "the URL has no " + KeyParameter
	case (errors.Is(err, errCallbackKey) || errors.Is(err, errGridKey)) && len(keys) > 1:
		return "the URL has more than one " + KeyParameter
	}
	return err.Error()
}
