package deploy_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
)

// .ci/helm checks the chart with helm; here it is held against the bridge.

// ofTheChart are the settings that the chart makes of other values than config.
var ofTheChart = append([]string{
	"admin-listen", "admin-token-file", "admin-insecure", "tls-cert", "tls-key", "callback-key", "eventgrid-key",
	"nats-creds", "nats-nkey", "nats-password-file", "nats-token-file", "nats-ca", "nats-cert", "nats-key",
	"console-token-file", "console-nats-context", "console-nats-creds", "console-nats-nkey", "console-nats-password-file", "console-nats-token-file",
	"journal", "shutdown-delay", "shutdown-timeout",
}, ofTheImage...)

// TestChart_settings checks that the schema of the values knows every setting of serve.
func TestChart_settings(t *testing.T) {
	var schema struct {
		Properties map[string]struct{ Properties map[string]any }
	}
	if err := json.Unmarshal([]byte(read(t, "deploy/helm/acsbridge/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	var want []string
	for setting := range printed(t, []string{"ACSBRIDGE_RESOURCE=contoso=" + testGUID}) {
		if !slices.Contains(ofTheChart, setting) {
			want = append(want, setting)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(schema.Properties["config"].Properties))); diff != "" {
		t.Errorf("settings of serve and of the schema (-want +got):\n%s", diff)
	}
}

// manifest returns the first one of a kind that the chart makes of a set of values.
func manifest(t *testing.T, file, kind string, into any) {
	t.Helper()
	for text := range strings.SplitSeq(read(t, file), "\n---\n") {
		if regexp.MustCompile(`(?m)^kind: ` + kind + `$`).MatchString(text) {
			if err := yaml.Unmarshal([]byte(text), into); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("%s has no %s", file, kind)
}

// TestChart_bridgeStarts checks that serve takes the configuration that the chart makes of
// each set of values, and that the Pod gives it the time to stop.
func TestChart_bridgeStarts(t *testing.T) {
	files, err := filepath.Glob("helm/testdata/*.values.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%v, %v", files, err)
	}
	image, _ := dockerfile(t)
	for _, values := range files {
		file := "deploy/" + strings.TrimSuffix(values, ".values.yaml") + ".yaml"
		var config struct{ Data map[string]string }
		manifest(t, file, "ConfigMap", &config)
		// The files of Secrets, as they would be mounted.
		mounted := t.TempDir()
		text := strings.ReplaceAll(config.Data["bridge.yaml"], "/etc/acsbridge", mounted)
		cert, key := bridgetest.Pair(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
		for _, name := range regexp.MustCompile(regexp.QuoteMeta(mounted)+`/\S+`).FindAllString(text, -1) {
			content := strings.Repeat("s", 32) + filepath.Base(name) + "\n" // no two are the same
			switch filepath.Base(name) {
			case "tls.crt", "nats-ca":
				content = cert
			case "tls.key":
				content = key
			}
			if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte(content), 0o400); err != nil {
				t.Fatal(err)
			}
		}
		path := bridgetest.WriteFile(t, "bridge.yaml", text)
		s := effective(t, image["ENV"], "--config="+path)
		var set struct {
			Spec struct {
				Template struct {
					Spec struct {
						Seconds int  `yaml:"terminationGracePeriodSeconds"`
						Links   bool `yaml:"enableServiceLinks"`
					}
				}
			}
		}
		set.Spec.Template.Spec.Links = true
		manifest(t, file, "StatefulSet", &set)
		pod := set.Spec.Template.Spec
		if least := s.ShutdownDelay + s.ShutdownTimeout + 5*time.Second; time.Duration(pod.Seconds)*time.Second < least {
			t.Errorf("%s: terminationGracePeriodSeconds %d, want at least %v", file, pod.Seconds, least)
		}
		if pod.Links {
			t.Errorf("%s: the kubelet adds variables for each Service", file)
		}
	}
}

// TestChart_rules checks that the chart has the alerts that promtool tests.
func TestChart_rules(t *testing.T) {
	if read(t, "deploy/helm/acsbridge/files/rules.yaml") != read(t, "deploy/prometheus/rules.yaml") {
		t.Error("cp deploy/prometheus/rules.yaml deploy/helm/acsbridge/files/rules.yaml")
	}
}

// TestChart_natsValues checks that the NATS chart gets every password that the accounts
// need, and includes them.
func TestChart_natsValues(t *testing.T) {
	var values struct {
		Config struct {
			Merge map[string]string
		}
		Container struct{ Env map[string]any }
	}
	text := read(t, "deploy/helm/nats.values.yaml")
	if err := yaml.Unmarshal([]byte(text), &values); err != nil {
		t.Fatal(err)
	}
	if got := values.Config.Merge["$include"]; got != "./accounts.conf" {
		t.Errorf("it includes %q", got)
	}
	passwords := map[string]bool{}
	accounts := read(t, "deploy/nats/accounts.conf")
	for _, include := range regexp.MustCompile(`(?m)^\s*include (\S+)$`).FindAllStringSubmatch(accounts, -1) {
		accounts += read(t, "deploy/nats/"+include[1])
		if flag := `configMap.merge.data.` + strings.ReplaceAll(include[1], ".", `\.`) + "=deploy/nats/" + include[1]; !strings.Contains(text, flag) {
			t.Errorf("the command has no %s", flag)
		}
	}
	for _, variable := range regexp.MustCompile(`\$(\w+_PASSWORD)`).FindAllStringSubmatch(accounts, -1) {
		passwords[variable[1]] = true
	}
	delete(values.Container.Env, "GOMEMLIMIT")
	if diff := cmp.Diff(slices.Sorted(maps.Keys(passwords)), slices.Sorted(maps.Keys(values.Container.Env))); diff != "" {
		t.Errorf("passwords of the accounts and of the chart (-want +got):\n%s", diff)
	}
}
