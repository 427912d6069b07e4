package config

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestYAML_problems checks what is refused in a file, one line a problem.
func TestYAML_problems(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"empty", "", nil},
		{"comments", "# nothing\n", nil},
		{"empty document", "---\n", nil},
		{"one resource as text", "resource: fabrikam=" + otherGUID, nil},
		{"key twice", "stream: A\nstream: B", []string{"stream (bridge.yaml:2): given twice, first in line 1"}},
		{"no value", "stream:", []string{"stream (bridge.yaml:1): has no value; write one or remove the line"}},
		{"list for one value", "stream: [A, B]", []string{"stream (bridge.yaml:1): must be a single value"}},
		{"mapping", "stream: {name: A}", []string{"stream (bridge.yaml:1): must be a single value"}},
		{"mapping of resources", "resource: {contoso: x}", []string{"resource (bridge.yaml:1): must be a single value"}},
		{"list of lists", "resource: [[a]]", []string{"resource (bridge.yaml:1): must be a list of single values"}},
		{"reference", "listen: &l 127.0.0.1:1\nadmin-listen: *l", []string{"admin-listen (bridge.yaml:2): must be a single value"}},
		{"flag that is no setting", "print-config: true", []string{"print-config (bridge.yaml:1): no such setting"}},
		{"file in a file", "config: other.yaml", []string{"config (bridge.yaml:1): no such setting"}},
		{"name of the variable", "NATS_URL: n", []string{"NATS_URL (bridge.yaml:1): no such setting; did you mean nats-url?"}},
		{"list", "- stream", []string{"config (flag --config): bridge.yaml is not a YAML mapping; write one setting a line, like listen: 127.0.0.1:8080"}},
		{"two documents", "stream: A\n---\nstream: B", []string{"config (flag --config): bridge.yaml holds more than one YAML document"}},
		{"broken", "stream: [", []string{"config (flag --config): yaml: line 1: did not find expected node content"}},
		{"reference to nothing", "nats-token: *x", []string{"config (flag --config): a value that starts with * is a reference in YAML; put it in quotes"}},
		{"too large", "#" + strings.Repeat("x", maxConfigFile), []string{"config (flag --config): bridge.yaml is larger than 262144 bytes"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file := writeFile(t, "bridge.yaml", test.text)
			_, _, err := parse(t, "--config="+file, "--resource=contoso="+testGUID)
			problems, ok := errors.AsType[Error](err)
			if !ok && err != nil {
				t.Fatalf("error %v, want a Error", err)
			}
			var got []string
			for _, problem := range problems {
				got = append(got, strings.ReplaceAll(problem.String(), filepath.Dir(file)+string(filepath.Separator), ""))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// TestYAML_missingFile checks that a file that is named must be there, and
// that the rest is judged all the same.
func TestYAML_missingFile(t *testing.T) {
	_, _, err := parse(t, "ACSBRIDGE_CONFIG="+filepath.Join(t.TempDir(), "absent.yaml"), "--resource=contoso="+testGUID, "--leeway=1h")
	problems, _ := errors.AsType[Error](err)
	var got []string
	for _, problem := range problems {
		got = append(got, problem.setting+" "+problem.origin)
	}
	if diff := cmp.Diff([]string{"config ACSBRIDGE_CONFIG", "leeway flag --leeway"}, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s\n%v", diff, err)
	}
}

func TestSources_closest(t *testing.T) {
	names := []string{"listen", "leeway", "log-level", "stream"}
	for name, want := range map[string]string{
		"lisen":     "; did you mean listen?",
		"loglevel":  "; did you mean log-level?",
		"leewxx":    "; did you mean leeway?",
		"lissten":   "; did you mean listen?",
		"straem":    "; did you mean stream?",
		"streaming": "",
		"":          "",
	} {
		if got := closest(name, names); got != want {
			t.Errorf("closest(%q) = %q, want %q", name, got, want)
		}
	}
}
