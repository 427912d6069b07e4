package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestGenerate_filesAreCurrent holds what was generated against what would be now.
func TestGenerate_filesAreCurrent(t *testing.T) {
	const schemas = "../.."
	for step := range steps {
		files, err := generate(step, schemas)
		if err != nil {
			t.Fatal(err)
		}
		if len(files) < 2 {
			t.Errorf("%s makes %d files", step, len(files))
		}
		for name, want := range files {
			got, err := os.ReadFile(filepath.Join(schemas, name))
			if err != nil {
				t.Error(err)
				continue
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s is not what the Go types say; run go generate ./schemas (-want +got):\n%s", name, diff)
			}
		}
	}
}

// TestSource_commentsAreRequired: a field without a comment would have no description.
func TestSource_commentsAreRequired(t *testing.T) {
	s := &source{comments: map[string]string{"A": "x"}}
	if _, err := s.comment("A"); err != nil {
		t.Error(err)
	}
	if _, err := s.comment("A.B"); err == nil {
		t.Error("no error of a field without a comment")
	}
}
