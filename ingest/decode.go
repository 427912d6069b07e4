package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/acsbridge/acsbridge/internal/bom"
	"github.com/acsbridge/acsbridge/schemas"
)

// Bounds of a callback. ACS sends one event of about 900 bytes; an event with
// 350 participants has about 100 KB.
const (
	// MaxBody is the size of a body in bytes.
	MaxBody = 256 << 10
	// MaxEvents is the number of events in a body.
	MaxEvents = 100
	// MaxDepth is how deep objects and arrays may nest, the outermost included.
	MaxDepth = 64
	// MaxTokens bounds the JSON tokens of a body: names, values, brackets.
	MaxTokens = 50_000
)

// Reason says why a body is quarantined. The set is closed: it is a metric label and
// the last token of a quarantine subject.
type Reason string

// Reasons for quarantine.
const (
	NotJSON         Reason = "not_json"         // syntax, or more than one document
	NotUTF8         Reason = "not_utf8"         // RFC 8259, section 8.1
	DuplicateMember Reason = "duplicate_member" // RFC 8259, section 4: parsers disagree
	TooDeep         Reason = "too_deep"         // more than MaxDepth levels
	TooManyTokens   Reason = "too_many_tokens"  // more than MaxTokens
	TooManyEvents   Reason = "too_many_events"  // more than MaxEvents
	NoEvents        Reason = "no_events"        // an empty array
	NotCloudEvents  Reason = "not_cloudevents"  // id, source or type missing, or another specversion
	NotEventGrid    Reason = "not_event_grid"   // the same of a delivery of Event Grid, or half a handshake
	UnknownSource   Reason = "unknown_source"   // a topic of Event Grid that is not configured
)

// Reasons lists the closed set.
func Reasons() []Reason {
	return []Reason{NotJSON, NotUTF8, DuplicateMember, TooDeep, TooManyTokens, TooManyEvents, NoEvents, NotCloudEvents, NotEventGrid, UnknownSource}
}

// malformedError reports a body that is quarantined. The text never quotes it.
type malformedError struct {
	reason Reason
	detail string // for the debug log: a position or an attribute's name
}

func (e *malformedError) Error() string { return string(e.reason) + ": " + e.detail }

func malformed(reason Reason, format string, args ...any) error {
	return &malformedError{reason, fmt.Sprintf(format, args...)}
}

// decoders keeps the decoders' own memory for the next body.
var decoders = sync.Pool{New: func() any { return new(jsontext.Decoder) }}

// Decode decodes a body like that of a callback, or of a delivery of Event Grid other
// than a handshake. The text of its errors begins with a [Reason] and does not quote
// the body.
func Decode(grid bool, contentType string, body []byte) ([]schemas.Inbound, error) {
	if !grid {
		return new(decoder).decode(body)
	}
	events, _, err := decodeGrid(contentType, false, body)
	return events, err
}

// decodeGrid reads the body of a delivery of Event Grid, within the bounds of a
// callback's. A handshake must have one validation event, and other deliveries none: else
// a publisher of events could get a subscription validated. Errors are malformedErrors.
func decodeGrid(contentType string, handshake bool, body []byte) (events []schemas.Inbound, code string, err error) {
	d := decoder{grid: true, cloudEvents: strings.HasPrefix(contentType, "application/cloudevents")}
	events, err = d.decode(body)
	var bad *malformedError
	switch {
	case errors.As(err, &bad) && bad.reason == NotCloudEvents:
		return nil, "", &malformedError{NotEventGrid, bad.detail}
	case err != nil:
		return nil, "", err
	case handshake && (len(events) != 1 || d.code == "" || len(d.code) > maxGridCode):
		return nil, "", malformed(NotEventGrid, "the header says handshake, the body does not")
	case !handshake && d.handshake:
		return nil, "", malformed(NotEventGrid, "the body says handshake, the header does not")
	}
	return events, d.code, nil
}

// decoder reads a body.
type decoder struct {
	*jsontext.Decoder
	grid        bool   // a delivery of Event Grid
	cloudEvents bool   // its media type says that all events are CloudEvents
	handshake   bool   // one of them is a handshake's
	code        string // of the last such
}

// decode reads a body: an array of events, or a single one. Each event keeps its exact
// bytes, which share body's memory. All errors are malformedErrors.
func (d *decoder) decode(body []byte) ([]schemas.Inbound, error) {
	body, err := bom.Trim(body)
	if err != nil {
		return nil, malformed(NotUTF8, "%v", err)
	}
	if err := scan(body); err != nil {
		return nil, err
	}
	d.Decoder = decoders.Get().(*jsontext.Decoder)
	defer decoders.Put(d.Decoder)
	d.Reset(bytes.NewBuffer(body)) // reads in place
	events, err := d.readEvents(body)
	if err != nil {
		return nil, classify(err)
	}
	return events, nil
}

// scan bounds depth and tokens before anything is decoded, and requires UTF-8. It
// skips strings without reading their escapes, and leaves it to the decoder whether
// the brackets match.
func scan(body []byte) error {
	if !utf8.Valid(body) {
		return malformed(NotUTF8, "body has bytes that are not UTF-8")
	}
	// Nearly every body is too small to pass either bound, however it is built.
	brackets := bytes.Count(body, []byte("{")) + bytes.Count(body, []byte("["))
	if len(body) <= MaxTokens && brackets <= MaxDepth {
		return nil
	}
	depth, tokens := 0, 1
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '"':
			for i++; i < len(body) && body[i] != '"'; i++ {
				if body[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			tokens++
			if depth++; depth > MaxDepth {
				return malformed(TooDeep, "more than %d levels", MaxDepth)
			}
		case '}', ']':
			depth--
			tokens++
		case ',', ':':
			tokens++
		}
	}
	if tokens > MaxTokens {
		return malformed(TooManyTokens, "more than %d tokens", MaxTokens)
	}
	return nil
}

func (d *decoder) readEvents(body []byte) ([]schemas.Inbound, error) {
	events := make([]schemas.Inbound, 0, 1)
	array := d.PeekKind() == '['
	if array {
		_, _ = d.ReadToken() // the bracket
	}
	for array && d.PeekKind() != ']' || !array && len(events) == 0 {
		if len(events) == MaxEvents {
			return nil, malformed(TooManyEvents, "more than %d events", MaxEvents)
		}
		events = append(events, schemas.Inbound{})
		if err := d.readEvent(body, &events[len(events)-1]); err != nil {
			return nil, err
		}
	}
	if array {
		if _, err := d.ReadToken(); err != nil {
			return nil, err
		}
		if len(events) == 0 {
			return nil, malformed(NoEvents, "the array is empty")
		}
	}
	switch _, err := d.ReadToken(); {
	case err == nil:
		return nil, malformed(NotJSON, "something follows the document")
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	return events, nil
}

// readEvent reads a CloudEvent in the JSON format, or an event in Event Grid's own
// schema, which has other names for the same: its attributes, and of its data what names
// the call. Types are an open set, and nothing in data is required.
func (d *decoder) readEvent(body []byte, e *schemas.Inbound) error {
	if d.PeekKind() != '{' {
		if _, err := d.ReadToken(); err != nil {
			return err
		}
		return malformed(NotCloudEvents, "an event is not an object")
	}
	var version, topic, eventType, eventTime, subject, code string
	if d.grid {
		e.Grid = &schemas.GridEvent{}
	}
	start, end, err := d.readObject(func(name string) error {
		switch name {
		case "id":
			return d.readString(name, &e.ID)
		case "source":
			return d.readString(name, &e.Source)
		case "type":
			return d.readString(name, &e.Type)
		case "specversion":
			return d.readString(name, &version)
		case "time":
			return d.readTime(&e.Time)
		case "data":
			return d.readData(e, &code)
		}
		switch {
		case !d.grid:
		case name == "topic":
			return d.readString(name, &topic)
		case name == "eventType":
			return d.readString(name, &eventType)
		case name == "eventTime":
			return d.readTime(&eventTime)
		case name == "subject" && d.PeekKind() == '"':
			return d.readString(name, &subject)
		}
		return d.SkipValue()
	})
	if err != nil {
		return err
	}
	e.Raw = body[start:end:end]
	if d.grid && e.Grid.CorrelationID == "" {
		e.Grid.CorrelationID = schemas.SubjectIDs(subject).CorrelationID
	}
	if !d.grid || version != "" || d.cloudEvents {
		return checkEvent(e, version)
	}
	e.Grid.OwnSchema = true
	e.Source, e.Type, e.Time = topic, eventType, eventTime
	if e.ID == "" || topic == "" || eventType == "" {
		return malformed(NotEventGrid, "id, topic or eventType is missing, and specversion as well")
	}
	if eventType == gridValidationType {
		d.handshake, d.code = true, code
	}
	return nil
}

// checkEvent requires the attributes that CloudEvents 1.0 requires (section 3.1).
func checkEvent(e *schemas.Inbound, version string) error {
	switch {
	case e.ID == "":
		return malformed(NotCloudEvents, "id is missing")
	case e.Source == "":
		return malformed(NotCloudEvents, "source is missing")
	case e.Type == "":
		return malformed(NotCloudEvents, "type is missing")
	case version != schemas.SpecVersion:
		return malformed(NotCloudEvents, "specversion is not %s", schemas.SpecVersion)
	}
	return nil
}

// readData finds the call's id, and the code of a handshake. Data may be of any JSON type.
func (d *decoder) readData(e *schemas.Inbound, code *string) error {
	if d.PeekKind() != '{' {
		return d.SkipValue()
	}
	_, _, err := d.readObject(func(name string) error {
		switch {
		case d.PeekKind() != '"':
		case name == "callConnectionId" && !d.grid:
			return d.readString(name, &e.CallConnectionID)
		case name == "correlationId" && d.grid:
			return d.readString(name, &e.Grid.CorrelationID)
		case name == "validationCode":
			return d.readString(name, code)
		}
		return d.SkipValue()
	})
	return err
}

// readObject reads an object and calls member with each name; member must
// consume the value. It returns where the object starts and ends.
func (d *decoder) readObject(member func(name string) error) (start, end int64, err error) {
	if _, err := d.ReadToken(); err != nil {
		return 0, 0, err
	}
	start = d.InputOffset() - 1 // the bracket
	for d.PeekKind() == '"' {
		quoted, err := d.ReadValue()
		if err != nil {
			return 0, 0, err
		}
		if err := member(internName(quoted)); err != nil {
			return 0, 0, err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return 0, 0, err
	}
	return start, d.InputOffset(), nil
}

// wanted are the names that are looked for, by how they are written.
var wanted = map[string]string{
	`"id"`: "id", `"source"`: "source", `"type"`: "type", `"specversion"`: "specversion", `"time"`: "time", `"data"`: "data",
	`"callConnectionId"`: "callConnectionId", `"correlationId"`: "correlationId", `"validationCode"`: "validationCode",
	`"topic"`: "topic", `"eventType"`: "eventType", `"eventTime"`: "eventTime", `"subject"`: "subject",
}

// internName returns the name if it is one that is looked for, else "". Most names in
// data need not become strings.
func internName(quoted jsontext.Value) string {
	if name, ok := wanted[string(quoted)]; ok {
		return name
	}
	if bytes.IndexByte(quoted, '\\') < 0 {
		return ""
	}
	name, err := jsontext.AppendUnquote(nil, quoted) // "\u0069d" is id, too
	if err != nil {
		return ""
	}
	return string(name)
}

// readString reads an attribute that must be a string. One that is null is absent
// (CloudEvents JSON format 1.0.2, section 2.2), and Event Grid's own schema is read
// by the same rule.
func (d *decoder) readString(name string, into *string) error {
	token, err := d.ReadToken()
	if err != nil {
		return err
	}
	switch token.Kind() {
	case 'n':
		return nil
	case '"':
		*into = token.String()
		return nil
	}
	return malformed(NotCloudEvents, "%s is not a string", name)
}

// readTime reads the time of an event. An event is never refused for its time: another
// value than a string is kept as it is written, and is not a time later.
func (d *decoder) readTime(into *string) error {
	if d.PeekKind() == '"' || d.PeekKind() == 'n' {
		return d.readString("", into)
	}
	value, err := d.ReadValue()
	*into = string(value)
	return err
}

// classify turns a decoder's error into a reason. Its text may quote member
// names of the body, so only the position goes on.
func classify(err error) error {
	var classified *malformedError
	if errors.As(err, &classified) {
		return err
	}
	reason := NotJSON
	if errors.Is(err, jsontext.ErrDuplicateName) {
		reason = DuplicateMember
	}
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) {
		return malformed(reason, "at byte %d", syntax.ByteOffset)
	}
	return malformed(reason, "the document is cut off")
}
