package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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

// state returns the next state that the service tells, "" when none comes in time.
func state(conn *net.UnixConn, within time.Duration) string {
	_ = conn.SetReadDeadline(time.Now().Add(within))
	buffer := make([]byte, 4096)
	n, _ := conn.Read(buffer)
	return string(buffer[:n])
}

// TestServe_notify checks that the bridge says when it is ready, which is not
// before it takes callbacks, and when it stops.
func TestServe_notify(t *testing.T) {
	for _, test := range []struct{ name, socket string }{
		{"path", filepath.Join(t.TempDir(), "notify")},
		{"abstract", fmt.Sprintf("@acsbridge-test-%d", os.Getpid())},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := onLoopback(t, "--resource=contoso="+testGUID)
			conn := notifySocket(t, test.socket)
			b, err := newBridge(s, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- b.run(ctx) }()
			if got := state(conn, awaitAtMost); got != "READY=1" {
				t.Errorf("told %q, want READY=1", got)
			}
			response, err := http.Post(b.callbackURL(), "application/json", strings.NewReader("[]"))
			if err != nil || response.StatusCode == http.StatusNotFound {
				t.Errorf("ready, but a callback gets %v, error %v", response, err)
			}
			stop()
			if got := state(conn, awaitAtMost); got != "STOPPING=1" {
				t.Errorf("told %q, want STOPPING=1", got)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
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
		t.Errorf("told %q, want nothing", got)
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

// TestNewLogger_journal checks that each line has the level that the journal
// understands, and none elsewhere.
func TestNewLogger_journal(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		t.Run(format, func(t *testing.T) {
			service, journal := journalStream(t)
			s := &settings{processSettings: processSettings{LogFormat: format, LogLevel: "debug"}}
			log := func(l *slog.Logger) {
				l = l.With("room", "verify").WithGroup("callback")
				l.Debug("one\ntwo", "a", 1)
				l.Info("one\ntwo", "a", 1)
				l.Warn("one\ntwo", "a", 1)
				l.Error("one\ntwo", "a", 1)
			}
			log(newLogger(s, service))
			service.Close()
			var got, want []string
			for lines := bufio.NewScanner(journal); lines.Scan(); {
				level, rest, _ := strings.Cut(lines.Text(), ">")
				got = append(got, level+">")
				if !strings.Contains(rest, "one") || !strings.Contains(rest, "callback") || !strings.Contains(rest, "verify") {
					t.Errorf("line %q", lines.Text())
				}
			}
			if want = []string{"<7>", "<6>", "<4>", "<3>"}; !cmp.Equal(got, want) {
				t.Errorf("levels %q, want %q", got, want)
			}

			// Another stream than the one that systemd connected.
			other := must(os.Create(filepath.Join(t.TempDir(), "log")))
			log(newLogger(s, other))
			other.Close()
			if text := string(must(os.ReadFile(other.Name()))); strings.Contains(text, "<") {
				t.Errorf("levels in a file:\n%s", text)
			}
		})
	}
}

// TestServe_journal checks that the journal learns the level of every line of the
// built binary, also of what it says when its configuration is bad.
func TestServe_journal(t *testing.T) {
	ignoreEnvironment(t)
	service, journal := journalStream(t)
	cmd := exec.Command("acsbridge", "serve", "--admin-listen=x", "--listen=y", "--leeway=1h")
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
	name, value, _ := strings.Cut(strings.Join(unit(t)["Environment"], ""), "=")
	t.Setenv(name, value)
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
