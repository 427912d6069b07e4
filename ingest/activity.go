package ingest

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/acsbridge/acsbridge/verify"
)

// Activity is what came lately, for a person who looks at it.
type Activity struct {
	// When the last callback or delivery of Event Grid came, was stored, and was
	// refused. Zero means not since the start.
	LastCallback, LastStored, LastRefused time.Time
	// Refused are the refusals of the last [RecentRefusals], by route and reason.
	Refused []Refusals
}

// Activity returns what came lately.
func (h *Handler) Activity() Activity {
	return Activity{h.lastCallback.time(), h.lastStored.time(), h.lastRefused.time(), h.refused.recently()}
}

// lastTime is when something was last seen, in nanoseconds since 1970.
type lastTime struct{ atomic.Int64 }

func (l *lastTime) set(t time.Time)  { l.Store(t.UnixNano()) }
func (l *lastTime) seconds() float64 { return float64(l.Load()) / 1e9 }

func (l *lastTime) time() time.Time {
	if n := l.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

// issuers returns whose tokens may come on a route. A token may have come to the
// wrong one.
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

// record notes what became of a request, if it may have been a callback. The other
// answers 503 are not refusals: they are logged as errors.
func (c *callback) record(err error, code int, reason string) {
	if !c.concerns(code) {
		return
	}
	h := c.handler
	h.lastCallback.set(c.received)
	switch {
	case code == http.StatusOK && c.events > 0:
		h.lastStored.set(c.received)
	case code != http.StatusOK && code < 500, reason == reasonRefusedClient, errors.Is(err, errIncomplete):
		h.lastRefused.set(c.received)
		h.refused.add(refusalKind{c.route, reason}, code, c.cause(err), c.suspect(err, code))
	}
}

// concerns reports whether a request may have been a callback. On another path, or
// with another method than POST, only a request with a token or a good key may have
// been one: scanners ask for anything.
func (c *callback) concerns(code int) bool {
	switch code {
	case http.StatusNotFound:
		return c.r.Method == http.MethodPost && c.hasProof()
	case http.StatusForbidden:
		_, off := c.handler.route(c.r)
		return c.r.Method == http.MethodPost && (off == nil || c.hasProof())
	case http.StatusMethodNotAllowed:
		return c.hasProof()
	}
	return c.route == routeCallbacks || c.route == routeEventGrid
}

// hasProof reports whether a request has a bearer token, whatever it is worth, or
// a good key.
func (c *callback) hasProof() bool {
	_, values := splitKeys(c.r.URL.RawQuery)
	_, good := c.handler.keys.Find(values)
	if !good && c.handler.grid != nil {
		_, good = c.handler.grid.keys.Find(values)
	}
	return good || c.hasToken()
}

func (c *callback) hasToken() bool {
	_, err := verify.BearerToken(c.r.Header["Authorization"])
	var refused *verify.RefusedError
	return !errors.As(err, &refused) || refused.Reason != verify.MissingToken
}

// suspect returns the token of a request, to be looked at later, if it has one. A
// body is refused behind a good token only.
func (c *callback) suspect(err error, code int) *suspect {
	values := c.r.Header["Authorization"]
	body := code == http.StatusBadRequest || code == http.StatusRequestEntityTooLarge || code == http.StatusUnsupportedMediaType || errors.Is(err, errIncomplete)
	if body || len(values) != 1 || !c.hasToken() {
		return nil
	}
	client, _ := bucketOf(c.handler.sources.client(c.r))
	return &suspect{client: client, at: c.received, authorization: values[0], issuers: c.handler.issuers[c.route]}
}

// cause is the text of a refusal. It holds nothing that the sender chose.
func (c *callback) cause(err error) string {
	var refused *verify.RefusedError
	var bad *malformedError
	_, keys := splitKeys(c.r.URL.RawQuery)
	switch {
	case errors.As(err, &refused) && refused.Err != nil:
		return refused.Err.Error()
	case errors.As(err, &bad):
		return "a body behind a good token or key is not one that is taken"
	case errors.Is(err, errNotFound) && strings.HasPrefix(c.r.URL.EscapedPath(), c.handler.config.Path+"/"):
		return "the path below --callback-path has %2F, %5C, %2E, %00 or a step, which proxies read in different ways; in the query they are taken"
	case errors.Is(err, errNotFound):
		return "the path is neither --callback-path nor below it"
	case errors.Is(err, errSource) && !c.handler.sources.client(c.r).IsValid():
		return "a trusted proxy sends no X-Forwarded-For that ends with the client's address"
	case (errors.Is(err, errCallbackKey) || errors.Is(err, errGridKey)) && len(keys) == 0:
		return "the URL has no " + KeyParameter
	case (errors.Is(err, errCallbackKey) || errors.Is(err, errGridKey)) && len(keys) > 1:
		return "the URL has more than one " + KeyParameter
	}
	return err.Error()
}

func addressText(address netip.Addr) string {
	if !address.IsValid() {
		return "unknown"
	}
	return address.String()
}
