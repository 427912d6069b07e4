package deploy_test

import (
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/verify"
)

// demoVariables are the variables of deploy/demo.env.
func demoVariables(t *testing.T) map[string]string {
	t.Helper()
	variables := map[string]string{}
	for line := range strings.Lines(read(t, "deploy/demo.env")) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), "="); found && !strings.HasPrefix(name, "#") {
			variables[name] = value
		}
	}
	return variables
}

// TestCompose_demoProfile checks that the bridge of the demo profile trusts the
// simulator, and that the simulator calls the bridge.
func TestCompose_demoProfile(t *testing.T) {
	s := containerSettings(t, demoVariables(t))
	compose := readCompose(t, demoVariables(t))
	simulator := compose.Services["simulator"]
	c := flags(t, simulator.Command)
	if got, want := s.Issuer, "http://"+c["--issuer-listen"]; got != want {
		t.Errorf("issuer %s, but the simulator is %s", got, want)
	}
	if got, want := s.OIDCConfigURL, s.Issuer+strings.TrimPrefix(verify.DefaultMetadataURL, verify.DefaultIssuer); got != want {
		t.Errorf("metadata at %s, want %s", got, want)
	}
	if got, want := s.Resource[0], "demo="+c["--audience"]; got != want {
		t.Errorf("resource %s, but the simulator signs for %s", got, want)
	}
	target, err := url.Parse(c["--target"])
	if err != nil {
		t.Fatal(err)
	}
	if _, port, _ := net.SplitHostPort(s.Listen); target.Port() != port || target.Path != s.CallbackPath {
		t.Errorf("the simulator calls %s, the bridge listens at %s%s", target, s.Listen, s.CallbackPath)
	}
	if got, want := simulator.NetworkMode, "service:acsbridge"; got != want {
		t.Errorf("network_mode %s, want %s: the bridge trusts plain http on loopback only", got, want)
	}
	// A bridge that is started again has a new network: Compose restarts the
	// simulator with it, and after a crash, which Compose does not see, the
	// simulator gives up in the old one.
	if !simulator.DependsOn["acsbridge"].Restart {
		t.Error("the simulator stays in the old network when Compose restarts the bridge")
	}
	if d, err := time.ParseDuration(c["--give-up"]); err != nil || d <= 0 || d > 30*time.Second {
		t.Errorf("the simulator gives up after %s, want half a minute at most", d)
	}
	// The bridge is ready once it has the simulator's keys; waiting for that
	// would be waiting for ever.
	if got, want := simulator.DependsOn["acsbridge"].Condition, "service_started"; got != want {
		t.Errorf("the simulator waits for the bridge to be %q, want %q", got, want)
	}
}
