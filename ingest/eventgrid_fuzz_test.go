package ingest

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/acsbridge/acsbridge/schemas"
)

// FuzzDecodeGrid holds what is decoded of a delivery against what encoding/json,
// an independent parser, reads from the same bytes.
func FuzzDecodeGrid(f *testing.F) {
	const own = `{"id":"1","topic":"/t","subject":"","data":{"correlationId":"k","validationCode":"c"},"eventType":"a.b","dataVersion":"1","metadataVersion":"1","eventTime":"2026-03-01T12:00:00Z"}`
	const validation = `{"id":"1","topic":"/t","data":{"validationCode":"c"},"eventType":"` + gridValidationType + `"}`
	for _, seed := range []string{
		own, "[" + own + "," + own + "]", validation, "[" + validation + "]", "[" + validation + "," + own + "]",
		`{"id":"1","source":"/t","type":"a.b","data":{"correlationId":"k"},"specversion":"1.0","time":"t"}`,
		`{"id":"1","source":"/t","type":"a.b","topic":"/u","eventType":"c.d","specversion":"1.0"}`,
		`{"id":"1","source":"/t","type":"` + gridValidationType + `","specversion":"1.0","data":{"validationCode":"c"}}`,
		`{"id":"1","topic":"/t","eventType":"x","specversion":""}`, `{"id":"1","topic":"/t","eventType":"x","data":[{"correlationId":"k"}]}`,
		`{"id":"1","topic":"/t","eventType":"x","data":{"correlationId":7,"a":{"correlationId":"no"}}}`, `[]`, `[{}]`, `{"topic":1}`, `{`,
		`{"id":"1","\u0074opic":"/t","eventType":"x","data":{"\u0063orrelationId":"k"}}`,
	} {
		f.Add([]byte(seed), "application/json", false)
		f.Add([]byte(seed), "", true)
		f.Add([]byte(seed), schemas.ContentTypeEvent, false)
	}
	f.Fuzz(func(t *testing.T, body []byte, contentType string, handshake bool) {
		original := string(body)
		events, code, err := decodeGrid(contentType, handshake, body)
		if string(body) != original {
			t.Fatal("the body was changed")
		}
		if bad := new(malformedError); err != nil {
			if !errors.As(err, &bad) || bad.reason == NotCloudEvents {
				t.Fatalf("an error without a reason of this route: %v", err)
			}
			return
		}
		if len(events) == 0 || len(events) > MaxEvents || handshake != (code != "") {
			t.Fatalf("%d events, handshake %v, code %q", len(events), handshake, code)
		}
		for i := range events {
			checkGridEvent(t, &events[i], handshake, code)
		}
	})
}

func checkGridEvent(t *testing.T, e *schemas.Inbound, handshake bool, code string) {
	t.Helper()
	var want map[string]any
	if err := json.Unmarshal(e.Raw, &want); err != nil {
		t.Fatalf("not the bytes of an object: %q: %v", e.Raw, err)
	}
	data, _ := want["data"].(map[string]any)
	text := func(m map[string]any, name string) string {
		s, _ := m[name].(string)
		return s
	}
	names := []string{"topic", "eventType", "eventTime"}
	if !e.Grid.OwnSchema {
		names = []string{"source", "type", "time"}
	}
	if e.Grid.OwnSchema == (text(want, "specversion") == "1.0") || e.CallConnectionID != "" {
		t.Fatalf("%q: own schema %v, connection %q", e.Raw, e.Grid.OwnSchema, e.CallConnectionID)
	}
	got := []string{e.ID, e.Source, e.Type, e.Time, e.Grid.CorrelationID}
	for i, value := range []string{text(want, "id"), text(want, names[0]), text(want, names[1]), text(want, names[2]), text(data, "correlationId")} {
		if got[i] != value {
			t.Fatalf("%q: got %q, want %q", e.Raw, got[i], value)
		}
	}
	if e.ID == "" || e.Source == "" || e.Type == "" {
		t.Fatalf("%q: a required attribute is empty", e.Raw)
	}
	if isOne := e.Grid.OwnSchema && e.Type == gridValidationType; isOne != handshake || handshake && code != text(data, "validationCode") {
		t.Fatalf("%q: handshake %v, code %q", e.Raw, handshake, code)
	}
}
