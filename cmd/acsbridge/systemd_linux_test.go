package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/acsbridge/acsbridge/internal/natstest"
)

// notifySocket is a socket as systemd gives one to a service of Type=notify.
func notifySocket(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return conn
}

// state returns the next state of the service, "" when none comes in time.
func state(conn *net.UnixConn, within time.Duration) string {
	_ = conn.SetReadDeadline(time.Now().Add(within))
	buffer := make([]byte, 4096)
	n, _ := conn.Read(buffer)
	return string(buffer[:n])
}

// TestServe_notReady checks that a bridge that cannot start does not say that
// it is ready, and that it goes on when the supervisor is deaf.
func TestServe_notReady(t *testing.T) {
	ignoreEnvironment(t)
	conn := notifySocket(t, filepath.Join(t.TempDir(), "notify"))
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
	if got := state(conn, 10*time.Millisecond); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
}

// journalStream returns both ends of a stream to the journal, and sets the variable
// that names it.
func journalStream(t *testing.T) (service, journal *os.File) {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(ends[0], &stat); err != nil {
		t.Fatal(err)
	}
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", stat.Dev, stat.Ino))
	service, journal = os.NewFile(uintptr(ends[0]), "service"), os.NewFile(uintptr(ends[1]), "journal")
	t.Cleanup(func() { service.Close(); journal.Close() })
	return service, journal
}

// TestServe_journal checks that the journal learns the level of every line of the
// built binary, also of what it says when its configuration is bad.
func TestServe_journal(t *testing.T) {
	ignoreEnvironment(t)
	service, journal := journalStream(t)
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
