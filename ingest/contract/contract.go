// Package contract says where events deviate from their JSON Schema. It marks
// and counts, and refuses nothing: the schemas are ours, made of what Microsoft
// has published, and an event that they do not foresee is news about the schemas.
//
// It stands between the edge and the publisher, and is not there at all unless
// it is asked for: holding one event against its schema takes tens of
// microseconds.
package contract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

// Outcomes and types: closed sets, used as metric labels.
const (
	conforms  = "conforms"
	deviates  = "deviates"
	otherType = "other" // any type that is not in the catalogue
)

// Reporter is a publisher that marks events before they are published: what
// deviates gets a [schemas.Event.Deviation].
type Reporter struct {
	ingest.Publisher

	types    map[string]*eventSchema // by the CloudEvents type
	envelope *jsonschema.Schema
	members  map[string]bool // names of all members in the schemas
	events   *prometheus.CounterVec
}

// eventSchema is the schema of a type: of its whole event, and of its data, which
// is all that an event in Event Grid's own schema has of it.
type eventSchema struct{ event, data *jsonschema.Schema }

// Report returns a publisher that marks events and passes everything on to
// another. The metrics go to registerer; nil means nowhere.
func Report(publisher ingest.Publisher, registerer prometheus.Registerer) (*Reporter, error) {
	r := &Reporter{
		Publisher: publisher,
		types:     make(map[string]*eventSchema),
		members:   make(map[string]bool),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "acsbridge_contract_total",
			Help: "Events held against their JSON Schema, by type (other: not in the catalogue) and outcome (conforms, deviates).",
		}, []string{"type", "outcome"}),
	}
	if err := r.compile(); err != nil {
		return nil, fmt.Errorf("compile the schemas: %w", err)
	}
	if registerer != nil {
		registerer.MustRegister(r.events)
	}
	return r, nil
}

// Publish marks the events and passes them on.
func (r *Reporter) Publish(ctx context.Context, claims *verify.Claims, d *publish.Delivery, events []schemas.Event) error {
	for i := range events {
		r.inspect(&events[i])
	}
	return r.Publisher.Publish(ctx, claims, d, events)
}

// compile reads the embedded schemas. Nothing is loaded from elsewhere.
func (r *Reporter) compile() error {
	c := jsonschema.NewCompiler()
	c.UseLoader(jsonschema.SchemeURLLoader{})
	c.AssertFormat()
	names := []string{schemas.SchemaEnvelope, schemas.SchemaShared}
	for _, t := range schemas.Types() {
		names = append(names, t.Name)
	}
	for _, name := range names {
		document, _ := schemas.Schema(name)
		schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
		if err != nil {
			return err
		}
		r.collect(schema)
		if err := c.AddResource(schemas.SchemaID(name), schema); err != nil {
			return err
		}
	}
	var err error
	if r.envelope, err = c.Compile(schemas.SchemaID(schemas.SchemaEnvelope)); err != nil {
		return err
	}
	for _, t := range schemas.Types() {
		event, errEvent := c.Compile(schemas.SchemaID(t.Name))
		data, errData := c.Compile(schemas.SchemaID(t.Name) + "#/properties/data")
		if err := errors.Join(errEvent, errData); err != nil {
			return err
		}
		r.types[t.CloudEventsType()] = &eventSchema{event, data}
	}
	return nil
}

// collect keeps the names of members that a schema describes.
func (r *Reporter) collect(schema any) {
	node, ok := schema.(map[string]any)
	if !ok {
		return
	}
	if properties, ok := node["properties"].(map[string]any); ok {
		for name := range properties {
			r.members[name] = true
		}
	}
	for keyword, inner := range node {
		if keyword != "examples" {
			r.collect(inner)
		}
	}
}

// inspect marks an event that deviates, and counts it.
func (r *Reporter) inspect(e *schemas.Event) {
	known, label := r.types[e.Type], otherType
	if known != nil {
		label = schemas.ShortType(e.Type)
	}
	outcome := conforms
	if found := r.deviations(known, e.Raw); len(found) > 0 {
		outcome, e.Deviation = deviates, strings.Join(found, ", ")
	}
	r.events.WithLabelValues(label, outcome).Inc()
}

// deviations returns where an event deviates and from which keyword of its
// schema, sorted: "/data/sequenceNumber type".
func (r *Reporter) deviations(known *eventSchema, raw []byte) []string {
	event, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return []string{"/ json"}
	}
	dropNulls(event)
	schema, prefix := r.envelope, ""
	if known != nil {
		schema = known.event
		if members, _ := event.(map[string]any); members["specversion"] == nil { // Event Grid's own schema
			if schema, event, prefix = known.data, members["data"], "/data"; event == nil {
				return nil
			}
		}
	} else if members, _ := event.(map[string]any); members["specversion"] == nil {
		return nil // a type of Event Grid's that nothing is known of
	}
	var invalid *jsonschema.ValidationError
	if !errors.As(schema.Validate(event), &invalid) {
		return nil
	}
	found := r.leaves(nil, prefix, invalid)
	slices.Sort(found)
	return slices.Compact(found)
}

// dropNulls removes the members of objects that are null: they are absent (CloudEvents
// JSON format 1.0.2, section 2.2).
func dropNulls(value any) {
	switch value := value.(type) {
	case map[string]any:
		for name, inner := range value {
			if inner == nil {
				delete(value, name)
			}
			dropNulls(inner)
		}
	case []any:
		for _, inner := range value {
			dropNulls(inner)
		}
	}
}

// leaves appends the deviations that an error is made of. Names of members that
// no schema has, which are the sender's own, and places in lists become "*".
func (r *Reporter) leaves(found []string, prefix string, e *jsonschema.ValidationError) []string {
	for _, cause := range e.Causes {
		found = r.leaves(found, prefix, cause)
	}
	if len(e.Causes) > 0 {
		return found
	}
	path := prefix
	for _, member := range e.InstanceLocation {
		if !r.members[member] {
			member = "*"
		}
		path += "/" + member
	}
	keywords := e.ErrorKind.KeywordPath()
	return append(found, path+" "+keywords[len(keywords)-1])
}
