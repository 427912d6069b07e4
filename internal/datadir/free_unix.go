//go:build unix && !solaris && !illumos && !netbsd && !openbsd && !aix

package datadir

import "golang.org/x/sys/unix"

// FreeBytes returns how many bytes an ordinary user may still write to the file
// system of a directory.
func FreeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
