package resend_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/internal/fixtures"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/replay/resend"
)

// TestRedactor_samples looks in each recorded event, redacted, for the texts
// that it had under a name that tells who somebody is or what was said, and for
// telephone numbers. Only file names are printed.
func TestRedactor_samples(t *testing.T) {
	redactor := resend.NewRedactor([]byte("key"))
	number := regexp.MustCompile(`\+[0-9]{7,}`)
	secrets, events := 0, 0
	for _, body := range fixtures.Read(t, "*.json") {
		for _, event := range body.Events {
			m, err := redactor.Message(&replay.StoredMessage{Sequence: 1, Subject: "acs.contoso.X.d._", Header: nats.Header{}, Data: event})
			if err != nil {
				continue // no JSON, which some are on purpose
			}
			events++
			for _, secret := range personalTexts(t, event) {
				if secrets++; bytes.Contains(m.Data, []byte(secret)) {
					t.Errorf("%s: a text is left", body.Name)
				}
			}
			for _, n := range number.FindAllString(string(m.Data), -1) {
				if !strings.HasPrefix(n, "+999") {
					t.Errorf("%s: a telephone number is left", body.Name)
				}
			}
		}
	}
	t.Logf("%d events, %d texts", events, secrets)
	if events == 0 || secrets == 0 {
		t.Errorf("nothing was looked for")
	}
}

// placeholder is what a sample of a unit test has for an id: the member's own name,
// and the like.
var placeholder = regexp.MustCompile(`^[A-Za-z]+$`)

// personalTexts are the texts of an event that must not be left.
func personalTexts(t *testing.T, event []byte) (texts []string) {
	t.Helper()
	var document any
	if err := json.Unmarshal(event, &document); err != nil {
		t.Fatal(err)
	}
	var walk func(name string, v any)
	walk = func(name string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, member := range v {
				walk(name, member)
			}
		case []any:
			for _, element := range v {
				walk(name, element)
			}
		case string:
			switch name {
			case "rawId", "id", "value", "userId", "callConnectionId", "serverCallId", "correlationId", "operationContext", "message", "speech", "recognizedPhrase":
				if len(v) >= 6 && !placeholder.MatchString(v) {
					texts = append(texts, v)
				}
			}
		}
	}
	walk("", document)
	return texts
}
