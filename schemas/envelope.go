package schemas

import (
	"reflect"
	"strings"
)

// Event is an event as the payload of a message holds it: a CloudEvent 1.0 in
// the JSON format, its data typed. Of an event in Event Grid's own schema, Source,
// Type and Time are its topic, eventType and eventTime. It is encoded as JSON that
// says the same as what it was decoded from: unknown members stay, in Rest. This
// holds for JSON as the bridge passes it on, in UTF-8 and without repeated names.
type Event struct {
	// Identifies the event together with source: a repeated delivery has both again.
	ID string `json:"id"`
	// Where the event is from, calling/callConnections/ and the callConnectionId mostly.
	Source string `json:"source" also:"topic"`
	// The event's type, Microsoft.Communication. and the name in the subject.
	Type string `json:"type" also:"eventType"`
	// What happened, as the type says.
	Data Data `json:"data"`
	// When it happened, by the service's clock.
	Time Timestamp `json:"time" also:"eventTime"`
	// Version of CloudEvents.
	SpecVersion string `json:"specversion"`
	// Media type of data.
	DataContentType string `json:"datacontenttype"`
	// What the event is about: mostly its source again; in Event Grid it names who calls whom.
	Subject string `json:"subject" pii:"identifier"`
	Rest    Rest   `json:"-"`
}

// Data is what an event tells: a pointer to one of this package's types, such as
// *[CallConnected], or *[Unknown].
type Data interface {
	// IDs returns the ids of the event's call; those that it lacks are empty.
	IDs() CallIDs
}

// Unknown is the data of a type that is not in the catalogue. What is not an
// [Operation]'s is in Rest.
type Unknown struct{ Operation }

// UnmarshalJSON decodes an event. Only what is no JSON object is an error. Data
// that is no object stays in Rest.
func (e *Event) UnmarshalJSON(document []byte) error {
	return e.decode(document, "")
}

// decode decodes an event whose type is assumed when it does not say it itself:
// one in Event Grid's own schema calls it eventType.
func (e *Event) decode(document []byte, assumed string) error {
	if err := decode(document, e); err != nil {
		return err
	}
	raw, there := e.Rest["data"]
	if !there {
		return nil
	}
	if e.Type != "" {
		assumed = e.Type
	}
	data := newData(assumed)
	if !fillObject(reflect.ValueOf(data).Elem(), raw) {
		return nil
	}
	e.Data = data
	if delete(e.Rest, "data"); len(e.Rest) == 0 {
		e.Rest = nil
	}
	return nil
}

// MarshalJSON encodes an event.
func (e Event) MarshalJSON() ([]byte, error) { return encode(e) }

// ParseData decodes the data of an event of a type, CallConnected or
// Microsoft.Communication.CallConnected. That of a type that the catalogue lacks
// becomes *[Unknown]. Only what is no JSON object is an error.
func ParseData(eventType string, document []byte) (Data, error) {
	data := newData(eventType)
	if err := decode(document, data); err != nil {
		return nil, err
	}
	return data, nil
}

func newData(eventType string) Data {
	if t := byName[strings.TrimPrefix(eventType, TypePrefix)]; t != nil {
		return t.NewData()
	}
	return new(Unknown)
}
