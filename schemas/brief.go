package schemas

import (
	"fmt"
	"strings"
)

// Brief says in a few words what an event tells besides its type. It leaves
// out everything that can be personal: who takes part, what was pressed or
// said, the message of a result, which can name a participant, and the
// application's own context. Empty when there is nothing to say.
func (e *Event) Brief() string {
	var words []string
	if r := e.Result(); r != nil {
		words = append(words, fmt.Sprintf("%d/%d", r.Code, r.SubCode))
	}
	switch d := e.Data.(type) {
	case *RecordingStateChanged:
		words = append(words, string(d.State))
	case *TeamsRecordingStateChanged:
		words = append(words, string(d.State))
	case *TeamsComplianceRecordingStateChanged:
		words = append(words, string(d.State))
	case *RecognizeCompleted:
		words = append(words, string(d.RecognitionType))
	case *ParticipantsUpdated:
		if n := len(d.Participants); n == 1 {
			words = append(words, "1 participant")
		} else {
			words = append(words, fmt.Sprintf("%d participants", n))
		}
		if d.SequenceNumber != nil {
			words = append(words, fmt.Sprintf("#%d", *d.SequenceNumber))
		}
	}
	return strings.TrimSpace(strings.Join(words, " "))
}

// Result returns how the operation ended that the event is about, nil when it
// does not say.
func (e *Event) Result() *ResultInformation {
	if data, ok := e.Data.(interface{ outcome() *ResultInformation }); ok {
		return data.outcome()
	}
	return nil
}

// OperationContext returns what the application gave with the request that the
// event answers: the application's own, and possibly personal.
func (e *Event) OperationContext() string {
	if data, ok := e.Data.(interface{ context() string }); ok {
		return data.context()
	}
	return ""
}
