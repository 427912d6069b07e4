package replay

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go"

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
