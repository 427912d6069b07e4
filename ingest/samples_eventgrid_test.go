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

// gridSampleTopic is the topic of the documentation's samples, in either case.
const gridSampleTopic = "/subscriptions/{subscription-id}/resourceGroups/{group-name}/providers/Microsoft.Communication/communicationServices/{communication-services-resource-name}"

// TestSamplesOfEventGrid posts each body of Event Grid to its route: the handshake
// is answered with its code, and the events are in the stream, byte for byte.
func TestSamplesOfEventGrid(t *testing.T) {
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
				t.Fatalf("%s has an event that is no JSON", body.Name)
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
