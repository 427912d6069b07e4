package ingest

import (
	"errors"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/acsbridge/acsbridge/schemas"
)

// gridValidation is what aeg-event-type says of a handshake, and
// gridValidationType the type of the event in it.
const (
	gridValidation     = "SubscriptionValidation"
	gridValidationType = "Microsoft.EventGrid.SubscriptionValidationEvent"
)

// maxGridCode bounds the code of a handshake in bytes; it is a GUID.
const maxGridCode = 512

// gridEvents reads a delivery of Event Grid: CloudEvents, or events in Event
// Grid's own schema.
type gridEvents struct {
	cloudEvents bool   // the media type says that all are CloudEvents
	handshake   bool   // one of them is a handshake's
	code        string // of the last such
}

// decodeGrid reads the body of a delivery, within the bounds of a callback's. A
// handshake must have one validation event, and other deliveries none: else a
// publisher of events could get a subscription validated. Errors are
// malformedErrors.
func decodeGrid(contentType string, handshake bool, body []byte) (events []schemas.Inbound, code string, err error) {
	g := gridEvents{cloudEvents: strings.HasPrefix(contentType, "application/cloudevents")}
	events, err = decode(body, g.decode)
	var bad *malformedError
	switch {
	case errors.As(err, &bad) && bad.reason == NotCloudEvents:
		return nil, "", &malformedError{NotEventGrid, bad.detail}
	case err != nil:
		return nil, "", err
	case handshake && (len(events) != 1 || g.code == "" || len(g.code) > maxGridCode):
		return nil, "", malformed(NotEventGrid, "the header says handshake, the body does not")
	case !handshake && g.handshake:
		return nil, "", malformed(NotEventGrid, "the body says handshake, the header does not")
	}
	return events, g.code, nil
}

// decode reads one event. The schemas have different names for the same things; an
// event with specversion is a CloudEvent and has the names of CloudEvents.
func (g *gridEvents) decode(d *jsontext.Decoder, body []byte, e *schemas.Inbound) error {
	if err := requireObject(d); err != nil {
		return err
	}
	var version, topic, eventType, eventTime, subject, code string
	e.Grid = &schemas.GridEvent{}
	start, end, err := readObject(d, func(name string) error {
		switch name {
		case "id":
			return readString(d, name, &e.ID)
		case "source":
			return readString(d, name, &e.Source)
		case "type":
			return readString(d, name, &e.Type)
		case "time":
			return readTime(d, &e.Time)
		case "specversion":
			return readString(d, name, &version)
		case "topic":
			return readString(d, name, &topic)
		case "eventType":
			return readString(d, name, &eventType)
		case "eventTime":
			return readTime(d, &eventTime)
		case "subject":
			if d.PeekKind() == '"' {
				return readString(d, name, &subject)
			}
		case "data":
			return readGridData(d, e.Grid, &code)
		}
		return d.SkipValue()
	})
	if err != nil {
		return err
	}
	e.Raw = body[start:end:end]
	if e.Grid.CorrelationID == "" {
		e.Grid.CorrelationID = schemas.SubjectIDs(subject).CorrelationID
	}
	if version != "" || g.cloudEvents {
		return checkEvent(e, version)
	}
	e.Grid.OwnSchema = true
	e.Source, e.Type, e.Time = topic, eventType, eventTime
	if e.ID == "" || topic == "" || eventType == "" {
		return malformed(NotEventGrid, "id, topic or eventType is missing, and specversion as well")
	}
	if eventType == gridValidationType {
		g.handshake, g.code = true, code
	}
	return nil
}

// readGridData finds the call's id and the code of a handshake. Data may be of
// any JSON type.
func readGridData(d *jsontext.Decoder, grid *schemas.GridEvent, code *string) error {
	if d.PeekKind() != '{' {
		return d.SkipValue()
	}
	_, _, err := readObject(d, func(name string) error {
		switch {
		case d.PeekKind() != '"':
		case name == "correlationId":
			return readString(d, name, &grid.CorrelationID)
		case name == "validationCode":
			return readString(d, name, code)
		}
		return d.SkipValue()
	})
	return err
}
