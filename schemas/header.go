package schemas

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Header names of a message. NATS headers are case-sensitive and keep their
// case (ADR-4), so consumers must spell them as here.
//
// A ce-specversion is deliberately not among them: the CloudEvents Go SDK takes it as
// the sign of binary mode and would read the whole event as its data.
const (
	HeaderContentType    = "content-type"         // media type of the payload
	HeaderMsgID          = "Nats-Msg-Id"          // identity of the event: JetStream finds duplicates by it
	HeaderExpectedStream = "Nats-Expected-Stream" // name of the stream

	HeaderEventID     = "ce-id"     // attribute of the event
	HeaderEventSource = "ce-source" // attribute of the event
	HeaderEventType   = "ce-type"   // attribute of the event
	HeaderEventTime   = "ce-time"   // attribute of the event, when present

	HeaderTokenIssuer    = "acs-token-iss"    // who issued the token
	HeaderTokenAudience  = "acs-token-aud"    // audience that picked the resource
	HeaderTokenKeyID     = "acs-token-kid"    // the key that signed it
	HeaderTokenExpires   = "acs-token-exp"    // when it expires, in seconds since 1970
	HeaderTokenIssuedAt  = "acs-token-iat"    // when it was issued, in seconds since 1970, when present
	HeaderTokenNotBefore = "acs-token-nbf"    // from when it is valid, in seconds since 1970, when present
	HeaderTokenSubject   = "acs-token-sub"    // subject of the token, when present
	HeaderTokenID        = "acs-token-jti"    // id of the token, when present
	HeaderTokenClaims    = "acs-token-claims" // all claims, a JSON object on one line

	HeaderResource      = "acs-resource"       // the resource, as in the subject
	HeaderReceivedAt    = "acs-received-at"    // when the callback arrived: RFC 3339, UTC, nanoseconds
	HeaderDeliveryID    = "acs-delivery-id"    // UUIDv7 of the callback, which its events share
	HeaderDeliveryIndex = "acs-delivery-index" // index of the event in its callback, 0/3: first of three
	HeaderPath          = "acs-path"           // path of the callback URL below the callback path, escaped
	HeaderQuery         = "acs-query"          // query of the callback URL, escaped, without the question mark
	HeaderTraceparent   = "traceparent"        // W3C trace context of the request, level 1

	HeaderGridSubscription    = "acs-eventgrid-subscription"     // of Event Grid: name of the subscription
	HeaderGridDeliveryCount   = "acs-eventgrid-delivery-count"   // of Event Grid: number of the attempt, as it counts
	HeaderGridDataVersion     = "acs-eventgrid-data-version"     // of Event Grid: version of the event's data
	HeaderGridMetadataVersion = "acs-eventgrid-metadata-version" // of Event Grid: version of its own schema

	HeaderExpiresAt = "acs-expires-at" // when an incoming call stops ringing: RFC 3339, UTC
	HeaderTTL       = "Nats-TTL"       // seconds until the stream removes the message, where it allows that (ADR-43)

	// HeaderTruncated names, separated by commas, the headers that were cut at
	// their bound, and acs-token-claims when it was left out for its size.
	HeaderTruncated = "acs-truncated"

	// HeaderQuarantineReason says why a message is in quarantine.
	HeaderQuarantineReason = "acs-quarantine-reason"

	HeaderReplayID     = "acs-replay-id"     // of a copy: one for all copies of a replay
	HeaderReplayOf     = "acs-replay-of"     // of a copy: "<stream>/<sequence>" of the original
	HeaderReplayAt     = "acs-replay-at"     // of a copy: when it was sent: RFC 3339, UTC, nanoseconds
	HeaderRedrivenFrom = "acs-redriven-from" // of an event that was in quarantine: "<stream>/<sequence>" there

	HeaderDeadReason   = "acs-dead-reason"   // of a service's dead letter: permanent, attempts, age, queue_full or too_many_parked
	HeaderDeadError    = "acs-dead-error"    // of a service's dead letter: what its handler returned last, escaped
	HeaderDeadAttempts = "acs-dead-attempts" // of a service's dead letter: how often the handler got it
	HeaderDeadOrigin   = "acs-dead-origin"   // of a service's dead letter: "<stream>/<sequence>" of the event, or the id of the wait of a timeout
	HeaderDeadSubject  = "acs-dead-subject"  // of a service's dead letter: subject of the event
	HeaderDeadMsgID    = "acs-dead-msg-id"   // of a service's dead letter: Nats-Msg-Id of the event
	HeaderDeadAt       = "acs-dead-at"       // of a service's dead letter: when it became one: RFC 3339, UTC, nanoseconds
)

// Bounds of header values, in bytes after escaping. Together they stay below
// 8 KiB; the server's own limit is 64 kB for all headers of a message.
const (
	MaxHeaderValue  = 512
	MaxHeaderQuery  = 1024
	MaxHeaderClaims = 2048
	MaxHeaderGrid   = 128 // a subscription's name has 64 at most
)

const upperHex = "0123456789ABCDEF"

// HeaderValue returns s fit for a header: printable ASCII stays, everything
// else and '%' itself is percent-encoded byte by byte, so that no value can
// end a header line or start another. A value longer than limit bytes is cut
// before the character that would pass it, and cut reports so.
func HeaderValue(s string, limit int) (value string, cut bool) {
	return headerValue(s, limit, false)
}

// HeaderURL is [HeaderValue] for a path or query as it was requested: its own
// percent-encoding stays as it is, so that a consumer decodes only once.
func HeaderURL(s string, limit int) (value string, cut bool) {
	return headerValue(s, limit, true)
}

func headerValue(s string, limit int, keepPercent bool) (value string, cut bool) {
	if len(s) <= limit && plain(s, keepPercent) {
		return s, false
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		n := 1
		if s[i] >= utf8.RuneSelf {
			_, n = utf8.DecodeRuneInString(s[i:])
		}
		escaped := escape(s[i:i+n], keepPercent)
		if b.Len()+len(escaped) > limit {
			return b.String(), true
		}
		b.WriteString(escaped)
		i += n
	}
	return b.String(), false
}

// plain reports whether s needs no escaping. A space counts as plain inside a
// value only: NATS clients trim values.
func plain(s string, keepPercent bool) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || (s[i] == '%' && !keepPercent) {
			return false
		}
	}
	return s == "" || (s[0] != ' ' && s[len(s)-1] != ' ')
}

// escape percent-encodes one character, unless a header may have it unescaped.
func escape(char string, keepPercent bool) string {
	if len(char) == 1 && char[0] > ' ' && char[0] <= '~' && (char[0] != '%' || keepPercent) {
		return char
	}
	out := make([]byte, 0, 3*len(char))
	for i := range len(char) {
		out = append(out, '%', upperHex[char[i]>>4], upperHex[char[i]&15])
	}
	return string(out)
}

// HeaderJSON returns a JSON document fit for a header: on one line, with
// everything outside printable ASCII written as \u escapes, so that it still
// parses. raw must be valid JSON. Not ok when the result is longer than limit
// bytes: half a document cannot be parsed.
func HeaderJSON(raw []byte, limit int) (value string, ok bool) {
	if value := string(raw); plain(value, true) {
		return value, len(value) <= limit
	}
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		return "", false
	}
	var b strings.Builder
	for _, r := range line.String() {
		switch {
		case r >= ' ' && r <= '~':
			b.WriteRune(r)
		case r > 0xFFFF:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xD800+(r>>10), 0xDC00+(r&0x3FF))
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		if b.Len() > limit {
			return "", false
		}
	}
	return b.String(), true
}

// Header is one header of a message.
type Header struct{ Name, Value string }

// Headers collects the headers of a message that is written, within their bounds.
type Headers struct {
	List      []Header
	Truncated []string // names of those that were cut or left out at their bound
}

// Add adds a header whose value the bridge has made.
func (h *Headers) Add(name, value string) { h.List = append(h.List, Header{name, value}) }

// Text adds a value from outside as [HeaderValue] escapes it, within [MaxHeaderValue].
func (h *Headers) Text(name, value string) { h.Bounded(name, value, MaxHeaderValue, HeaderValue) }

// Bounded adds a value from outside, escaped and cut at limit bytes. An empty one is
// left out.
func (h *Headers) Bounded(name, value string, limit int, escape func(string, int) (string, bool)) {
	if value == "" {
		return
	}
	value, cut := escape(value, limit)
	if cut {
		h.Truncated = append(h.Truncated, name)
	}
	h.Add(name, value)
}

// Event adds the headers about an event: one for the stream of that name, at an index of
// the events of a callback that was received at a time.
func (h *Headers) Event(e *Inbound, stream string, index, count int, received time.Time) {
	h.Add(HeaderContentType, e.ContentType())
	h.Add(HeaderMsgID, e.MsgID())
	h.Add(HeaderExpectedStream, stream)
	h.Text(HeaderEventID, e.ID)
	h.Text(HeaderEventSource, e.Source)
	h.Text(HeaderEventType, e.Type)
	at, _ := Timestamp(e.Time).RFC3339()
	h.Text(HeaderEventTime, at)
	h.Add(HeaderDeliveryIndex, strconv.Itoa(index)+"/"+strconv.Itoa(count))
	if at, ends := e.Expires(received); ends {
		h.Add(HeaderExpiresAt, at.UTC().Format(time.RFC3339Nano))
	}
}

// Finish returns the headers, with the names of those that were cut.
func (h *Headers) Finish() []Header {
	if len(h.Truncated) > 0 {
		h.Add(HeaderTruncated, strings.Join(h.Truncated, ","))
	}
	return h.List
}

// CallbackHeader reports whether a header is about the callback, and the same in the
// messages of all its events and in quarantine.
func CallbackHeader(name string) bool {
	return !strings.HasPrefix(name, "Nats-") && !strings.HasPrefix(name, "ce-") && !slices.Contains([]string{
		HeaderContentType, HeaderDeliveryIndex, HeaderExpiresAt, HeaderQuarantineReason, HeaderTruncated,
	}, name)
}
