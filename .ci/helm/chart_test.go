// Package helm_test checks the chart deploy/helm/acsbridge with helm, which it builds: lint,
// what the templates make of the values in deploy/helm/testdata, decoded strictly as the
// types of Kubernetes, and compared with the files beside them.
//
//	go test ./... -update    rewrites those files; review the diff
package helm_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the files in deploy/helm/testdata; review the diff")

const (
	chart    = "../../deploy/helm/acsbridge"
	testdata = "../../deploy/helm/testdata"
)

// helm is the built command.
var helm string

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "acsbridge-helm-")
	if err == nil {
		helm = filepath.Join(dir, "helm")
		var out []byte
		if out, err = exec.Command("go", "build", "-o", helm, "helm.sh/helm/v4/cmd/helm").CombinedOutput(); err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
	}
	status := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		status = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(status)
}

// run runs helm and returns what it prints.
func run(args ...string) (stdout, stderr string, err error) {
	var out, errors bytes.Buffer
	cmd := exec.Command(helm, args...)
	cmd.Stdout, cmd.Stderr = &out, &errors
	err = cmd.Run()
	return out.String(), errors.String(), err
}

// kinds are the types of what the chart makes.
var kinds = map[string]func() any{
	"ConfigMap":           func() any { return new(core.ConfigMap) },
	"Service":             func() any { return new(core.Service) },
	"ServiceAccount":      func() any { return new(core.ServiceAccount) },
	"StatefulSet":         func() any { return new(apps.StatefulSet) },
	"PodDisruptionBudget": func() any { return new(policy.PodDisruptionBudget) },
	"NetworkPolicy":       func() any { return new(networking.NetworkPolicy) },
	"Ingress":             func() any { return new(networking.Ingress) },
	"HTTPRoute":           func() any { return new(gateway.HTTPRoute) },
	"ServiceMonitor":      func() any { return new(monitoring.ServiceMonitor) },
	"PrometheusRule":      func() any { return new(monitoring.PrometheusRule) },
}

// decode reads the manifests by kind and name. A member that its type does not have is an
// error.
func decode(t *testing.T, manifests string) map[string]any {
	t.Helper()
	objects := map[string]any{}
	for text := range strings.SplitSeq(manifests, "\n---\n") {
		var head struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if err := yaml.Unmarshal([]byte(text), &head); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if head.Kind == "" {
			continue
		}
		made := kinds[head.Kind]
		if made == nil {
			t.Fatalf("kind %q is not known here\n%s", head.Kind, text)
		}
		object := made()
		if err := yaml.UnmarshalStrict([]byte(text), object); err != nil {
			t.Errorf("%s %s: %v", head.Kind, head.Metadata.Name, err)
		}
		objects[head.Kind+" "+head.Metadata.Name] = object
	}
	return objects
}

// TestChart lints the chart and holds what it makes of each set of values against its
// golden file.
func TestChart(t *testing.T) {
	sets, err := filepath.Glob(testdata + "/*.values.yaml")
	if err != nil || len(sets) < 3 {
		t.Fatalf("sets of values: %v, %v", sets, err)
	}
	for _, values := range sets {
		name := strings.TrimSuffix(filepath.Base(values), ".values.yaml")
		t.Run(name, func(t *testing.T) {
			if out, stderr, err := run("lint", "--strict", "--quiet", chart, "--values", values); err != nil {
				t.Fatalf("lint: %v\n%s%s", err, out, stderr)
			}
			got, stderr, err := run("template", "calls", chart, "--namespace", "calls", "--values", values)
			if err != nil {
				t.Fatalf("template: %v\n%s", err, stderr)
			}
			checkPods(t, decode(t, got))
			golden := filepath.Join(testdata, name+".yaml")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || string(want) != got {
				t.Errorf("%s (%v) is not what helm makes; go test -update rewrites it", golden, err)
			}
		})
	}
}

// checkPods holds the parts against each other: every file that the container mounts is of
// a volume, every Service selects the Pods, and they have time to stop.
func checkPods(t *testing.T, objects map[string]any) {
	t.Helper()
	var set *apps.StatefulSet
	for _, object := range objects {
		if s, ok := object.(*apps.StatefulSet); ok {
			set = s
		}
	}
	pod := set.Spec.Template.Spec
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
	}
	for _, claim := range set.Spec.VolumeClaimTemplates {
		volumes[claim.Name] = true
	}
	container := pod.Containers[0]
	for _, mount := range container.VolumeMounts {
		if !volumes[mount.Name] {
			t.Errorf("no volume %s for %s", mount.Name, mount.MountPath)
		}
	}
	ports := map[string]bool{}
	for _, port := range container.Ports {
		ports[port.Name] = true
	}
	for key, object := range objects {
		service, ok := object.(*core.Service)
		if !ok {
			continue
		}
		for label, value := range service.Spec.Selector {
			if set.Spec.Template.Labels[label] != value {
				t.Errorf("%s selects %s=%s, which the Pods do not have", key, label, value)
			}
		}
		for _, port := range service.Spec.Ports {
			if !ports[port.TargetPort.StrVal] {
				t.Errorf("%s: the container has no port %s", key, port.TargetPort.StrVal)
			}
		}
	}
	if _, found := objects["Service "+set.Spec.ServiceName]; !found {
		t.Errorf("no Service %s", set.Spec.ServiceName)
	}
}

// TestChart_refuses checks that values with a mistake make nothing, and that the mistake is
// named.
func TestChart_refuses(t *testing.T) {
	minimal := []string{"template", "calls", chart, "--values", testdata + "/minimal.values.yaml"}
	for _, test := range []struct{ set, want string }{
		{"replicaCounts=3", "replicaCounts"},
		{"config.resource={contoso}", "/config/resource/0"},
		{"config.nats-url=", "/config/nats-url"},
		{"config.leway=30s", "leway"},
		{"config.leeway=30", "/config/leeway"},
		{"config.listen=:80", "listen"},
		{"networkPolicy.egressPorts={otlp}", "/networkPolicy/egressPorts/0"},
		{"secretFiles.nats-creds.secretName=x", "key"},
		{"metrics.enabled=true", "admin-token-file"},
		{"persistence.accessModes={ReadWriteMany}", "/persistence/accessModes/0"},
	} {
		out, stderr, err := run(append(minimal, "--set", test.set)...)
		if err == nil || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: %v, want an error with %q\n%s%s", test.set, err, test.want, out, stderr)
		}
	}
}
