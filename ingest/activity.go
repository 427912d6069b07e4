package ingest

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/acsbridge/acsbridge/ingest/edge"
	"github.com/acsbridge/acsbridge/verify"
)

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
	_, values := splitKeys(q.r.URL.RawQuery)
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
	_, keys := splitKeys(q.r.URL.RawQuery)
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
