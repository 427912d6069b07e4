// Package secretfile reads files that hold a secret, and refuses those that every
// user of the host can read or change.
package secretfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/acsbridge/acsbridge/internal/bom"
)

// MaxSecret bounds a secret in bytes.
const MaxSecret = 4 << 10

// ReadFile returns what is in a file that [Check] takes, without a byte order mark.
func ReadFile(name string) ([]byte, error) { return read(name, math.MaxInt64) }

func read(name string, most int64) ([]byte, error) {
	file, err := Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, most))
	if err != nil {
		return nil, err
	}
	if content, err = bom.Trim(content); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return content, nil
}

// Read returns the one line of a file that [Check] takes, without its end and
// without a byte order mark.
func Read(name string) (string, error) {
	content, err := read(name, MaxSecret+3) // and the end of the line
	if err != nil {
		return "", err
	}
	line := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	if line == "" || len(line) > MaxSecret || strings.ContainsAny(line, "\r\n") {
		return "", fmt.Errorf("%s must hold one line of at most %d bytes", name, MaxSecret)
	}
	return line, nil
}

// Check refuses a file that cannot be read, that is not a regular file, or that users
// outside its group can read or change. The group may read it: that is how
// Kubernetes hands a secret to a process that is not root.
func Check(name string) error {
	file, err := Open(name)
	if err != nil {
		return err
	}
	return file.Close()
}

// Open opens a file that [Check] takes. The rule is about what was opened, so that no
// other file can take its name in between.
func Open(name string) (*os.File, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, Explain(err)
	}
	info, err := file.Stat()
	// Windows has no bits for others and shows them all as set.
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s is not a regular file", name)
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o007 != 0:
		err = fmt.Errorf("%s holds a secret and every user of this host can read it (mode %04o); run chmod o= on it",
			name, info.Mode().Perm())
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
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
