package resend

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/replay"
)

// DeadLetter is one line of the dead-letter file: a record that its stream could
// not take. The sequence of its message is the number that it had in the journal. A
// record that could not be read any more has neither subject nor data.
type DeadLetter struct {
	Message *replay.StoredMessage
	Reason  string
}

// CutOff is the reason of a letter that a bridge did not write whole. Its record was
// still in the journal, and was written again at the next start.
const CutOff = "cut_off"

// ParseDeadLetters reads a dead-letter file. Each letter is of the line at its
// index.
func ParseDeadLetters(file []byte) []*DeadLetter {
	var letters []*DeadLetter
	for line := range bytes.Lines(file) {
		var l struct {
			Time    time.Time         `json:"time"`
			Reason  string            `json:"reason"`
			Index   uint64            `json:"journalIndex"`
			Stream  string            `json:"stream"`
			Subject string            `json:"subject"`
			Headers map[string]string `json:"headers"`
			Payload []byte            `json:"payload"`
		}
		if json.Unmarshal(line, &l) != nil {
			letters = append(letters, &DeadLetter{Reason: CutOff, Message: &replay.StoredMessage{Header: nats.Header{}}})
			continue
		}
		m := &replay.StoredMessage{Stream: l.Stream, Sequence: l.Index, Time: l.Time, Subject: l.Subject, Header: nats.Header{}, Data: l.Payload}
		for name, value := range l.Headers {
			m.Header.Set(name, value)
		}
		letters = append(letters, &DeadLetter{Reason: l.Reason, Message: m})
	}
	return letters
}
