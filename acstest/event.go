package acstest

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.yaml.in/yaml/v3"

	"github.com/acsbridge/acsbridge/internal/suggest"
	"github.com/acsbridge/acsbridge/schemas"
)

const (
	// recordingEvents is the end of the types that the recorder reports, with its own
	// connection and source.
	recordingEvents = "RecordingStateChanged"
	recorderLeg     = "recorder"
)

// WireEvent is one CloudEvent as ACS posts it, with its fields in that order.
type WireEvent struct {
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Data            json.RawMessage `json:"data"`
	Time            string          `json:"time"`
	SpecVersion     string          `json:"specversion"`
	DataContentType string          `json:"datacontenttype"`
	Subject         string          `json:"subject"`
}

// MsgID is the Nats-Msg-Id of the event.
func (e *WireEvent) MsgID() string {
	stored := schemas.Inbound{ID: e.ID, Source: e.Source}
	return stored.MsgID()
}

// Body returns the body of a callback: a JSON array, also for one event.
func Body(events ...WireEvent) ([]byte, error) {
	body, err := json.Marshal(events)
	if err != nil {
		return nil, fmt.Errorf("encode callback: %w", err)
	}
	return body, nil
}

// Types returns the short names of the event types of callbacks, sorted. [GridTypes] are
// those of Event Grid.
func Types() []string {
	types := make([]string, 0, len(templates))
	for name := range templates {
		types = append(types, name)
	}
	slices.Sort(types)
	return types
}

// UnknownTypeError reports an event type that this package cannot make.
type UnknownTypeError struct {
	Type    string
	Nearest string // the known type that was probably meant; empty when none is like it
}

func (e *UnknownTypeError) Error() string {
	hint := ";"
	if e.Nearest != "" {
		hint = fmt.Sprintf(", did you mean %s?", e.Nearest)
	}
	return fmt.Sprintf("unknown event type %q%s acsbridge trigger --list lists those that can be sent", e.Type, hint)
}

// NewEvent returns an event of a call at this moment. The type is the short
// name, CallConnected, or the full one with the prefix Microsoft.Communication;
// an unknown one is an [*UnknownTypeError].
func (c *SimCall) NewEvent(eventType string) (WireEvent, error) {
	return c.event(eventType, defaultLeg, yaml.Node{}, time.Now())
}

// event makes an event of a leg at a time, with members of its data replaced by those
// of the mapping changes.
func (c *SimCall) event(eventType, legName string, changes yaml.Node, at time.Time) (WireEvent, error) {
	short := strings.TrimPrefix(eventType, schemas.TypePrefix)
	template, ok := templates[short]
	switch {
	case !ok && byGrid(short) && !changes.IsZero():
		return WireEvent{}, fmt.Errorf("%s: its data is that of the contract's example and cannot be changed", short)
	case !ok && byGrid(short):
		return c.gridEvent(short, at)
	case !ok:
		nearest, distance := suggest.Nearest(short, append(Types(), GridTypes()...))
		if distance > len(short)/2 {
			nearest = ""
		}
		return WireEvent{}, &UnknownTypeError{Type: eventType, Nearest: nearest}
	}
	source := "calling/callConnections/" + c.leg(legName).connectionID
	if strings.HasSuffix(short, recordingEvents) {
		legName = recorderLeg
		source = fmt.Sprintf("calling/recordings/%s/%s/%s", c.serverCallID, c.values["$recordingId"], short)
	}
	members, err := merge(template, changes)
	if err != nil {
		return WireEvent{}, fmt.Errorf("%s: %w", short, err)
	}
	w := dataWriter{value: func(name string) (any, error) { return c.value(name, source, at) }}
	w.members(members, []member{
		{"callConnectionId", c.leg(legName).connectionID},
		{"serverCallId", c.serverCallID},
		{"correlationId", c.correlationID},
		{"publicEventType", schemas.TypePrefix + short},
	})
	if w.err != nil {
		return WireEvent{}, fmt.Errorf("%s: %w", short, w.err)
	}
	return WireEvent{
		ID:              uuid.NewString(),
		Source:          source,
		Type:            schemas.TypePrefix + short,
		Data:            w.buf.Bytes(),
		Time:            formatTime(at),
		SpecVersion:     schemas.SpecVersion,
		DataContentType: "application/json",
		Subject:         source,
	}, nil
}

//go:embed events.yaml
var eventsYAML []byte

// templates are the data of each type in events.yaml: YAML mappings, because they keep
// the order.
var templates = parseTemplates()

func parseTemplates() map[string]yaml.Node {
	var parsed map[string]yaml.Node
	if err := yaml.Unmarshal(eventsYAML, &parsed); err != nil {
		panic("acstest: events.yaml: " + err.Error()) // embedded, so a bug
	}
	return parsed
}

// merge returns the members of template, name and value in turn, with the values of
// changes. A change to a member that the type does not have is an error, because it is
// most likely a misspelling.
func merge(template, changes yaml.Node) ([]*yaml.Node, error) {
	members := slices.Clone(template.Content)
	if changes.IsZero() {
		return members, nil
	}
	if changes.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: data must be a mapping", changes.Line)
	}
	for i := 0; i < len(changes.Content); i += 2 {
		name, value := changes.Content[i], changes.Content[i+1]
		at := -1
		for j := 0; j < len(members); j += 2 {
			if members[j].Value == name.Value {
				at = j
			}
		}
		if at < 0 {
			return nil, fmt.Errorf("line %d: data has no member %q (events.yaml lists them)", name.Line, name.Value)
		}
		members[at+1] = value
	}
	return members, nil
}

// member is one name and value of a JSON object.
type member struct {
	name  string
	value any
}

// dataWriter writes YAML nodes as JSON and keeps their order, unlike a Go map. The first
// error is kept.
type dataWriter struct {
	buf   bytes.Buffer
	value func(name string) (any, error) // of $name
	err   error
}

// members writes an object: name and value nodes in turn, then the tail. A
// null leaves its member out.
func (w *dataWriter) members(nodes []*yaml.Node, tail []member) {
	w.buf.WriteByte('{')
	for i := 0; i < len(nodes); i += 2 {
		if nodes[i+1].Tag == "!!null" {
			continue
		}
		w.name(nodes[i].Value)
		w.node(nodes[i+1])
	}
	for _, m := range tail {
		w.name(m.name)
		w.json(m.value)
	}
	w.buf.WriteByte('}')
}

func (w *dataWriter) name(name string) {
	w.comma('{')
	w.json(name)
	w.buf.WriteByte(':')
}

// comma writes a comma, except after the opening bracket.
func (w *dataWriter) comma(open byte) {
	if b := w.buf.Bytes(); b[len(b)-1] != open {
		w.buf.WriteByte(',')
	}
}

func (w *dataWriter) node(n *yaml.Node) {
	switch n.Kind {
	case yaml.MappingNode:
		w.members(n.Content, nil)
	case yaml.SequenceNode:
		w.buf.WriteByte('[')
		for _, element := range n.Content {
			w.comma('[')
			w.node(element)
		}
		w.buf.WriteByte(']')
	case yaml.ScalarNode:
		w.scalar(n)
	default:
		w.fail(fmt.Errorf("line %d: anchors and aliases are not supported", n.Line))
	}
}

func (w *dataWriter) scalar(n *yaml.Node) {
	var v any
	err := n.Decode(&v)
	if err == nil && strings.HasPrefix(n.Value, "$") {
		v, err = w.value(n.Value)
	}
	if err != nil {
		w.fail(fmt.Errorf("line %d: %w", n.Line, err))
		return
	}
	w.json(v)
}

func (w *dataWriter) json(v any) {
	text, err := json.Marshal(v)
	if err != nil {
		w.fail(err)
		return
	}
	w.buf.Write(text)
}

func (w *dataWriter) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}
