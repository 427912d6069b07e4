package ingest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/acsbridge/acsbridge/internal/fixtures"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestSamples_callbacks posts each recorded body to a bridge. Every CloudEvent must be in
// the stream, and every body without one in the quarantine, byte for byte and
// in the order of the callbacks. Only file names are printed: the bodies hold
// phone numbers.
func TestSamples_callbacks(t *testing.T) {
	s := newStory(t, new(txtar.Archive))
	var events, others []payload
	bodies := fixtures.Read(t, "*.json")
	for i, b := range bodies {
		body, found := separate(t, b)
		events = append(events, found...)
		s.body, s.request = body, fmt.Appendf(nil, "POST /callbacks\nAuthorization: Bearer {{token n=%d}}", i)
		if len(found) > 0 {
			s.exchange("200")
		} else {
			others = append(others, payload{b.Name, body})
			s.exchange("400")
		}
		if t.Failed() {
			t.Fatalf("%s got another answer", b.Name)
		}
	}
	t.Logf("%d files: %d events, %d bodies without one", len(bodies), len(events), len(others))
	s.holds(schemas.Stream, events)
	s.holds(schemas.QuarantineStream, others)
}

// payload is what a message must carry, and the file that it is from.
type payload struct {
	file string
	data []byte
}

// holds compares a stream's payloads with those that it must have.
func (s *story) holds(stream string, want []payload) {
	s.t.Helper()
	if len(want) == 0 {
		s.t.Errorf("no sample is for the stream %s", stream)
	}
	s.drain()
	messages := s.nats.Messages(stream)
	if len(messages) != len(want) {
		s.t.Fatalf("stream %s has %d messages, want %d", stream, len(messages), len(want))
	}
	for i, m := range messages {
		if !bytes.Equal(m.Data, want[i].data) {
			s.t.Errorf("stream %s, message %d: not the bytes of %s", stream, i+1, want[i].file)
		}
	}
}

// separate gives each CloudEvent of a body, an array or one object, an id of
// its own: recorders wrote the same id into many files, and the stream would
// deduplicate them. It returns the body with these ids, its other bytes as they were,
// and the events in it.
func separate(t *testing.T, b fixtures.Body) (changed []byte, events []payload) {
	t.Helper()
	rest := b.Text
	for i, e := range b.Events {
		id, ok := idOfCloudEvent(t, b.Name, e)
		if !ok {
			continue
		}
		own := fmt.Appendf(nil, "%q", fmt.Sprintf("%s-%d", b.Name, i))
		event := bytes.Join([][]byte{e[:id.start], e[id.end:]}, own)
		before, after, _ := bytes.Cut(rest, e)
		changed, rest = append(append(changed, before...), event...), after
		events = append(events, payload{b.Name, event})
	}
	return append(changed, rest...), events
}

// span is a part of some text.
type span struct{ start, end int64 }

// idOfCloudEvent returns where the value of the member "id" stands in an event.
// An object without "specversion" is not a CloudEvent (CloudEvents 1.0, section
// "Required Attributes"): such are the bodies in Event Grid's own schema.
func idOfCloudEvent(t *testing.T, file string, event []byte) (id span, ok bool) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(event))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		t.Fatalf("%s has an event that is not an object", file)
	}
	for decoder.More() {
		var value json.RawMessage
		name, err := decoder.Token()
		if err != nil || decoder.Decode(&value) != nil {
			t.Fatalf("%s has an event that is not JSON", file)
		}
		end := decoder.InputOffset()
		switch name {
		case "id":
			id = span{end - int64(len(value)), end}
		case "specversion":
			ok = true
		}
	}
	return id, ok && id.end > 0
}

// gridSampleTopic is the topic of the documentation's samples, in either case.
const gridSampleTopic = "/subscriptions/{subscription-id}/resourceGroups/{group-name}/providers/Microsoft.Communication/communicationServices/{communication-services-resource-name}"

// TestSamples_eventGrid posts each body of Event Grid to its route: the handshake
// is answered with its code, and the events are in the stream, byte for byte.
func TestSamples_eventGrid(t *testing.T) {
	archive := txtar.Parse([]byte("-- settings --\neventgrid token\n"))
	s := newStory(t, archive)
	var events []payload
	handshakes := 0
	for _, body := range fixtures.Read(t, "*-eg-*.json") {
		kind, answer := "Notification", "200"
		for _, e := range body.Events {
			var event struct {
				EventType string
				Data      struct{ ValidationCode string }
			}
			if err := json.Unmarshal(e, &event); err != nil {
				t.Fatalf("%s has an event that is not JSON", body.Name)
			}
			if event.Data.ValidationCode != "" {
				kind, answer = "SubscriptionValidation", fmt.Sprintf("200\n\n{\"validationResponse\":%q}", event.Data.ValidationCode)
				handshakes++
			} else {
				events = append(events, payload{body.Name, e})
			}
		}
		s.body, s.request = bytes.TrimSpace(body.Text), fmt.Appendf(nil, "POST /eventgrid\nAuthorization: Bearer {{token eventgrid}}\naeg-event-type: %s", kind)
		s.exchange(answer)
		if t.Failed() {
			t.Fatalf("%s got another answer", body.Name)
		}
	}
	if handshakes == 0 || len(events) == 0 {
		t.Errorf("%d handshakes and %d events", handshakes, len(events))
	}
	s.holds(schemas.Stream, events)
}
