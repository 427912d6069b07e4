package schemas

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Message is one message of the stream as a consumer reads it.
type Message struct {
	Event    Event
	Claims   Claims
	Delivery Delivery
}

// Claims are what the token said that the event came with. The bridge has
// verified them. Times are zero and texts empty where the token had none.
type Claims struct {
	Issuer    string
	Audience  string // the one that picked the resource
	KeyID     string // the key that signed the token
	Subject   string
	ID        string
	ExpiresAt time.Time
	IssuedAt  time.Time
	NotBefore time.Time
	// All holds all claims as a JSON object. Nil when they were too large.
	All json.RawMessage
}

// Delivery is how the event came to the bridge.
type Delivery struct {
	MsgID      string // the id by which JetStream finds duplicates
	Resource   string // whose token it was, by the bridge's configuration
	ReceivedAt time.Time
	ID         string // of the callback, a UUID of version 7
	Index      int    // the event's place in its callback, from 0
	Count      int    // events in that callback
	// Path and Query are what the callback URL had below the bridge's path: the
	// application's own context, still escaped.
	Path, Query string
	Traceparent string   // W3C trace context
	Truncated   []string // headers that were cut or left out at their bound

	// ReplayID and ReplayOf are those of a copy that acsbridge replay has sent: of the
	// replay, and of the original, "<stream>/<sequence>".
	ReplayID, ReplayOf string

	// ExpiresAt is when an incoming call stops ringing. Zero for others.
	ExpiresAt time.Time
	// EventGrid is what Event Grid said of its delivery. Empty for a callback.
	EventGrid GridDelivery
}

// GridDelivery is what Event Grid says of a delivery, all of it optional.
// https://learn.microsoft.com/azure/event-grid/delivery-properties
type GridDelivery struct {
	Subscription    string // aeg-subscription-name
	Count           string // aeg-delivery-count: the attempt, as it counts
	DataVersion     string // aeg-data-version
	MetadataVersion string // aeg-metadata-version
}

// Parse reads a message of the stream: its headers, as NATS has them, and its
// payload, see [ParseEvent]. Types are an open set, and neither an unknown one nor
// data that deviates from its type is an error. A payload that is not a JSON object
// is one, and so is a header that the bridge cannot have written. Headers that are
// not there leave their fields empty.
func Parse(header map[string][]string, payload []byte) (*Message, error) {
	r := headerReader{header: header}
	m := &Message{Claims: r.claims(), Delivery: r.delivery()}
	if r.err != nil {
		return nil, fmt.Errorf("schemas: %w", r.err)
	}
	if err := m.Event.parse(payload, r.text(HeaderEventType)); err != nil {
		return nil, fmt.Errorf("%w in the message's payload", err)
	}
	return m, nil
}

// headerReader reads headers. The first error stays.
type headerReader struct {
	header map[string][]string
	err    error
}

func (r *headerReader) raw(name string) string {
	if values := r.header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

func (r *headerReader) fail(name string, err error) {
	if r.err == nil {
		r.err = fmt.Errorf("header %s: %w", name, err)
	}
}

// text undoes [HeaderValue].
func (r *headerReader) text(name string) string {
	value, err := url.PathUnescape(r.raw(name))
	if err != nil {
		r.fail(name, errors.New("malformed percent-encoding"))
	}
	return value
}

// date reads seconds since 1970.
func (r *headerReader) date(name string) time.Time {
	value := r.raw(name)
	if value == "" {
		return time.Time{}
	}
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		r.fail(name, errors.New("not a number of seconds"))
	}
	return time.Unix(seconds, 0).UTC()
}

// time reads a date of RFC 3339.
func (r *headerReader) time(name string) time.Time {
	value := r.raw(name)
	if value == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339Nano, value)
	if err != nil {
		r.fail(name, errors.New("not a date of RFC 3339"))
	}
	return at
}

func (r *headerReader) claims() Claims {
	c := Claims{
		Issuer:    r.text(HeaderTokenIssuer),
		Audience:  r.text(HeaderTokenAudience),
		KeyID:     r.text(HeaderTokenKeyID),
		Subject:   r.text(HeaderTokenSubject),
		ID:        r.text(HeaderTokenID),
		ExpiresAt: r.date(HeaderTokenExpires),
		IssuedAt:  r.date(HeaderTokenIssuedAt),
		NotBefore: r.date(HeaderTokenNotBefore),
	}
	if all := r.raw(HeaderTokenClaims); all != "" {
		c.All = json.RawMessage(all)
		if !json.Valid(c.All) {
			r.fail(HeaderTokenClaims, errors.New("not JSON"))
		}
	}
	return c
}

func (r *headerReader) delivery() Delivery {
	d := Delivery{
		EventGrid: GridDelivery{
			Subscription:    r.text(HeaderGridSubscription),
			Count:           r.text(HeaderGridDeliveryCount),
			DataVersion:     r.text(HeaderGridDataVersion),
			MetadataVersion: r.text(HeaderGridMetadataVersion),
		},
		MsgID:       r.raw(HeaderMsgID),
		Resource:    r.raw(HeaderResource),
		ID:          r.raw(HeaderDeliveryID),
		Path:        r.raw(HeaderPath),
		Query:       r.raw(HeaderQuery),
		Traceparent: r.raw(HeaderTraceparent),
		ReplayID:    r.raw(HeaderReplayID),
		ReplayOf:    r.raw(HeaderReplayOf),
	}
	d.ReceivedAt, d.ExpiresAt = r.time(HeaderReceivedAt), r.time(HeaderExpiresAt)
	if place := r.raw(HeaderDeliveryIndex); place != "" {
		index, count, _ := strings.Cut(place, "/")
		var errIndex, errCount error
		d.Index, errIndex = strconv.Atoi(index)
		d.Count, errCount = strconv.Atoi(count)
		if errIndex != nil || errCount != nil {
			r.fail(HeaderDeliveryIndex, errors.New("not in the form 0/1"))
		}
	}
	if names := r.raw(HeaderTruncated); names != "" {
		d.Truncated = strings.Split(names, ",")
	}
	return d
}

// DeadLetter is one line of a dead-letter file, as JSON: a record that its stream can
// never take, and why. Of a record that cannot be read, only the first three are there.
type DeadLetter struct {
	Time       time.Time         `json:"time"` // when it was written
	Reason     string            `json:"reason"`
	Index      uint64            `json:"journalIndex"`
	ReceivedAt time.Time         `json:"receivedAt,omitzero"` // when its callback arrived
	Stream     string            `json:"stream,omitempty"`
	Subject    string            `json:"subject,omitempty"`
	Headers    map[string]string `json:"headers,omitempty"`
	Payload    []byte            `json:"payload,omitempty"` // base64
}
