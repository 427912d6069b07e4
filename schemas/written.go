package schemas

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Header is one header of a message.
type Header struct{ Name, Value string }

// Headers collects the headers of a message that is written, within their bounds.
type Headers struct {
	List      []Header
	Truncated []string // names of those that were cut or left out at their bound
}

// Add adds a header of the bridge's own making.
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

// DeadLetter is one line of a dead-letter file, as JSON: a record that its stream can
// never take, and why. Of a record that cannot be read, only the first three are there.
type DeadLetter struct {
	Time       time.Time         `json:"time"` // when it was set aside
	Reason     string            `json:"reason"`
	Index      uint64            `json:"journalIndex"`
	ReceivedAt time.Time         `json:"receivedAt,omitzero"` // when its callback arrived
	Stream     string            `json:"stream,omitempty"`
	Subject    string            `json:"subject,omitempty"`
	Headers    map[string]string `json:"headers,omitempty"`
	Payload    []byte            `json:"payload,omitempty"` // base64
}
