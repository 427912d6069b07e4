//go:build faults

package failpoint

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestMain is also the process that dies.
func TestMain(m *testing.M) {
	if name := os.Getenv("CRASH_TEST_FILE"); name != "" {
		die(name)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// die writes and syncs, writes and does not, and passes points.
func die(name string) {
	file, err := os.Create(name)
	if err != nil {
		panic(err)
	}
	f := Volatile(file)
	_, err = f.WriteAt([]byte("synced"), 0)
	err = errors.Join(err, f.Sync())
	_, written := f.WriteAt([]byte("SYN+more"), 0)
	both := make([]byte, 8)
	_, read := f.ReadAt(both, 0)
	if err := errors.Join(err, written, read); err != nil || string(both) != "SYN+more" {
		panic(err)
	}
	for range 3 {
		At("here")
	}
	At("there")
}

func TestAt(t *testing.T) {
	for name, test := range map[string]struct {
		env  []string
		dies bool
		want string
	}{
		"unasked":          {nil, false, "SYN+more"},
		"first pass":       {[]string{"ACSBRIDGE_FAILPOINT=here:1"}, true, "SYN+more"},
		"third pass":       {[]string{"ACSBRIDGE_FAILPOINT=here:3"}, true, "SYN+more"},
		"no fourth pass":   {[]string{"ACSBRIDGE_FAILPOINT=here:4"}, false, "SYN+more"},
		"another point":    {[]string{"ACSBRIDGE_FAILPOINT=there:1"}, true, "SYN+more"},
		"no such point":    {[]string{"ACSBRIDGE_FAILPOINT=nowhere:1"}, false, "SYN+more"},
		"without unsynced": {[]string{"ACSBRIDGE_FAILPOINT=here:2", "ACSBRIDGE_VOLATILE=1"}, true, "synced"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "file")
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(test.env, "CRASH_TEST_FILE="+file)
			err := cmd.Run()
			status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if killed := status.Signaled() && status.Signal() == syscall.SIGKILL; killed != test.dies || !killed && err != nil {
				t.Errorf("the process ended with %v, want it killed: %v", cmd.ProcessState, test.dies)
			}
			if got, err := os.ReadFile(file); err != nil || string(got) != test.want {
				t.Errorf("the file holds %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestVolatile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	v := &volatile{File: file}
	read := func(n int, at int64) string {
		b := make([]byte, n)
		n, err := v.ReadAt(b, at)
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	write := func(text string, at int64) {
		if n, err := v.WriteAt([]byte(text), at); n != len(text) || err != nil {
			t.Fatal(n, err)
		}
	}
	write("0123456789", 0)
	write("abc", 4)
	if got := read(20, 2); got != "23abc789" {
		t.Errorf("read %q before the sync", got)
	}
	if err := v.Sync(); err != nil {
		t.Fatal(err)
	}
	write("X", 9)
	if got := read(4, 6); got != "c78X" {
		t.Errorf("read %q after the sync", got)
	}
	if on, err := os.ReadFile(name); err != nil || string(on) != "0123abc789" {
		t.Errorf("the disk has %q, %v", on, err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if on, err := os.ReadFile(name); err != nil || string(on) != "0123abc78X" {
		t.Errorf("the disk has %q, %v after the file was closed", on, err)
	}
}

func TestBroken(t *testing.T) {
	defer func(before string) { broken = before }(broken)
	broken = "fence"
	if !Broken("fence") || Broken("order") {
		t.Error("a guard is left out that was not named, or one that was is not")
	}
}
