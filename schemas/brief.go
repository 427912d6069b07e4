package schemas

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Envelope is an event as a message's payload holds it (CloudEvents 1.0, JSON
// format), as far as a reader needs it to tell events apart.
type Envelope struct {
	ID      string `json:"id"`
	Source  string `json:"source"`
	Type    string `json:"type"`
	Time    string `json:"time"`
	Subject string `json:"subject"`
	Data    Data   `json:"data"`
}

// Data are the members of an event's data that say in short what happened.
// Every one is optional on the wire.
type Data struct {
	CallConnectionID  string             `json:"callConnectionId"`
	CorrelationID     string             `json:"correlationId"`
	ResultInformation *ResultInformation `json:"resultInformation"`
	SequenceNumber    *int               `json:"sequenceNumber"`
	Participants      []json.RawMessage  `json:"participants"` // personal data
	State             string             `json:"state"`        // of a recording
	RecognitionType   string             `json:"recognitionType"`
}

// ResultInformation is the outcome of an operation.
type ResultInformation struct {
	Code    int `json:"code"`    // like an HTTP or SIP status
	SubCode int `json:"subCode"` // finer, of ACS's own
}

// Brief says in a few words what an event tells besides its type. It leaves
// out everything that can be personal: who takes part, what was pressed or
// said, the message of a result, which can name a participant, and the
// application's own context. Empty when there is nothing to say.
func (e *Envelope) Brief() string {
	var words []string
	d := &e.Data
	if r := d.ResultInformation; r != nil {
		words = append(words, fmt.Sprintf("%d/%d", r.Code, r.SubCode))
	}
	if d.State != "" {
		words = append(words, d.State)
	}
	if d.RecognitionType != "" {
		words = append(words, d.RecognitionType)
	}
	if d.Participants != nil {
		words = append(words, fmt.Sprintf("%d participants", len(d.Participants)))
	}
	if d.SequenceNumber != nil {
		words = append(words, fmt.Sprintf("#%d", *d.SequenceNumber))
	}
	return strings.Join(words, " ")
}
