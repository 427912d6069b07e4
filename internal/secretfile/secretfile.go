// Package secretfile looks at files that hold a secret before they are trusted.
package secretfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Check refuses a file that cannot be read, that is not a regular file, or that users
// outside its group can read or change. The group may read it: that is how
// Kubernetes hands a secret to a process that is not root.
func Check(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return Explain(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", name)
	}
	// Windows has no such bits and shows them all as set.
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o007 != 0 {
		return fmt.Errorf("%s holds a secret and every user of this host can read it (mode %04o); run chmod o= on it",
			name, info.Mode().Perm())
	}
	return nil
}

// Explain adds to an error about a file or directory without the permission who
// the process is and what the mode is: in a container neither is plain to see. Any
// other error comes back as it is.
func Explain(err error) error {
	path, ok := errors.AsType[*fs.PathError](err)
	if !ok || !errors.Is(err, fs.ErrPermission) || os.Getuid() < 0 {
		return err
	}
	// What cannot be looked at is in a directory that cannot be entered.
	for name := path.Path; ; name = filepath.Dir(name) {
		if info, statErr := os.Stat(name); statErr == nil {
			return fmt.Errorf("%w: this process has user id %d and group id %d, and the mode of %s is %04o; "+
				"give it to that user with chown", err, os.Getuid(), os.Getgid(), name, info.Mode().Perm())
		}
		if name == filepath.Dir(name) {
			return err
		}
	}
}
