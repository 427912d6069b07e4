// Package usertest has tests act as a user without the rights of root.
package usertest

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// AsOther calls f without the right to what root owns. A user other than root does
// not have it anyway.
func AsOther(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		f()
		return
	}
	runtime.LockOSThread() // the user of file access belongs to the thread
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

// Unreadable returns a file that [AsOther] cannot read, in a directory that it can.
func Unreadable(t *testing.T, content string) string {
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
	path := filepath.Join(dir, "unreadable")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, mode := range map[string]os.FileMode{dir: 0o755, path: mode} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	return path
}
