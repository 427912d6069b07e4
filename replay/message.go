package replay

import (
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/schemas"
)

// StoredMessage is one message as the stream holds it.
type StoredMessage struct {
	Stream   string
	Sequence uint64
	Time     time.Time // when the stream stored it
	Subject  string
	Header   nats.Header // as it was published
	Data     []byte      // as it was published
}

// CallToken returns the token of the call in the subject, or "" for none.
func (m *StoredMessage) CallToken() string {
	call := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	if call == schemas.NoCall {
		return ""
	}
	return call
}

// ReceivedAt returns when the bridge received the callback; the stream may have
// stored it much later, after an outage.
func (m *StoredMessage) ReceivedAt() time.Time {
	if at, err := time.Parse(time.RFC3339Nano, m.Header.Get(schemas.HeaderReceivedAt)); err == nil {
		return at
	}
	return m.Time
}

// EventGrid reports whether Event Grid has delivered the event, and not ACS by a
// callback.
func (m *StoredMessage) EventGrid() bool {
	name := m.Header.Get(schemas.HeaderEventType)
	if name == "" {
		subject, _ := schemas.ParseSubject(m.Subject)
		name = subject.Type
	}
	known, ok := schemas.LookupType(name)
	return ok && known.Family == schemas.Grid || m.Header.Get(schemas.HeaderGridSubscription) != ""
}

// Truncated returns the names of the headers that were cut at their bound.
func (m *StoredMessage) Truncated() []string {
	return strings.FieldsFunc(m.Header.Get(schemas.HeaderTruncated), func(r rune) bool { return r == ',' || r == ' ' })
}

// TruncatedURL reports whether path or query of the original callback URL were cut
// at their bounds.
func (m *StoredMessage) TruncatedURL() bool {
	return slices.ContainsFunc(m.Truncated(), func(name string) bool { return slices.Contains(personalHeaders, name) })
}
