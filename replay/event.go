package replay

import (
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/schemas"
)

// Event is what a message tells. Everything in it comes from outside.
type Event struct {
	schemas.Envelope

	Type     string // the last part of it: CallConnected
	Resource string // as in the subject
	// Call is the callConnectionId. Without one it is what the subject has in its
	// place: the correlationId of an event of Event Grid, or [schemas.NoCall].
	Call   string
	IDs    schemas.Call
	Made   time.Time // when ACS made it; zero when it does not say
	People []string  // identifiers of those it is about: personal data
}

// Event reads the payload: a CloudEvent, or an event in Event Grid's own schema,
// whose attributes are in the headers. It fails for anything else.
func (m *Message) Event() (*Event, error) {
	e := &Event{}
	if parsed, err := schemas.Parse(m.Header, m.Data); err == nil {
		e.Envelope = parsed.Event
	} else if err := json.Unmarshal(m.Data, &e.Envelope); err != nil { // headers of somebody else
		return nil, err
	}
	attribute := func(have, header string) string {
		value, err := url.PathUnescape(m.Header.Get(header))
		if have != "" || err != nil {
			return have
		}
		return value
	}
	e.ID = attribute(e.ID, schemas.HeaderEventID)
	e.Source = attribute(e.Source, schemas.HeaderEventSource)
	e.Envelope.Type = attribute(e.Envelope.Type, schemas.HeaderEventType)
	e.Time = schemas.Timestamp(attribute(string(e.Time), schemas.HeaderEventTime))
	if e.ID == "" || e.Envelope.Type == "" {
		return nil, errors.New("the payload is no event")
	}
	e.Type = schemas.ShortType(e.Envelope.Type)
	e.IDs = e.Envelope.IDs()
	e.Call = e.IDs.CallConnectionID
	if tokens := strings.Split(m.Subject, "."); len(tokens) == 4 {
		e.Resource = tokens[1]
		if e.Call == "" {
			e.Call = tokens[3]
		}
	}
	e.Made, _ = e.Time.Time()
	for _, one := range e.people() {
		if one != nil && one.RawID != "" {
			e.People = append(e.People, one.RawID)
		}
	}
	return e, nil
}

// people are those that the event names.
func (e *Event) people() (list []*schemas.Identifier) {
	switch d := e.Data.(type) {
	case *schemas.ParticipantsUpdated:
		for i := range d.Participants {
			list = append(list, d.Participants[i].Identifier)
		}
	case *schemas.AddParticipantSucceeded:
		list = append(list, d.Participant)
	case *schemas.AddParticipantFailed:
		list = append(list, d.Participant)
	case *schemas.RemoveParticipantSucceeded:
		list = append(list, d.Participant)
	case *schemas.RemoveParticipantFailed:
		list = append(list, d.Participant)
	case *schemas.MoveParticipantSucceeded:
		list = append(list, d.Participant)
	case *schemas.MoveParticipantFailed:
		list = append(list, d.Participant)
	case *schemas.CallTransferAccepted:
		list = append(list, d.Transferee, d.TransferTarget)
	}
	return list
}

// Failed reports whether something did not work: by the name of the event, or
// by a code of its result that is an error in HTTP and in SIP. An invitation that
// was withdrawn has such a code (487), and has not failed.
func (e *Event) Failed() bool {
	switch {
	case strings.HasSuffix(e.Type, "Failed"):
		return true
	case strings.HasSuffix(e.Type, "Succeeded"), strings.HasSuffix(e.Type, "Canceled"):
		return false
	}
	result := e.Result()
	return result != nil && result.Code >= 400
}
