// Package deploy_test holds the files that deploy the bridge against the command
// line and the defaults that exist, and against each other. No container runs.
package deploy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	testGUID = "c3b7d7e8-4a3c-4a0b-9c55-0123456789ab"
	// usageStatus is the exit status of a bad configuration.
	usageStatus = 2
)

// binary is the built command.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "acsbridge-deploy-")
	if err == nil {
		binary = filepath.Join(dir, "acsbridge")
		var out []byte
		if out, err = exec.Command("go", "build", "-o", binary, "../cmd/acsbridge").CombinedOutput(); err != nil {
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

// settings are those settings of serve that the files here depend on.
type settings struct {
	Listen          string
	CallbackPath    string        `yaml:"callback-path"`
	AdminListen     string        `yaml:"admin-listen"`
	Issuer          string        `yaml:"issuer"`
	OIDCConfigURL   string        `yaml:"oidc-config-url"`
	Resource        []string      `yaml:"resource"`
	NatsURL         string        `yaml:"nats-url"`
	StreamMaxBytes  string        `yaml:"stream-max-bytes"`
	DataDir         string        `yaml:"data-dir"`
	MaxInFlight     int           `yaml:"max-in-flight"`
	MaxConnections  int           `yaml:"max-connections"`
	ShutdownDelay   time.Duration `yaml:"shutdown-delay"`
	ShutdownTimeout time.Duration `yaml:"shutdown-timeout"`
}

// effective returns the settings of serve with variables, each NAME=value, and args.
func effective(t *testing.T, variables []string, args ...string) *settings {
	t.Helper()
	s := new(settings)
	printConfig(t, s, variables, args...)
	return s
}

// printConfig decodes what serve prints of its configuration.
func printConfig(t *testing.T, into any, variables []string, args ...string) {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"serve", "--print-config"}, args...)...)
	cmd.Env = variables
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := yaml.Unmarshal(out, into); err != nil {
		t.Fatal(err)
	}
}

// flags returns the flags --name=value of a command that the binary takes.
func flags(t *testing.T, command []string) map[string]string {
	t.Helper()
	if out, err := exec.Command(binary, append(command[:len(command):len(command)], "--help")...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
	values := map[string]string{}
	for _, arg := range command {
		name, value, _ := strings.Cut(arg, "=")
		values[name] = value
	}
	return values
}

// read reads a file of the repository.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
