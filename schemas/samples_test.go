package schemas_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/acsbridge/acsbridge/internal/fixtures"
	"github.com/acsbridge/acsbridge/schemas"
)

// unnamed are the members that recorded bodies have and no Go type names, with
// the reason.
var unnamed = map[string]string{
	"type":            "in data of 2022 and of SDK tests: repeats the event's type",
	"time":            "of an SDK test that has attributes of the event in its data",
	"specversion":     "as time",
	"subject":         "as time",
	"datacontenttype": "as time",

	"topic":           "of Event Grid's own schema: it is Source",
	"eventType":       "as topic: it is Type",
	"eventTime":       "as topic: it is Time",
	"dataVersion":     "of Event Grid's own schema: the bridge has it from a header",
	"metadataVersion": "as dataVersion",
}

// TestParse_samples reads each recorded event: it is of a known type, validates, has
// no member without a name but those above. What is in
// Event Grid's own schema is not a CloudEvent; there the data is checked alike.
// Only names are printed: the bodies hold phone numbers.
func TestParse_samples(t *testing.T) {
	types := make(map[string]bool)
	events, others := 0, 0
	bodies := fixtures.Read(t, "*.json")
	for _, body := range bodies {
		for _, event := range body.Events {
			if name := checkSample(t, body.Name, event); name == "" {
				others++
			} else {
				events++
				types[name] = true
			}
		}
	}
	t.Logf("%d files: %d events of %d types, %d of no type in the catalogue", len(bodies), events, len(types), others)
}

// checkSample returns the name of the event's type, if the catalogue has it.
func checkSample(t *testing.T, file string, document []byte) (name string) {
	t.Helper()
	var grid struct {
		EventType string `json:"eventType"` // Event Grid's own schema
	}
	if err := json.Unmarshal(document, &grid); err != nil {
		t.Fatalf("%s: no event", file)
	}
	m, err := schemas.Parse(map[string][]string{schemas.HeaderEventType: {grid.EventType}}, document)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	event, known := schemas.LookupType(m.Event.Type)
	if !known {
		return ""
	}
	if reflect.TypeOf(m.Event.Data) != reflect.TypeOf(event.NewData()) {
		t.Errorf("%s was read as %T", file, m.Event.Data)
	}
	for _, member := range unnamedMembers(t, document) {
		if unnamed[member] == "" {
			t.Errorf("%s: %T does not name %s", file, m.Event.Data, member)
		}
	}
	if m.Event.Source == "" {
		t.Errorf("%s: source is missing", file)
	}
	schema, part := schemas.SchemaID(event.Name), document
	if grid.EventType != "" {
		schema += "#/properties/data"
		var event struct{ Data json.RawMessage }
		if err := json.Unmarshal(document, &event); err != nil {
			t.Fatalf("%s: no event", file)
		}
		part = event.Data
	}
	compiled, err := compiler(t).Compile(schema)
	if err != nil {
		t.Fatal(err)
	}
	if compiled.Validate(parseJSON(t, part)) != nil { // its text can quote the body
		t.Errorf("%s does not validate", file)
	}
	return event.Name
}
