package deploy_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// ofTheImage are the settings that the image has, or that have no use in its container.
var ofTheImage = []string{"listen", "data-dir", "nats-listen", "nats-context"}

// printed returns the settings that serve prints, as it writes them.
func printed(t *testing.T, variables []string) map[string]any {
	t.Helper()
	values := map[string]any{}
	printConfig(t, &values, variables)
	return values
}

// variableOf is the environment variable of a setting.
func variableOf(setting string) string {
	return "ACSBRIDGE_" + strings.ToUpper(strings.ReplaceAll(setting, "-", "_"))
}

// TestCompose_envExample checks that every setting of serve is in .env.example and reaches
// the container, and that the example is a good configuration when all of it is set.
func TestCompose_envExample(t *testing.T) {
	var variables, names []string
	for line := range strings.Lines(read(t, ".env.example")) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "#")
		if name, value, found := strings.Cut(line, "="); found && strings.HasPrefix(name, "ACSBRIDGE_") {
			names = append(names, name)
			variables = append(variables, name+"="+value)
		}
	}
	var want []string
	have := printed(t, variables)
	for setting := range have {
		if !slices.Contains(ofTheImage, setting) {
			want = append(want, variableOf(setting))
		}
	}
	slices.Sort(want)
	slices.Sort(names)
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("settings of serve and .env.example (-want +got):\n%s", diff)
	}
	environment := readCompose(t, nil).Services["acsbridge"].Environment
	maps.DeleteFunc(environment, func(name, _ string) bool { return name == "GOMEMLIMIT" || strings.HasPrefix(name, "OTEL_") })
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(environment))); diff != "" {
		t.Errorf("settings of serve and docker-compose.yaml (-want +got):\n%s", diff)
	}
	// What it shows as the default is the default, but for what Compose sets.
	defaults := printed(t, []string{
		"ACSBRIDGE_RESOURCE=contoso=" + testGUID, "ACSBRIDGE_NATS_URL=nats://nats:4222", "ACSBRIDGE_STREAM_MAX_BYTES=2GiB",
	})
	if diff := cmp.Diff(defaults, have); diff != "" {
		t.Errorf("defaults and .env.example (-want +got):\n%s", diff)
	}
}

// TestCompose_traces checks that the variables of OpenTelemetry that docs/operations.md names
// reach the containers that make traces.
func TestCompose_traces(t *testing.T) {
	_, section, _ := strings.Cut(read(t, "docs/operations.md"), "\n## Traces\n")
	section, _, _ = strings.Cut(section, "\n## ")
	names := regexp.MustCompile("`(OTEL|_)[A-Z_]+").FindAllString(section, -1)
	if len(names) < 10 {
		t.Fatalf("the page names only %q", names)
	}
	for _, service := range []string{"acsbridge", "deliver"} {
		environment := readCompose(t, nil).Services[service].Environment
		for _, name := range names {
			name = strings.TrimPrefix(name, "`")
			if strings.HasPrefix(name, "_") {
				name = "OTEL_EXPORTER_OTLP" + name
			}
			family := strings.HasSuffix(name, "_") // OTEL_BSP_*
			if _, found := environment[name]; !found && !(family && slices.ContainsFunc(slices.Collect(maps.Keys(environment)), func(n string) bool { return strings.HasPrefix(n, name) })) {
				t.Errorf("%s does not reach %s", name, service)
			}
		}
	}
}

// TestCompose_secrets checks that serve reads the files of deploy/compose.secrets.yaml.
func TestCompose_secrets(t *testing.T) {
	var file struct {
		Services map[string]struct {
			Environment map[string]string
			Secrets     []string
		}
		Secrets map[string]struct{ File string }
	}
	text := strings.ReplaceAll(read(t, "deploy/compose.secrets.yaml"), "${ACSBRIDGE_NATS_USER:-acsbridge}", "acsbridge")
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bridge := file.Services["acsbridge"]
	for _, name := range bridge.Secrets {
		if got, want := file.Secrets[name].File, "./secrets/"+name; got != want {
			t.Errorf("secret %s is in %q, want %q", name, got, want)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat("s", 32)+"\n"), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	variables := []string{"ACSBRIDGE_RESOURCE=contoso=" + testGUID, "ACSBRIDGE_NATS_URL=nats://nats:4222"}
	used := 0
	for name, value := range bridge.Environment {
		used += strings.Count(value, "/run/secrets/")
		variables = append(variables, name+"="+strings.ReplaceAll(value, "/run/secrets", dir))
	}
	if used != len(bridge.Secrets) {
		t.Errorf("%d files are used of %v", used, bridge.Secrets)
	}
	printed(t, variables)
}
