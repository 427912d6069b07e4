package deploy_test

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"go.yaml.in/yaml/v3"

	"github.com/acsbridge/acsbridge/verify"
)

// composeFile is what the tests look at in docker-compose.yaml.
type composeFile struct {
	Services map[string]composeService
	Volumes  map[string]any
}

type composeService struct {
	Image           string
	Build           string
	Command         []string
	Environment     map[string]string
	Ports, Volumes  []string
	ReadOnly        bool     `yaml:"read_only"`
	CapDrop         []string `yaml:"cap_drop"`
	SecurityOpt     []string `yaml:"security_opt"`
	MemLimit        string   `yaml:"mem_limit"`
	NetworkMode     string   `yaml:"network_mode"`
	StopGracePeriod string   `yaml:"stop_grace_period"`
	PullPolicy      string   `yaml:"pull_policy"`
	Tmpfs           []string
	Restart         string
	Logging         struct{ Options map[string]string }
	DependsOn       map[string]struct {
		Condition string
		Restart   bool
	} `yaml:"depends_on"`
	Healthcheck struct {
		Test    []string
		Timeout string
	}
}

// readCompose reads docker-compose.yaml with the variables of the environment
// file put in, as docker compose --env-file does it. It fails for a variable that
// is required: without it, docker compose ps, logs and down would fail as well.
func readCompose(t *testing.T, variables map[string]string) composeFile {
	t.Helper()
	text := os.Expand(read(t, "docker-compose.yaml"), func(expression string) string {
		name, otherwise, found := strings.Cut(expression, ":")
		if value := variables[name]; value != "" || !found {
			return value
		}
		standard, optional := strings.CutPrefix(otherwise, "-")
		if !optional {
			t.Fatalf("%s is required", name)
		}
		return standard
	})
	var file composeFile
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	for name, value := range file.Services["acsbridge"].Environment {
		if value == "" { // Compose takes it from the environment file
			file.Services["acsbridge"].Environment[name] = variables[name]
		}
	}
	return file
}

// realVariables are those of a user with a resource in Azure.
func realVariables() map[string]string {
	return map[string]string{"ACSBRIDGE_RESOURCE": "contoso=" + testGUID}
}

// dockerfile returns the instructions of the Dockerfile's last stage, each
// keyword with its arguments, and the base image of every stage.
func dockerfile(t *testing.T) (last map[string][]string, bases []string) {
	t.Helper()
	text := strings.ReplaceAll(read(t, "Dockerfile"), "\\\n", " ")
	for line := range strings.Lines(text) {
		keyword, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch keyword {
		case "", "#":
			continue
		case "FROM":
			last = map[string][]string{}
			words := strings.Fields(regexp.MustCompile(`--platform=\S+`).ReplaceAllString(rest, ""))
			bases = append(bases, words[0])
		}
		last[keyword] = append(last[keyword], strings.TrimSpace(rest))
	}
	return last, bases
}

// execForm parses the JSON form of ENTRYPOINT and CMD, which is YAML too.
func execForm(t *testing.T, instruction []string) []string {
	t.Helper()
	var words []string
	if len(instruction) != 1 || yaml.Unmarshal([]byte(instruction[0]), &words) != nil {
		t.Fatalf("%q is not one instruction in exec form", instruction)
	}
	return words
}

// containerSettings are the settings that serve has in its container.
func containerSettings(t *testing.T, variables map[string]string) *settings {
	t.Helper()
	image, _ := dockerfile(t)
	environment := image["ENV"]
	for name, value := range readCompose(t, variables).Services["acsbridge"].Environment {
		environment = append(environment, name+"="+value)
	}
	command := execForm(t, image["CMD"])
	if command[0] != "serve" {
		t.Fatalf("the image runs %q, want serve", command)
	}
	return effective(t, environment, command[1:]...)
}

func TestCompose_images(t *testing.T) {
	image, bases := dockerfile(t)
	compose := readCompose(t, nil) // as for docker compose down
	release := regexp.MustCompile(`^[a-z]+:\d+\.\d+\.\d+-[a-z]+$`)
	for _, base := range []string{bases[0], compose.Services["nats"].Image} {
		if !release.MatchString(base) {
			t.Errorf("image %s is not pinned to a release", base)
		}
	}
	if got, want := bases[len(bases)-1], "gcr.io/distroless/static-debian12:nonroot"; got != want {
		t.Errorf("last base image %s, want %s", got, want)
	}
	if got, want := image["USER"], []string{"65532:65532"}; !cmp.Equal(got, want) {
		t.Errorf("USER %v, want %v", got, want)
	}
	for name, service := range compose.Services {
		if !service.ReadOnly || !cmp.Equal(service.CapDrop, []string{"ALL"}) ||
			!cmp.Equal(service.SecurityOpt, []string{"no-new-privileges:true"}) {
			t.Errorf("service %s is not read-only without rights", name)
		}
		// One build, which others use and do not pull.
		ours := service.Image == "acsbridge:local"
		if builds := service.Build == "."; builds != (name == "acsbridge") || (ours && !builds) != (service.PullPolicy == "never") {
			t.Errorf("service %s: image %s, build %q, pull_policy %q", name, service.Image, service.Build, service.PullPolicy)
		}
		// What the image declares as a volume and no service mounts is left behind as
		// an anonymous volume each time.
		for _, volume := range image["VOLUME"] {
			mounted := slices.ContainsFunc(append(service.Volumes, service.Tmpfs...), func(mount string) bool {
				return mount == volume || strings.HasSuffix(mount, ":"+volume)
			})
			if ours && !mounted {
				t.Errorf("service %s: nothing is mounted at %s", name, volume)
			}
		}
		if options := service.Logging.Options; options["max-size"] == "" || options["max-file"] == "" {
			t.Errorf("service %s: logs without an end: %v", name, options)
		}
		if service.Restart != "unless-stopped" {
			t.Errorf("service %s: restart %q, want unless-stopped", name, service.Restart)
		}
		for _, port := range service.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("service %s publishes %s beyond this host", name, port)
			}
		}
	}
}

// TestCompose_settings checks that the bridge starts with the settings of its
// container, and that they fit the rest of the container.
func TestCompose_settings(t *testing.T) {
	s := containerSettings(t, realVariables())
	image, _ := dockerfile(t)
	bridge := readCompose(t, realVariables()).Services["acsbridge"]
	_, port, err := net.SplitHostPort(s.Listen)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := image["EXPOSE"], []string{port}; !cmp.Equal(got, want) {
		t.Errorf("EXPOSE %v, want %v", got, want)
	}
	if got, want := bridge.Ports, []string{"127.0.0.1:8080:" + port}; !cmp.Equal(got, want) {
		t.Errorf("ports %v, want %v", got, want)
	}
	if got, want := image["VOLUME"], []string{s.DataDir}; !cmp.Equal(got, want) {
		t.Errorf("VOLUME %v, want %v", got, want)
	}
	// A copied directory has mode 0755, and what is in it keeps its own.
	copied, build := "--from=build --chown=65532:65532 /out/volume/ /", "mkdir -p -m 0700 /out/volume"+s.DataDir
	if !slices.Contains(image["COPY"], copied) || !strings.Contains(read(t, "Dockerfile"), build) {
		t.Errorf("the data directory is not made for the user alone: want %s and COPY %s", build, copied)
	}
	if got, want := bridge.Volumes, []string{"bridge-data:" + s.DataDir}; !cmp.Equal(got, want) {
		t.Errorf("volumes %v, want %v", got, want)
	}
	if s.Issuer != verify.DefaultIssuer || s.OIDCConfigURL != verify.DefaultMetadataURL {
		t.Errorf("issuer %s and metadata %s, want those of ACS", s.Issuer, s.OIDCConfigURL)
	}
	grace, err := time.ParseDuration(bridge.StopGracePeriod)
	if least := s.ShutdownDelay + s.ShutdownTimeout + 5*time.Second; err != nil || grace < least {
		t.Errorf("stop_grace_period %s (%v), want at least %s", grace, err, least)
	}
	soft := mebibytes(t, bridge.Environment["GOMEMLIMIT"], "MiB")
	hard := mebibytes(t, bridge.MemLimit, "m")
	if inFlight := s.MaxInFlight / 4; soft > hard*9/10 || soft < inFlight {
		t.Errorf("GOMEMLIMIT %d MiB, want between the %d MiB of all callbacks in flight and 90 %% of %d MiB", soft, inFlight, hard)
	}
}

// mebibytes parses a size with a unit.
func mebibytes(t *testing.T, text, unit string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSuffix(text, unit))
	if err != nil || !strings.HasSuffix(text, unit) {
		t.Fatalf("%q is not a number of %s", text, unit)
	}
	return n
}

// TestCompose_healthchecks checks that the health check of the bridge is the command health,
// which reads where the bridge listens from the same variable, and that it is given
// time to answer.
func TestCompose_healthchecks(t *testing.T) {
	image, _ := dockerfile(t)
	bridge := readCompose(t, realVariables()).Services["acsbridge"]
	check := bridge.Healthcheck
	want := append(append([]string{"CMD"}, execForm(t, image["ENTRYPOINT"])...), "health")
	if !cmp.Equal(check.Test, want) {
		t.Errorf("health check %q, want %q", check.Test, want)
	}
	if got, want := bridge.DependsOn["nats"].Condition, "service_healthy"; got != want {
		t.Errorf("the bridge waits for NATS to be %q, want %q", got, want)
	}
	if timeout, err := time.ParseDuration(check.Timeout); err != nil || timeout <= 4*time.Second {
		t.Errorf("timeout %s (%v), want more than the 4 seconds of the command", timeout, err)
	}
}

// TestCompose_natsConfig checks deploy/nats/nats.conf with the server's own parser,
// and against the services that use it.
func TestCompose_natsConfig(t *testing.T) {
	options, err := server.ProcessConfigFile("nats/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	if !options.JetStream || !options.SyncAlways {
		t.Errorf("JetStream %v, sync always %v, want both", options.JetStream, options.SyncAlways)
	}
	compose := readCompose(t, realVariables())
	service := compose.Services["nats"]
	if got, want := service.Volumes, []string{
		"./deploy/nats/nats.conf:/etc/nats/nats.conf:ro", "nats-data:" + options.StoreDir,
	}; !cmp.Equal(got, want) {
		t.Errorf("volumes %v, want %v", got, want)
	}
	if got, want := service.Command, []string{"nats-server", "--config", "/etc/nats/nats.conf"}; !cmp.Equal(got, want) {
		t.Errorf("command %v, want %v", got, want)
	}
	if got, want := service.Ports, []string{fmt.Sprintf("127.0.0.1:%d:%d", options.Port, options.Port)}; !cmp.Equal(got, want) {
		t.Errorf("ports %v, want %v", got, want)
	}
	health := fmt.Sprintf("http://%s:%d/healthz", options.HTTPHost, options.HTTPPort)
	if test := service.Healthcheck.Test; test[len(test)-1] != health {
		t.Errorf("health check %v, want it to ask %s", test, health)
	}
	s := containerSettings(t, realVariables())
	if want := fmt.Sprintf("nats://nats:%d", options.Port); s.NatsURL != want {
		t.Errorf("the bridge connects to %s, want %s", s.NatsURL, want)
	}
	for _, name := range []string{"nats-data", "bridge-data"} {
		if _, ok := compose.Volumes[name]; !ok {
			t.Errorf("volume %s is not declared", name)
		}
	}
}
