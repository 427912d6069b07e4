package ingest

import (
	"encoding/json"
	"testing"
)

// checkDecoded holds a decoded event against what encoding/json, an
// independent parser, reads from the same bytes.
func checkDecoded(t *testing.T, raw []byte, id, source, ceType string) {
	t.Helper()
	var want map[string]any
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatalf("not the bytes of an object: %q: %v", raw, err)
	}
	if want["id"] != id || want["source"] != source || want["type"] != ceType || want["specversion"] != "1.0" {
		t.Fatalf("%q: got id %q, source %q, type %q", raw, id, source, ceType)
	}
	if id == "" || source == "" || ceType == "" {
		t.Fatalf("%q: a required attribute is empty", raw)
	}
}
