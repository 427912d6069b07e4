//go:build unix && !solaris && !illumos && !netbsd && !openbsd && !aix

// Package diskfree tells how much room a file system has left.
package diskfree

import "golang.org/x/sys/unix"

// Bytes returns what an ordinary user may still write to the file system that
// holds a directory.
func Bytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
