package acstest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/acsbridge/acsbridge/schemas"
)

// DemoTopic is the name of the simulated resource in Azure, the source of its events in
// Event Grid, for --eventgrid-source.
const DemoTopic = "/subscriptions/5aba7c7e-ac50-4de0-9f00-0acab0a7de01/resourceGroups/demo/providers/Microsoft.Communication/communicationServices/demo"

// contextBytes of random data become an incomingCallContext of some 8 KiB.
const contextBytes = 6 << 10

// gridExamples are the contract's examples of the types that come by Event Grid.
var gridExamples = sync.OnceValue(func() map[string]json.RawMessage {
	examples := make(map[string]json.RawMessage)
	for _, t := range schemas.Types() {
		if t.Family == schemas.Grid {
			examples[t.Name] = t.Describe().Example
		}
	}
	return examples
})

// GridTypes returns the short names of the event types that come by Event Grid,
// sorted.
func GridTypes() []string { return slices.Sorted(maps.Keys(gridExamples())) }

// byGrid reports whether a type comes by Event Grid and not by callback.
func byGrid(eventType string) bool {
	_, ok := gridExamples()[strings.TrimPrefix(eventType, schemas.TypePrefix)]
	return ok
}

// phoneForm matches a telephone number of the examples.
var phoneForm = regexp.MustCompile(`\+1\d{10}`)

// gridEvent makes an event of Event Grid: the contract's example with the ids, the
// resource and the caller of this call.
func (c *SimCall) gridEvent(short string, at time.Time) (WireEvent, error) {
	example := gridExamples()[short]
	parsed, err := schemas.ParseEvent(example)
	if err != nil {
		return WireEvent{}, fmt.Errorf("%s: read the contract's example: %w", short, err)
	}
	ids := parsed.IDs()
	replace := []string{
		parsed.ID, uuid.NewString(), parsed.Source, DemoTopic,
		string(parsed.Time), at.UTC().Format("2006-01-02T15:04:05.9999999Z"),
		ids.ServerCallID, c.serverCallID, ids.CorrelationID, c.correlationID,
	}
	if number := phoneForm.FindString(string(example)); number != "" {
		replace = append(replace, number, c.caller)
	}
	switch data := parsed.Data.(type) {
	case *schemas.IncomingCall:
		replace = append(replace, data.IncomingCallContext, newIncomingCallContext())
	case *schemas.RecordingFileStatusUpdated:
		replace = append(replace, data.RecordingID, c.values["$recordingId"].(string))
	}
	if slices.Contains(replace, "") {
		return WireEvent{}, errors.New(short + ": the contract's example lacks an id")
	}
	var e WireEvent
	err = json.Unmarshal([]byte(strings.NewReplacer(replace...).Replace(string(example))), &e)
	return e, err
}

// newIncomingCallContext returns a text like that of ACS, which looks like a token
// without a signature.
func newIncomingCallContext() string {
	random := make([]byte, contextBytes)
	_, _ = rand.Read(random) // it never fails
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + encode(random) + "."
}

// gridBody is the body of a delivery in one of Event Grid's schemas, and its media
// type.
func gridBody(schema EventGridSchema, events []WireEvent) (body []byte, contentType string, err error) {
	var list []any
	for _, e := range events {
		if schema == EventGridOwnSchema {
			list = append(list, ownEvent{e.ID, e.Source, e.Subject, e.Data, e.Type, "1.0", "1", e.Time})
		} else {
			list = append(list, cloudEvent{e.ID, e.Source, e.Subject, e.Data, e.Type, schemas.SpecVersion, e.Time})
		}
	}
	switch {
	case schema == EventGridOwnSchema: // an array always
		contentType = "application/json; charset=utf-8"
		body, err = json.Marshal(list)
	case len(list) == 1:
		contentType = schemas.ContentTypeEvent + "; charset=utf-8"
		body, err = json.Marshal(list[0])
	default:
		contentType = "application/cloudevents-batch+json; charset=utf-8"
		body, err = json.Marshal(list)
	}
	if err != nil {
		return nil, "", fmt.Errorf("encode a delivery: %w", err)
	}
	return body, contentType, nil
}

// cloudEvent is an event as Event Grid writes it in the CloudEvents schema.
type cloudEvent struct {
	ID          string          `json:"id"`
	Source      string          `json:"source"`
	Subject     string          `json:"subject"`
	Data        json.RawMessage `json:"data"`
	Type        string          `json:"type"`
	SpecVersion string          `json:"specversion"`
	Time        string          `json:"time"`
}

// ownEvent is an event in Event Grid's own schema.
type ownEvent struct {
	ID              string          `json:"id"`
	Topic           string          `json:"topic"`
	Subject         string          `json:"subject"`
	Data            json.RawMessage `json:"data"`
	EventType       string          `json:"eventType"`
	DataVersion     string          `json:"dataVersion"`
	MetadataVersion string          `json:"metadataVersion"`
	EventTime       string          `json:"eventTime"`
}
