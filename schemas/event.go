package schemas

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Event is an event as the payload of a message holds it: a CloudEvent 1.0 in the
// JSON format, its data typed. Of an event in Event Grid's own schema, Source, Type
// and Time are its topic, eventType and eventTime. [Parse] and [ParseEvent] read one.
type Event struct {
	// Identifies the event together with source: a repeated delivery has both again.
	ID string `json:"id" pii:"link"`
	// Where the event is from, calling/callConnections/ and the callConnectionId mostly.
	Source string `json:"source" pii:"link"`
	// The event's type, Microsoft.Communication. and the name in the subject.
	Type string `json:"type"`
	// What happened, as the type says.
	Data Data `json:"data"`
	// When it happened, by the service's clock.
	Time Timestamp `json:"time"`
	// Version of CloudEvents.
	SpecVersion string `json:"specversion"`
	// Media type of data.
	DataContentType string `json:"datacontenttype"`
	// What the event is about: mostly its source again; in Event Grid it names who calls whom.
	Subject string `json:"subject" pii:"identifier"`
}

// Data is what an event says: a pointer to one of this package's types, such as
// *[CallConnected], or *[Unknown].
type Data interface {
	// IDs returns the ids of the event's call; those that it lacks are empty.
	IDs() CallIDs
}

// Unknown is the data of a type that is not in the catalogue.
type Unknown struct{ Operation }

// errNoObject reports JSON that is not an object where one must be.
var errNoObject = errors.New("schemas: not a JSON object")

// ParseEvent reads an event. Its data has the Go type of the event's type, or is
// *[Unknown]; data that is not an object is nil. Only what is not a JSON object is an
// error.
func ParseEvent(document []byte) (*Event, error) {
	e := new(Event)
	return e, e.parse(document, "")
}

// parse reads an event. Data of an event without a type is read as that of the
// assumed one.
func (e *Event) parse(document []byte, assumed string) error {
	wire := struct {
		*Event
		Data json.RawMessage `json:"data"`

		// Event Grid's own schema.
		Topic     string    `json:"topic"`
		EventType string    `json:"eventType"`
		EventTime Timestamp `json:"eventTime"`
	}{Event: e}
	if err := unmarshal(document, &wire); err != nil {
		return err
	}
	e.Source = cmp.Or(e.Source, wire.Topic)
	e.Type = cmp.Or(e.Type, wire.EventType)
	e.Time = cmp.Or(e.Time, wire.EventTime)
	if data, err := ParseData(cmp.Or(e.Type, assumed), wire.Data); err == nil {
		e.Data = data
	}
	return nil
}

// ParseData reads the data of an event of a type, CallConnected or
// Microsoft.Communication.CallConnected. That of a type that the catalogue lacks
// becomes *[Unknown]. Only what is not a JSON object is an error.
func ParseData(eventType string, document []byte) (Data, error) {
	data := Data(new(Unknown))
	if t := byName[strings.TrimPrefix(eventType, TypePrefix)]; t != nil {
		data = t.NewData()
	}
	if err := unmarshal(document, data); err != nil {
		return nil, err
	}
	if roster, ok := data.(*ParticipantsUpdated); ok {
		roster.readBareIdentifiers(document)
	}
	return data, nil
}

// unmarshal fills a struct from a JSON object. A member of another type than its
// field is not an error: encoding/json goes on with the next one, and the field stays
// zero, or points to a zero value. It would not go on after the error of an
// UnmarshalJSON or UnmarshalText, which is why no type here has one.
func unmarshal(document []byte, into any) error {
	err := json.Unmarshal(document, into)
	_, otherType := errors.AsType[*json.UnmarshalTypeError](err)
	if err != nil && !otherType || !bytes.HasPrefix(bytes.TrimLeft(document, " \t\r\n"), []byte("{")) {
		return errNoObject
	}
	return nil
}

// Brief says in a few words what an event says besides its type. It leaves out
// everything that can be personal: who takes part, what was pressed or said, the
// message of a result, which can name a participant, and the application's own
// context. Empty when there is nothing to say.
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
	data, ok := e.Data.(interface{ outcome() *ResultInformation })
	if !ok {
		return nil
	}
	if r := data.outcome(); r != nil && *r != (ResultInformation{}) {
		return r
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
