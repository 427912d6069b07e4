package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// asOtherUser calls f without the right to what root owns. A user other than root
// has none anyway.
func asOtherUser(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		f()
		return
	}
	runtime.LockOSThread() // what follows is a matter of the thread
	defer runtime.UnlockOSThread()
	if err := unix.Setfsuid(65532); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setfsuid(0); err != nil {
			panic(err)
		}
	}()
	f()
}

// sealed returns a file that its owner alone may read, and only root as long as
// the tests are root's.
func sealed(t *testing.T, name string) string {
	t.Helper()
	mode := os.FileMode(0o600)
	if os.Getuid() != 0 {
		mode = 0
	}
	// The directory that testing makes, and perhaps that of $TMPDIR, are for root alone.
	dir, err := os.MkdirTemp("/tmp", "acsbridge-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(strings.Repeat("a", minAdminToken)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, mode := range map[string]os.FileMode{dir: 0o755, path: mode} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// TestSettings_unreadableFile checks what is said of a file that the process may
// not read: a secret of Docker Compose keeps the owner and the mode that its file
// has on the host.
func TestSettings_unreadableFile(t *testing.T) {
	ignoreEnvironment(t)
	file := sealed(t, "secret")
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("permission denied: this process has user id %d and group id %d, and the mode of %s is %04o; give it to that user with chown",
		os.Getuid(), os.Getgid(), file, info.Mode().Perm())
	for _, flag := range []string{
		"--config=", "--nats-password-file=", "--nats-token-file=", "--nats-creds=", "--nats-nkey=", "--nats-ca=",
		"--admin-token-file=", "--callback-key=a=", "--eventgrid-key=a=", "--tls-key=" + file + " --tls-cert=",
	} {
		t.Run(flag, func(t *testing.T) {
			asOtherUser(t, func() {
				args := append(strings.Fields(flag+file), "--resource=contoso="+testGUID)
				if _, _, err := parseServe(t, args...); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %s", err, want)
				}
			})
		})
	}
	t.Run("health", func(t *testing.T) {
		asOtherUser(t, func() {
			err := run(t.Context(), []string{"health", "--admin-token-file=" + file}, stdio{})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %s", err, want)
			}
		})
	})
}

// TestBridge_unwritableDataDir checks what is said of a data directory that
// belongs to another user, such as one of the host in the place of a volume.
func TestBridge_unwritableDataDir(t *testing.T) {
	s := onLoopback(t, "--resource=contoso="+testGUID)
	s.DataDir = filepath.Dir(sealed(t, "other"))
	if err := os.Chmod(s.DataDir, 0o555); err != nil {
		t.Fatal(err)
	}
	asOtherUser(t, func() {
		_, err := newBridge(s, slog.New(slog.DiscardHandler))
		want := fmt.Sprintf("the mode of %s is 0555; give it to that user with chown", s.DataDir)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	})
}
