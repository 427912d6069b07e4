package ingest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/acsbridge/acsbridge/ingest/edge"
	"github.com/acsbridge/acsbridge/verify"
)

// ArrivalHeader carries the nonce of a request of "acsbridge check". The same nonce is
// its bearer token, so that the request is recognised when a proxy drops one of them.
const ArrivalHeader = "Acsbridge-Check"

const (
	// arrivalWithin is how long a nonce is good.
	arrivalWithin = time.Minute
	// maxExpected bounds the nonces that are good, and maxArrivals the requests that
	// are kept for each.
	maxExpected, maxArrivals = 16, 4
	// maxArrivalBody bounds what is read of a request, in bytes.
	maxArrivalBody = 64 << 10
)

// Arrival is how a request of "acsbridge check" came to the bridge, after all that is in
// front of it. It holds no secret: of the query and the body it has their SHA-256.
type Arrival struct {
	Method string `json:"method"`
	Path   string `json:"path"` // escaped, as it came
	// Route is where a request with that path goes: callbacks, eventgrid or other.
	Route         string `json:"route"`
	QueryHash     string `json:"queryHash"` // of the query without keys
	BodyHash      string `json:"bodyHash"`
	ContentType   string `json:"contentType"`
	Authorization string `json:"authorization"` // unchanged, missing or changed
	Origin        string `json:"origin"`        // of Event Grid's handshake
	KeyAsked      bool   `json:"keyAsked"`
	KeyGood       bool   `json:"keyGood"`
	Protocol      string `json:"protocol"`  // such as HTTP/1.1
	Peer          string `json:"peer"`      // address of the connection
	Client        string `json:"client"`    // address that limits and source ranges are for; empty when a trusted proxy sends it in another form
	Forwarded     bool   `json:"forwarded"` // it has an X-Forwarded-For
	Allowed       bool   `json:"allowed"`   // by the source ranges
}

// arrivals are the nonces that "acsbridge check" got, and the requests that came with
// them.
type arrivals struct {
	count atomic.Int32 // of nonces, so that other requests cost nothing
	mu    sync.Mutex
	known []expected // the oldest first
}

type expected struct {
	nonce string
	until time.Time
	came  []Arrival
}

// Expect returns a nonce with which requests are recognised for a minute. They are
// answered 200 and recorded; they are not callbacks, and nothing of them is stored.
func (h *Handler) Expect() (nonce string) {
	nonce = rand.Text()
	a := &h.arrivals
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) == maxExpected {
		a.known = a.known[1:]
	}
	a.known = append(a.known, expected{nonce: nonce, until: time.Now().Add(arrivalWithin)})
	a.count.Store(int32(len(a.known)))
	return nonce
}

// Arrivals returns the requests that came with a nonce.
func (h *Handler) Arrivals(nonce string) []Arrival {
	a := &h.arrivals
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := a.find(nonce); e != nil {
		return append([]Arrival{}, e.came...)
	}
	return nil
}

// find removes the nonces that are too old and returns the one that is asked for, nil
// when it is not known. The caller holds mu.
func (a *arrivals) find(nonce string) *expected {
	for len(a.known) > 0 && time.Now().After(a.known[0].until) {
		a.known = a.known[1:]
	}
	a.count.Store(int32(len(a.known)))
	for i := range a.known {
		if a.known[i].nonce == nonce {
			return &a.known[i]
		}
	}
	return nil
}

// recordArrival records a request of "acsbridge check" and reports whether it is one.
func (q *request) recordArrival() bool {
	h, r := q.handler, q.r
	if h.arrivals.count.Load() == 0 {
		return false
	}
	token, _ := verify.BearerToken(r.Header["Authorization"])
	for _, nonce := range []string{r.Header.Get(ArrivalHeader), token} {
		h.arrivals.mu.Lock()
		known := h.arrivals.find(nonce) != nil
		h.arrivals.mu.Unlock()
		if !known {
			continue
		}
		arrival := q.arrival(token == nonce)
		h.arrivals.mu.Lock()
		defer h.arrivals.mu.Unlock()
		if e := h.arrivals.find(nonce); e != nil && len(e.came) < maxArrivals {
			e.came = append(e.came, arrival)
		}
		return true
	}
	return false
}

// arrival describes the request.
func (q *request) arrival(authorized bool) Arrival {
	h, r := q.handler, q.r
	query, values := SplitKeys(r.URL.RawQuery)
	body, err := io.ReadAll(http.MaxBytesReader(q.w, r.Body, maxArrivalBody))
	q.bodyRead = err == nil
	a := Arrival{
		Method: r.Method, Path: r.URL.EscapedPath(), Route: routeOther, QueryHash: HashText(query), BodyHash: HashText(string(body)),
		ContentType: r.Header.Get("Content-Type"), Authorization: "changed", Origin: r.Header.Get("Webhook-Request-Origin"),
		Protocol: r.Proto, Forwarded: len(r.Header["X-Forwarded-For"]) > 0, Allowed: true,
	}
	switch {
	case authorized:
		a.Authorization = "unchanged"
	case len(r.Header["Authorization"]) == 0:
		a.Authorization = "missing"
	}
	keys := h.keys
	if _, ok := pathBelow(h.config.Path, a.Path); ok {
		a.Route, a.Allowed = routeCallbacks, h.addresses.Allow(r)
	} else if h.grid != nil && a.Path == h.grid.path {
		a.Route, keys = routeEventGrid, h.grid.keys
	}
	_, good := keys.Find(values)
	a.KeyAsked, a.KeyGood = keys.Asked(), good
	if client := h.addresses.Client(r); client.IsValid() {
		a.Client = client.String()
	}
	if peer := edge.ParseAddr(r.RemoteAddr); peer.IsValid() {
		a.Peer = peer.String()
	}
	return a
}

// HashText returns the SHA-256 of a text, in hexadecimal digits.
func HashText(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
