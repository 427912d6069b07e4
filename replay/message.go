package replay

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/schemas"
)

// Message is one message as the stream holds it.
type Message struct {
	Stream   string
	Sequence uint64
	Time     time.Time // when the stream stored it
	Subject  string
	Header   nats.Header // as it was published
	Data     []byte      // as it was published

	missed *MissedError // what should have come before it
}

// Headers that a direct get adds to a message (ADR-31). They are the server's,
// about its answer, and no part of what was published.
const (
	headerPending = "Nats-Num-Pending"   // how many are left after this one
	headerLast    = "Nats-Last-Sequence" // the one before it in the answer, or 0
)

var answerHeaders = []string{
	jetstream.StreamHeader, jetstream.SubjectHeader, jetstream.SequenceHeader, jetstream.TimeStampHeaer,
	headerPending, headerLast,
}

// newMessage takes a message out of the answer that it came in.
func newMessage(stream string, raw *jetstream.RawStreamMsg) *Message {
	for _, name := range answerHeaders {
		raw.Header.Del(name)
	}
	return &Message{
		Stream: stream, Sequence: raw.Sequence, Time: raw.Time,
		Subject: raw.Subject, Header: raw.Header, Data: raw.Data,
	}
}

// call returns the call that a message belongs to as its subject has it, or ""
// for none.
func (m *Message) call() string {
	call := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	if call == schemas.NoCall {
		return ""
	}
	return call
}
