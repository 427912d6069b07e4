package replay

import (
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
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
