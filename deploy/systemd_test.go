package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	unitFile        = "deploy/systemd/acsbridge.service"
	deliverUnitFile = "deploy/systemd/acsbridge-deliver@.service"
)

// maxExposure is what systemd-analyze finds open: a service that listens has 0.8 for
// its network alone. A restriction that is lost is 0.1 or more.
const maxExposure = 1.1

// unit returns the values of each key of a unit.
func unit(t *testing.T, file string) map[string][]string {
	t.Helper()
	keys := map[string][]string{}
	for line := range strings.Lines(read(t, file)) {
		if key, value, found := strings.Cut(strings.TrimSpace(line), "="); found && !strings.HasPrefix(key, "#") {
			keys[key] = append(keys[key], value)
		}
	}
	return keys
}

// TestUnit_fitsTheBridge holds the unit against the command line, the exit
// status and the times of the bridge.
func TestUnit_fitsTheBridge(t *testing.T) {
	keys := unit(t, unitFile)
	words := strings.Fields(strings.Join(keys["ExecStart"], " "))
	if len(words) < 2 || !strings.HasSuffix(words[0], "/acsbridge") || words[1] != "serve" {
		t.Fatalf("ExecStart %q does not serve", words)
	}
	// The file of settings is not here.
	args := append([]string{"--resource=contoso=" + testGUID}, words[2:]...)
	for i, word := range args {
		if word == "/etc/acsbridge/bridge.yaml" {
			args[i] = filepath.Join(t.TempDir(), "bridge.yaml")
			if err := os.WriteFile(args[i], []byte("leeway: 30s\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := effective(t, nil, args...)
	if want := "/var/lib/" + strings.Join(keys["StateDirectory"], ""); s.DataDir != want {
		t.Errorf("data directory %s, and the only writable one is %s", s.DataDir, want)
	}
	if got, want := keys["RestartPreventExitStatus"], []string{strconv.Itoa(usageStatus)}; !cmp.Equal(got, want) {
		t.Errorf("RestartPreventExitStatus %v, want %v", got, want)
	}
	// It must go on trying, be asked whether it is ready, and have time for that.
	for key, want := range map[string]string{
		"Type": "notify", "Restart": "always", "StartLimitIntervalSec": "0", "TimeoutStartSec": "180", "WatchdogSec": "60",
		"Environment": "GOTRACEBACK=crash", "SyslogLevel": "err",
		"StateDirectoryMode": "0700", "UMask": "0077", "LimitCORE": "0",
	} {
		if got := strings.Join(keys[key], " "); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	seconds, err := strconv.Atoi(strings.Join(keys["TimeoutStopSec"], ""))
	if least := s.ShutdownDelay + s.ShutdownTimeout + 5*time.Second; err != nil || time.Duration(seconds)*time.Second < least {
		t.Errorf("TimeoutStopSec %v, want at least %v", keys["TimeoutStopSec"], least)
	}
	files, err := strconv.Atoi(strings.Join(keys["LimitNOFILE"], ""))
	if err != nil || files < 2*s.MaxConnections {
		t.Errorf("LimitNOFILE %v leaves no room beside %d connections", keys["LimitNOFILE"], s.MaxConnections)
	}
}

// TestUnit_valid has systemd read the units. It does not start the services.
func TestUnit_valid(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not here")
	}
	// The command must be there; the binary is not installed.
	for file, name := range map[string]string{unitFile: "acsbridge.service", deliverUnitFile: "acsbridge-deliver@crm.service"} {
		copied := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(copied, []byte(strings.ReplaceAll(read(t, file), "/usr/local/bin/acsbridge", binary)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("systemd-analyze", "verify", copied).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: systemd-analyze: %v\n%s", name, err, out)
		}
	}
}

// TestUnit_hardened asks systemd-analyze how much of the system the services are
// exposed to. It does not start them.
func TestUnit_hardened(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not here")
	}
	for _, file := range []string{unitFile, deliverUnitFile} {
		out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--no-pager", "../"+file).CombinedOutput()
		text := string(out)
		if err != nil && strings.Contains(text, "unrecognized option") {
			t.Skip("systemd-analyze is too old to look at a file, which came with systemd 250")
		}
		level := exposureLevel.FindStringSubmatch(text)
		if err != nil || level == nil {
			t.Fatalf("systemd-analyze: %v\n%s", err, text)
		}
		exposure, err := strconv.ParseFloat(level[1], 64)
		if err != nil || exposure > maxExposure {
			t.Errorf("%s: exposed to %s, want %.1f at most:\n%s", file, level[1], maxExposure, text)
		}
		t.Logf("%s: exposure %s", file, level[1])
	}
}

var exposureLevel = regexp.MustCompile(`Overall exposure level for \S+: (\d+\.\d+)`)
