package ingest

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/verify"
)

// Refusals that concern the request itself.
var (
	errNotFound   = errors.New("no such path")
	errMethod     = errors.New("the method is not taken there")
	errMediaType  = errors.New("media type or encoding is not taken")
	errTooLarge   = errors.New("body is too large")
	errIncomplete = errors.New("body ended early")
	errBusy       = errors.New("too many callbacks under way")
	errDraining   = errors.New("shutting down")

	errSource         = errors.New("the sender's address is in no source range")
	errCallbackKey    = errors.New("the callback URL has no good key")
	errGridKey        = errors.New("the URL of event grid's delivery has no good key")
	errRefusedClient  = errors.New("too many tokens of this client were refused")
	errQuarantineRate = errors.New("too many malformed callbacks of this resource")
)

// retryAfter is what 503 asks of the sender, in seconds. ACS's own schedule is
// unpublished; Event Grid's begins at 10 s.
const retryAfter = "5"

// status turns an error into an answer and a reason for log and metric. It is
// the only place where that is decided. An error that nobody has classified is
// ours, so it is 503.
func status(err error) (code int, reason string) {
	if err == nil {
		return http.StatusOK, "ok"
	}
	return statusOf(err)
}

func statusOf(err error) (code int, reason string) {
	var refused *verify.RefusedError
	var bad *malformedError
	switch {
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
		return http.StatusServiceUnavailable, "draining"
	case errors.Is(err, errIncomplete), errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable, reasonIncomplete
	}
	return http.StatusServiceUnavailable, "internal"
}

// answer writes the answer, counts it and logs one line.
func (c *callback) answer(err error) {
	code, reason := status(err)
	c.write(code)
	took := time.Since(c.received)
	c.handler.metrics.answer(c.route, code, took)
	if turnsAway(reason) {
		c.handler.metrics.turnedAway.WithLabelValues(reason).Inc()
	}
	c.record(err, code, reason)
	c.log(err, code, reason, took)
}

func (c *callback) write(code int) {
	c.answered = true
	header := c.w.Header()
	switch code {
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	case http.StatusMethodNotAllowed:
		header.Set("Allow", allowed(c.route))
	case http.StatusServiceUnavailable:
		header.Set("Retry-After", retryAfter)
	}
	// What follows a refused request, or one framed by Transfer-Encoding, may
	// be something that a proxy took for its body. HTTP/2 has no such doubt.
	http1, unread := c.r.ProtoMajor == 1, c.unread()
	if http1 && (code != http.StatusOK || len(c.r.TransferEncoding) > 0 || unread || c.route == routeLivez || c.handler.stopping.Load()) || c.hangUp {
		header.Set("Connection", "close") // over HTTP/2: GOAWAY
	}
	if http1 && unread {
		c.cutOff() // net/http reads no more of it; countedConn throws it away
	}
	if code == http.StatusOK && c.reply != nil {
		header.Set("Content-Type", "application/json")
		c.w.WriteHeader(code)
		_, _ = c.reply.WriteTo(c.w) // who hangs up asks again
		return
	}
	c.w.WriteHeader(code)
}

// unread reports whether there is a body that was not read to its end.
func (c *callback) unread() bool { return c.r.ContentLength != 0 && !c.whole }

// discard takes the rest of a body that comes over HTTP/2, once the answer has been
// sent. Else net/http would reset the stream without an error, as RFC 9113, section
// 8.1 has it, on which some proxies drop the answer: HAProxy 2.6 does. For HTTP/1
// see [countedConn.Close].
func (c *callback) discard() {
	if c.r.ProtoMajor == 1 || !c.unread() {
		return
	}
	stream := http.NewResponseController(c.w)
	if stream.Flush() == nil {
		c.handler.lingering.discard(c.r.Body, stream.SetReadDeadline)
	}
}

// allowed names the methods of a route.
func allowed(route string) string {
	switch route {
	case routeEventGrid:
		return "OPTIONS, POST"
	case routeLivez:
		return "GET, HEAD"
	}
	return http.MethodPost
}

// log writes at most one line, without anything that the sender chose. The
// sender's faults are for debugging; ours are errors.
func (c *callback) log(err error, code int, reason string, took time.Duration) {
	logger, level, held := c.handler.config.Logger, slog.LevelDebug, 0
	ours := code >= 500 && reason != "draining" && reason != reasonIncomplete && reason != reasonRefusedClient
	if ours {
		level = slog.LevelError
		var ok bool
		if ok, held = c.handler.failures.Allow(time.Now()); !ok {
			return
		}
	}
	ctx := context.Background()
	if !logger.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("route", c.route), slog.Int("status", code), slog.String("reason", reason),
		slog.Int("events", c.events), slog.Float64("duration_seconds", took.Seconds()),
	}
	if logger.Enabled(ctx, slog.LevelDebug) { // the addresses show what --trusted-proxy comes to
		attrs = append(attrs, slog.String("client", addressText(c.handler.sources.client(c.r))), slog.String("peer", addressText(parseAddress(c.r.RemoteAddr))))
	}
	if c.resource != "" {
		attrs = append(attrs, slog.String("resource", c.resource))
	}
	if ours {
		attrs = append(attrs, slog.Any("error", err), slog.Int("suppressed", held))
	}
	logger.LogAttrs(ctx, level, "callback", attrs...)
}

// recoverPanic turns a fault of ours into 500 and closes the connection. The
// stack names functions, not values.
func (c *callback) recoverPanic() {
	p := recover()
	if p == nil {
		return
	}
	c.handler.metrics.panics.Inc()
	c.handler.panics.Log(c.handler.config.Logger, slog.LevelError, "panic in a handler", slog.String("stack", string(debug.Stack())))
	if c.answered {
		panic(http.ErrAbortHandler)
	}
	c.write(http.StatusInternalServerError)
	c.handler.metrics.answer(c.route, http.StatusInternalServerError, time.Since(c.received))
	c.discard()
}
