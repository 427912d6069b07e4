package ingest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/acsbridge/acsbridge/schemas"
)

// gridSampleTopic is the topic of the documentation's samples, in either case.
const gridSampleTopic = "/subscriptions/{subscription-id}/resourceGroups/{group-name}/providers/Microsoft.Communication/communicationServices/{communication-services-resource-name}"

// TestSamplesOfEventGrid posts each body of Event Grid to its route: the handshake
// is answered with its code, and the events are in the stream, byte for byte.
func TestSamplesOfEventGrid(t *testing.T) {
	folder := os.Getenv(samplesVariable)
	if folder == "" {
		t.Skipf("%s names no folder with recorded callback bodies", samplesVariable)
	}
	files, err := filepath.Glob(filepath.Join(folder, "*-eg-*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s=%s holds no *-eg-*.json: %v", samplesVariable, folder, err)
	}
	archive := txtar.Parse([]byte("-- settings --\neventgrid token\n"))
	s := newStory(t, archive)
	var events []payload
	handshakes := 0
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		kind, answer := "Notification", "200"
		for _, e := range elements(t, name, body) {
			var event struct {
				EventType string
				Data      struct{ ValidationCode string }
			}
			if err := json.Unmarshal(e, &event); err != nil {
				t.Fatalf("%s has an event that is no JSON", name)
			}
			if event.Data.ValidationCode != "" {
				kind, answer = "SubscriptionValidation", fmt.Sprintf("200\n\n{\"validationResponse\":%q}", event.Data.ValidationCode)
				handshakes++
			} else {
				events = append(events, payload{name, e})
			}
		}
		s.body, s.request = bytes.TrimSpace(body), fmt.Appendf(nil, "POST /eventgrid\nAuthorization: Bearer {{token eventgrid}}\naeg-event-type: %s", kind)
		s.exchange(answer)
		if t.Failed() {
			t.Fatalf("%s got another answer", name)
		}
	}
	if handshakes == 0 || len(events) == 0 {
		t.Errorf("%d handshakes and %d events", handshakes, len(events))
	}
	s.holds(schemas.Stream, events)
}
