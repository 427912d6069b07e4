package faults_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// volume is an ext4 file system in an image that is mounted by a loop device. Its power
// can be cut.
type volume struct {
	t     testing.TB
	image string
	dir   string // where it is mounted
}

// newVolume makes a volume with an image in a directory, and mounts it.
func newVolume(t testing.TB, in string, megabytes int64, features ...string) *volume {
	t.Helper()
	v := &volume{t: t, image: filepath.Join(in, "image"), dir: t.TempDir()}
	file, err := os.Create(v.image)
	if err == nil {
		err = errors.Join(file.Truncate(megabytes<<20), file.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if text, err := exec.Command("mkfs.ext4", append(append([]string{"-q", "-F"}, features...), v.image)...).CombinedOutput(); err != nil {
		t.Skipf("needs mkfs.ext4 to make a file system: %v: %s", err, text)
	}
	v.mount()
	return v
}

func (v *volume) mount() {
	v.t.Helper()
	mount(v.t, v.dir, "-o", "loop", v.image)
}

// mount mounts a file system until the test ends, or skips the test without the right
// to.
func mount(t testing.TB, dir string, args ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a file system")
	}
	if text, err := exec.Command("mount", append(args, dir)...).CombinedOutput(); err != nil {
		t.Skipf("needs the right to mount a file system: %v: %s", err, text)
	}
	t.Cleanup(func() { _ = unmount(dir) }) // unless it is gone already
}

// memory mounts a file system in memory.
func memory(t testing.TB, size string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	mount(t, dir, "-t", "tmpfs", "-o", "size="+size, "tmpfs")
	return dir
}

// unmount waits for processes that are ending.
func unmount(dir string) error {
	var err error
	for range 100 {
		if err = unix.Unmount(dir, 0); !errors.Is(err, unix.EBUSY) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

// cut cuts the volume's power: nothing reaches the disk any more. xfstests simulates power
// cuts in the same way (src/godown.c there). Not simulated is a disk that does not flush
// its cache.
func (v *volume) cut() {
	v.t.Helper()
	const (
		shutdown   = 0x8004587d // EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32)
		noLogFlush = 2          // EXT4_GOING_FLAGS_NOLOGFLUSH
	)
	dir, err := os.Open(v.dir)
	if err != nil {
		v.t.Fatal(err)
	}
	defer dir.Close()
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), shutdown, noLogFlush); err != nil {
		v.t.Skipf("needs a kernel whose ext4 can be shut down: %v", err)
	}
}

// restore mounts the volume again. Its users must have ended.
func (v *volume) restore() {
	v.t.Helper()
	if err := unmount(v.dir); err != nil {
		v.t.Fatalf("unmount: %v; in use by %s", err, v.users())
	}
	v.mount()
}

// users returns the processes that have files of the volume open.
func (v *volume) users() string {
	text, _ := exec.Command("fuser", "-vm", v.dir).CombinedOutput() // only for a message
	return strings.TrimSpace(string(text))
}

// fill writes a file until so many bytes are left, and returns the function that removes
// it.
func fill(t testing.TB, dir string, left int64) (empty func()) {
	t.Helper()
	name := filepath.Join(dir, "filler")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for size := int64(0); ; { // other processes may be writing
		var state unix.Statfs_t
		if err := unix.Statfs(dir, &state); err != nil {
			t.Fatal(err)
		}
		more := int64(state.Bavail)*state.Bsize - left
		if more <= 0 {
			break
		}
		if err := unix.Fallocate(int(file.Fd()), 0, size, more); err == nil {
			size += more
		} else if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}
