package acstest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/acsbridge/acsbridge/schemas"
)

// Kinds of callbacks that have a good token.
const (
	kindGood      = "good"
	kindDuplicate = "duplicate"
)

// Callback is the content of one POST, whose answer its bearer decides. A retry is the
// same callback with a new token.
type Callback struct {
	After  time.Duration // pause before it, counted from the answer to the one before
	Path   string        // below the target URL
	Query  string        // added to the target's, without the question mark
	Events []WireEvent   // at least one
	Bearer Bearer

	// Grid marks a delivery of Event Grid, which goes to the target of
	// [CallerOptions.EventGrid] and has no Path and Query.
	Grid bool

	// Duplicate marks events that were sent before.
	Duplicate bool

	body     []byte // replaces [Body] of Events
	bodyType string // media type of body, for Event Grid
}

// Callback returns a good callback with events of the call, for its callback URL; or a
// delivery of Event Grid when the first of them has a type of Event Grid.
func (c *SimCall) Callback(events ...WireEvent) Callback {
	return c.callback(defaultLeg, BearerGood, events...)
}

func (c *SimCall) callback(legName string, bearer Bearer, events ...WireEvent) Callback {
	if len(events) > 0 && byGrid(events[0].Type) {
		return Callback{Events: events, Bearer: bearer, Grid: true}
	}
	l := c.leg(legName)
	return Callback{Path: l.path, Query: l.query, Events: events, Bearer: bearer}
}

// Kind returns "good", "duplicate", or the name of the bad bearer.
func (d *Callback) Kind() string {
	switch {
	case d.Bearer != BearerGood:
		return string(d.Bearer)
	case d.Duplicate:
		return kindDuplicate
	}
	return kindGood
}

// eventType returns the short type of the first event.
func (d *Callback) eventType() string { return schemas.ShortType(d.Events[0].Type) }

// plain reports whether the callback is good and the first with its events.
func (d *Callback) plain() bool {
	return d.Bearer == BearerGood && !d.Duplicate
}

// duplicate returns a callback with the same events, right after the first.
func (d *Callback) duplicate() Callback {
	second := *d
	second.After, second.Duplicate = 0, true
	return second
}

// Bearer is the kind of token of a callback. The zero value is a good one; each of the
// others has one fault.
type Bearer string

// The bearers. Only [BearerGood] may be answered 200.
const (
	BearerGood          Bearer = ""
	BearerExpired       Bearer = "expired"        // ended an hour ago
	BearerForged        Bearer = "forged"         // known kid, signed by another key
	BearerWrongAudience Bearer = "wrong-audience" // for another resource
	BearerUnknownKid    Bearer = "unknown-kid"    // names a key that is not published
	BearerAlgNone       Bearer = "alg-none"       // not signed
	BearerAlgHMAC       Bearer = "alg-hmac"       // the public key used as a shared secret
	BearerDayLong       Bearer = "day-long"       // 24 h, as ACS gives to WebSockets
	BearerNoExpiry      Bearer = "no-expiry"      // without exp
	BearerWrongIssuer   Bearer = "wrong-issuer"   // in the name of another issuer
	BearerMalformed     Bearer = "malformed"      // not a JWT
	BearerMissing       Bearer = "missing"        // no Authorization header at all
)

// hostileBearers are all bearers but the good one.
var hostileBearers = []Bearer{
	BearerExpired, BearerForged, BearerWrongAudience, BearerUnknownKid,
	BearerAlgNone, BearerAlgHMAC, BearerDayLong, BearerNoExpiry, BearerWrongIssuer,
	BearerMalformed, BearerMissing,
}

// malformedToken is the token of [BearerMalformed].
const malformedToken = "not-a-token"

func (b Bearer) check() error {
	if b == BearerGood || slices.Contains(hostileBearers, b) {
		return nil
	}
	names := make([]string, 0, len(hostileBearers))
	for _, h := range hostileBearers {
		names = append(names, string(h))
	}
	return fmt.Errorf("unknown bearer %q (one of %s)", b, strings.Join(names, ", "))
}

// Want is the status that a callback with this bearer must get.
func (b Bearer) Want() int {
	if b == BearerGood {
		return http.StatusOK
	}
	return http.StatusUnauthorized
}

// accepts reports whether a status is right. A bridge that has just fetched keys cannot
// be certain about an unknown kid, so 503 is as right as 401.
func (b Bearer) accepts(status int) bool {
	return status == b.Want() || b == BearerUnknownKid && status == http.StatusServiceUnavailable
}

// token returns the spec of the token, for any bearer but [BearerMissing] and
// [BearerMalformed].
func (b Bearer) token(audience string) TokenSpec {
	spec := TokenSpec{Audience: audience}
	switch b {
	case BearerExpired:
		spec.Now = time.Now().Add(-time.Hour)
	case BearerForged:
		spec.Forge = ForgeKey
	case BearerWrongAudience:
		spec.Audience = uuid.NewString()
	case BearerUnknownKid:
		spec.Forge = ForgeUnknownKid
	case BearerAlgNone:
		spec.Forge = ForgeAlgNone
	case BearerAlgHMAC:
		spec.Forge = ForgeHMAC
	case BearerDayLong:
		spec.Lifetime = 24 * time.Hour
	case BearerNoExpiry:
		spec.Claims = map[string]any{"exp": nil}
	case BearerWrongIssuer:
		spec.Issuer = "https://issuer.example"
	}
	return spec
}

// sign returns the text of the token, empty for [BearerMissing].
func (b Bearer) sign(signer Signer, audience string) (string, error) {
	switch b {
	case BearerMissing:
		return "", nil
	case BearerMalformed:
		return malformedToken, nil
	}
	return signer.Sign(b.token(audience))
}
