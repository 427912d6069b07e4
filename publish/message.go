package publish

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

// Delivery is what the bridge knows of a callback, or of a delivery of Event
// Grid, besides token and body.
type Delivery struct {
	ID         uuid.UUID // version 7, one a callback
	ReceivedAt time.Time
	// Path is what the request's path has below the callback path, still
	// escaped, without the leading slash. Query is the raw query. Both are the
	// application's own context.
	Path, Query string
	// Traceparent is the request's W3C trace context. Empty when it had none
	// or it was malformed.
	Traceparent string
	// Grid is what Event Grid says of its delivery; nil for a callback.
	Grid *schemas.GridDelivery
}

// maxHeaders is how many headers a callback's message can have, for sizing.
const maxHeaders = 24

// cuttable are the headers that have a bound, which [schemas.HeaderTruncated] can
// name.
var cuttable = []string{
	schemas.HeaderEventID, schemas.HeaderEventSource, schemas.HeaderEventType,
	schemas.HeaderTokenIssuer, schemas.HeaderTokenAudience, schemas.HeaderTokenKeyID, schemas.HeaderTokenSubject,
	schemas.HeaderTokenID, schemas.HeaderTokenClaims, schemas.HeaderPath, schemas.HeaderQuery, schemas.HeaderTraceparent, schemas.HeaderContentType,
	schemas.HeaderGridSubscription, schemas.HeaderGridDeliveryCount, schemas.HeaderGridDataVersion, schemas.HeaderGridMetadataVersion,
}

// callbackHeaders returns what the messages of a callback have in common: what the
// token said, for consumers that check or audit, and what is known of the callback.
func callbackHeaders(c *verify.Claims, d *Delivery) schemas.Headers {
	h := schemas.Headers{List: make([]schemas.Header, 0, maxHeaders)}
	if c.HasToken() {
		date := func(name string, at time.Time, present bool) { // a NumericDate (RFC 7519, section 2)
			if present {
				h.Add(name, strconv.FormatInt(at.Unix(), 10))
			}
		}
		h.Text(schemas.HeaderTokenIssuer, c.Issuer())
		h.Text(schemas.HeaderTokenAudience, c.Audience())
		h.Text(schemas.HeaderTokenKeyID, c.KeyID())
		date(schemas.HeaderTokenExpires, c.ExpiresAt(), true)
		at, ok := c.IssuedAt()
		date(schemas.HeaderTokenIssuedAt, at, ok)
		at, ok = c.NotBefore()
		date(schemas.HeaderTokenNotBefore, at, ok)
		h.Text(schemas.HeaderTokenSubject, c.Subject())
		h.Text(schemas.HeaderTokenID, c.ID())
		if all, ok := schemas.HeaderJSON(c.JSON(), schemas.MaxHeaderClaims); ok {
			h.Add(schemas.HeaderTokenClaims, all)
		} else {
			h.Truncated = append(h.Truncated, schemas.HeaderTokenClaims)
		}
	}
	h.Add(schemas.HeaderResource, c.Resource())
	h.Add(schemas.HeaderReceivedAt, d.ReceivedAt.UTC().Format(time.RFC3339Nano))
	h.Add(schemas.HeaderDeliveryID, d.ID.String())
	h.Bounded(schemas.HeaderPath, d.Path, schemas.MaxHeaderValue, schemas.HeaderURL)
	h.Bounded(schemas.HeaderQuery, d.Query, schemas.MaxHeaderQuery, schemas.HeaderURL)
	h.Text(schemas.HeaderTraceparent, d.Traceparent)
	if g := d.Grid; g != nil {
		for _, said := range []schemas.Header{
			{Name: schemas.HeaderGridSubscription, Value: g.Subscription}, {Name: schemas.HeaderGridDeliveryCount, Value: g.Count},
			{Name: schemas.HeaderGridDataVersion, Value: g.DataVersion}, {Name: schemas.HeaderGridMetadataVersion, Value: g.MetadataVersion},
		} {
			h.Bounded(said.Name, said.Value, schemas.MaxHeaderGrid, schemas.HeaderValue)
		}
	}
	return h
}

// eventRecords turns a callback's events into records, in order.
func (o *Options) eventRecords(c *verify.Claims, d *Delivery, events []schemas.Inbound) []*record {
	// Claims and delivery are the same for every event of a callback.
	common := callbackHeaders(c, d)
	records := make([]*record, len(events))
	for i := range events {
		e := &events[i]
		h := common
		if i < len(events)-1 { // the last one needs no copy, and mostly it is the only one
			h = schemas.Headers{List: append(make([]schemas.Header, 0, maxHeaders), common.List...), Truncated: slices.Clone(common.Truncated)}
		}
		h.Event(e, o.Stream.Name, i, len(events), d.ReceivedAt)
		records[i] = &record{
			receivedAt: d.ReceivedAt.Round(0), // by the clock, as others know it
			stream:     o.Stream.Name,
			subject:    schemas.Subject(o.Stream.Prefix, c.Resource(), e),
			headers:    h.Finish(),
			payload:    e.Raw,
		}
	}
	return records
}

// quarantineRecord turns a verified callback whose body is not CloudEvents into a
// record: its body as received, with the reason. A repetition of the same body
// to the same resource has the same message id.
func (o *Options) quarantineRecord(c *verify.Claims, d *Delivery, reason, contentType string, body []byte) *record {
	h := callbackHeaders(c, d)
	h.Text(schemas.HeaderContentType, contentType)
	h.Add(schemas.HeaderMsgID, quarantineID(c.Resource(), contentType, body))
	h.Add(schemas.HeaderExpectedStream, schemas.QuarantineStream)
	h.Add(schemas.HeaderQuarantineReason, reason)
	return &record{
		receivedAt: d.ReceivedAt.Round(0),
		stream:     schemas.QuarantineStream,
		subject:    schemas.QuarantineSubject(c.Resource(), reason),
		headers:    h.Finish(),
		payload:    body,
	}
}

// quarantineID is the message id of a body in quarantine.
func quarantineID(resource, contentType string, body []byte) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s", resource, contentType, body))
	return hex.EncodeToString(sum[:])
}

// quarantined returns the record of an event as it is kept in quarantine: with
// its headers, and with the reason.
func (r *record) quarantined(reason string) *record {
	q := &record{
		receivedAt: r.receivedAt,
		stream:     schemas.QuarantineStream,
		subject:    schemas.QuarantineSubject(r.resource(), reason),
		headers:    make([]schemas.Header, 0, len(r.headers)+1),
		payload:    r.payload,
	}
	for _, h := range r.headers {
		switch h.Name {
		case schemas.HeaderMsgID:
			h.Value = quarantineID(r.resource(), r.contentType(), r.payload)
		case schemas.HeaderExpectedStream:
			h.Value = schemas.QuarantineStream
		}
		q.headers = append(q.headers, h)
	}
	q.headers = append(q.headers, schemas.Header{Name: schemas.HeaderQuarantineReason, Value: reason})
	return q
}
