package publish

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
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

// headers collects the headers of a message within their bounds.
type headers struct {
	list      []header
	truncated []string
}

func (h *headers) add(name, value string) {
	h.list = append(h.list, header{name, value})
}

// bounded adds a value from outside, escaped and cut at limit bytes. An empty
// one is left out.
func (h *headers) bounded(name, value string, limit int, escape func(string, int) (string, bool)) {
	if value == "" {
		return
	}
	value, cut := escape(value, limit)
	if cut {
		h.truncated = append(h.truncated, name)
	}
	h.add(name, value)
}

func (h *headers) text(name, value string) {
	h.bounded(name, value, schemas.MaxHeaderValue, schemas.HeaderValue)
}

// callbackHeaders returns what the messages of a callback have in common: what the
// token said, for consumers that check or audit, and what is known of the callback.
func callbackHeaders(c *verify.Claims, d *Delivery) (h headers) {
	h.list = make([]header, 0, maxHeaders)
	if c.HasToken() {
		date := func(name string, at time.Time, present bool) { // a NumericDate (RFC 7519, section 2)
			if present {
				h.add(name, strconv.FormatInt(at.Unix(), 10))
			}
		}
		h.text(schemas.HeaderTokenIssuer, c.Issuer())
		h.text(schemas.HeaderTokenAudience, c.Audience())
		h.text(schemas.HeaderTokenKeyID, c.KeyID())
		date(schemas.HeaderTokenExpires, c.ExpiresAt(), true)
		at, ok := c.IssuedAt()
		date(schemas.HeaderTokenIssuedAt, at, ok)
		at, ok = c.NotBefore()
		date(schemas.HeaderTokenNotBefore, at, ok)
		h.text(schemas.HeaderTokenSubject, c.Subject())
		h.text(schemas.HeaderTokenID, c.ID())
		if all, ok := schemas.HeaderJSON(c.JSON(), schemas.MaxHeaderClaims); ok {
			h.add(schemas.HeaderTokenClaims, all)
		} else {
			h.truncated = append(h.truncated, schemas.HeaderTokenClaims)
		}
	}
	h.add(schemas.HeaderResource, c.Resource())
	h.add(schemas.HeaderReceivedAt, d.ReceivedAt.UTC().Format(time.RFC3339Nano))
	h.add(schemas.HeaderDeliveryID, d.ID.String())
	h.bounded(schemas.HeaderPath, d.Path, schemas.MaxHeaderValue, schemas.HeaderURL)
	h.bounded(schemas.HeaderQuery, d.Query, schemas.MaxHeaderQuery, schemas.HeaderURL)
	h.text(schemas.HeaderTraceparent, d.Traceparent)
	if g := d.Grid; g != nil {
		for _, said := range []header{
			{schemas.HeaderGridSubscription, g.Subscription}, {schemas.HeaderGridDeliveryCount, g.Count},
			{schemas.HeaderGridDataVersion, g.DataVersion}, {schemas.HeaderGridMetadataVersion, g.MetadataVersion},
		} {
			h.bounded(said.name, said.value, schemas.MaxHeaderGrid, schemas.HeaderValue)
		}
	}
	return h
}

// record returns the record with these headers, and the names of those that were cut.
func (h *headers) record(d *Delivery, stream, subject string, payload []byte) *record {
	if len(h.truncated) > 0 {
		h.add(schemas.HeaderTruncated, strings.Join(h.truncated, ","))
	}
	// The time is that of the clock, as others know it.
	return &record{receivedAt: d.ReceivedAt.Round(0), stream: stream, subject: subject, headers: h.list, payload: payload}
}

// eventRecords turns a callback's events into records, in order.
func (o *Options) eventRecords(c *verify.Claims, d *Delivery, events []schemas.Inbound) []*record {
	common := callbackHeaders(c, d)
	records := make([]*record, len(events))
	for i := range events {
		e := &events[i]
		h := common
		if i < len(events)-1 { // the last one needs no copy, and mostly it is the only one
			h = headers{list: append(make([]header, 0, maxHeaders), common.list...), truncated: slices.Clone(common.truncated)}
		}
		h.add(schemas.HeaderContentType, e.ContentType())
		h.add(schemas.HeaderMsgID, e.MsgID())
		h.add(schemas.HeaderExpectedStream, o.Stream.Name)
		h.text(schemas.HeaderEventID, e.ID)
		h.text(schemas.HeaderEventSource, e.Source)
		h.text(schemas.HeaderEventType, e.Type)
		at, _ := schemas.Timestamp(e.Time).RFC3339()
		h.text(schemas.HeaderEventTime, at)
		h.add(schemas.HeaderDeliveryIndex, strconv.Itoa(i)+"/"+strconv.Itoa(len(events)))
		if at, ends := e.Expires(d.ReceivedAt); ends {
			h.add(schemas.HeaderExpiresAt, at.UTC().Format(time.RFC3339Nano))
		}
		records[i] = h.record(d, o.Stream.Name, schemas.Subject(o.Stream.Prefix, c.Resource(), e), e.Raw)
	}
	return records
}

// quarantineRecord turns a verified callback whose body is not CloudEvents into a
// record: its body as received, with the reason. A repetition of the same body
// to the same resource has the same message id.
func (o *Options) quarantineRecord(c *verify.Claims, d *Delivery, reason, contentType string, body []byte) *record {
	h := callbackHeaders(c, d)
	h.text(schemas.HeaderContentType, contentType)
	h.add(schemas.HeaderMsgID, quarantineID(c.Resource(), contentType, body))
	h.add(schemas.HeaderExpectedStream, schemas.QuarantineStream)
	h.add(schemas.HeaderQuarantineReason, reason)
	return h.record(d, schemas.QuarantineStream, schemas.QuarantineSubject(c.Resource(), reason), body)
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
		headers:    make([]header, 0, len(r.headers)+1),
		payload:    r.payload,
	}
	for _, h := range r.headers {
		switch h.name {
		case schemas.HeaderMsgID:
			h.value = quarantineID(r.resource(), r.contentType(), r.payload)
		case schemas.HeaderExpectedStream:
			h.value = schemas.QuarantineStream
		}
		q.headers = append(q.headers, h)
	}
	q.headers = append(q.headers, header{schemas.HeaderQuarantineReason, reason})
	return q
}
