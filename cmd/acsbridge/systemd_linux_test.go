package main

import (
	"bufio"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
)

// TestServe_notReady checks that a bridge that cannot start does not say that
// it is ready, and that it goes on when the supervisor is deaf.
func TestServe_notReady(t *testing.T) {
	ignoreEnvironment(t)
	conn := bridgetest.NotifySocket(t, filepath.Join(t.TempDir(), "notify"))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, test := range []struct {
		arg  string
		want int
	}{
		{"--leeway=x", exitUsage},
		{"--listen=" + taken.Addr().String(), exitFailed},
	} {
		cmd := exec.Command("acsbridge", "serve", "--resource=contoso="+testGUID, "--data-dir="+t.TempDir(), test.arg)
		out, err := cmd.CombinedOutput()
		exit, _ := errors.AsType[*exec.ExitError](err)
		if exit == nil || exit.ExitCode() != test.want {
			t.Errorf("%s: %v, want status %d\n%s", test.arg, err, test.want, out)
		}
	}
	if got := bridgetest.State(conn, 10*time.Millisecond); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
}

// TestServe_journal checks that the journal learns the level of every line of the
// built binary, also of what it says when its configuration is bad.
func TestServe_journal(t *testing.T) {
	ignoreEnvironment(t)
	service, journal := bridgetest.JournalStream(t)
	cmd := exec.Command("acsbridge", "serve", "--leeway=1h", "--listen=y")
	cmd.Stderr = service
	if err := cmd.Run(); err == nil {
		t.Error("a bad configuration is taken")
	}
	service.Close()
	lines := 0
	for scanner := bufio.NewScanner(journal); scanner.Scan(); lines++ {
		if !strings.HasPrefix(scanner.Text(), "<3>") {
			t.Errorf("line %q, want level 3", scanner.Text())
		}
	}
	if lines < 4 {
		t.Errorf("%d lines, want one for each problem", lines)
	}
}

// TestServe_crash checks that a crash does not look like a bad configuration, after
// which systemd does not start the bridge again: both would be exit status 2.
func TestServe_crash(t *testing.T) {
	ignoreEnvironment(t)
	t.Setenv("GOTRACEBACK", "crash") // as the unit has it
	log := must(os.Create(filepath.Join(t.TempDir(), "log")))
	defer log.Close()
	cmd := exec.Command("sh", "-c", `ulimit -c 0; exec acsbridge "$@"`, "sh", "serve", "--resource=contoso="+testGUID,
		"--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--nats-listen=127.0.0.1:0", "--data-dir="+t.TempDir())
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	running := regexp.MustCompile(`acsbridge is running`)
	natstest.Until(t, func() bool { return running.Match(must(os.ReadFile(log.Name()))) })
	// Go takes it for the wish to see a trace, and ends as for a panic.
	if err := cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	exit, _ := errors.AsType[*exec.ExitError](err)
	if exit == nil || exit.ExitCode() == exitUsage {
		t.Errorf("%v, want another end than exit status %d", err, exitUsage)
	}
}
