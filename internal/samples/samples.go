// Package samples gives tests the recorded bodies of callbacks. They are
// third-party data and no part of this repository: an environment variable names
// their folder. They hold phone numbers, so only their names may be printed.
package samples

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Variable names the folder, with one body in each *.json file.
const Variable = "ACS_SAMPLES"

// Body is one recorded body.
type Body struct {
	Name string // of its file
	Text []byte
	// Events are those of the body, an array or one object, as they are written
	// there.
	Events []json.RawMessage
}

// Read returns the bodies in the files that match a pattern, as of
// [filepath.Match]. It skips the test when the variable names no folder.
func Read(t testing.TB, pattern string) (bodies []Body) {
	t.Helper()
	folder := os.Getenv(Variable)
	if folder == "" {
		t.Skipf("%s names no folder with recorded bodies", Variable)
	}
	files, err := filepath.Glob(filepath.Join(folder, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s=%s holds no %s: %v", Variable, folder, pattern, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b := Body{Name: filepath.Base(file), Text: text}
		if text = bytes.TrimSpace(text); bytes.HasPrefix(text, []byte("{")) {
			b.Events = []json.RawMessage{text}
		} else if json.Unmarshal(text, &b.Events) != nil {
			t.Fatalf("%s is neither a JSON array nor an object", b.Name)
		}
		bodies = append(bodies, b)
	}
	return bodies
}
