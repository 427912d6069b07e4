// Package datadir does what a directory of data needs: it makes one that survives
// a power cut, keeps a second process from using it, and asks how much room its
// file system has left.
package datadir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/gofrs/flock"
)

// Make makes a directory and its parents, readable by the owner alone, and syncs
// the entries of the last two of them. A directory that exists already becomes the
// owner's alone, so nothing else may use it.
func Make(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	// A mounted volume can belong to root, and be writable by our group.
	if err := os.Chmod(dir, 0o700); err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("make directory: %w", err)
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	parent := filepath.Dir(absolute)
	SyncDir(parent)
	SyncDir(filepath.Dir(parent))
	return nil
}

// SyncDir syncs the entries of a directory: fsync of a file promises its content,
// not that its name can be found again (fsync(2)). Errors are ignored, because a
// parent may belong to another user, and not every system can sync a directory.
func SyncDir(dir string) {
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	_ = d.Sync()
	_ = d.Close()
}

// lockFile stays when the lock is released: removing it would let a third process
// lock a file that a second one has just opened.
const lockFile = "lock"

// ErrLocked reports that another process, or another part of this one, holds
// the directory.
var ErrLocked = errors.New("directory is in use by another acsbridge")

// Lock locks dir, which must exist, and returns the function that releases it. The
// lock ends with the process, however it ends.
//
// Neither raft-wal nor an embedded nats-server refuses to share its directory: the
// first would hang on its metadata file for ever, the second would overwrite the
// other's blocks.
func Lock(dir string) (release func() error, err error) {
	lock := flock.New(filepath.Join(dir, lockFile), flock.SetPermissions(0o600), flock.SetFlag(os.O_CREATE|os.O_RDWR))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if !ok {
		return nil, fmt.Errorf("%w: %s (stop the other one, or choose another --data-dir)", ErrLocked, dir)
	}
	return lock.Unlock, nil
}

// Locked reports whether another process has locked dir. It makes nothing there.
func Locked(dir string) (bool, error) {
	lock := flock.New(filepath.Join(dir, lockFile), flock.SetFlag(os.O_RDONLY))
	ok, err := lock.TryRLock() // shared: another one that looks is not in the way
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return !ok && err == nil, errors.Join(err, lock.Unlock())
}

// CheckFile is the pattern of the name of a file that tries a directory, see [os.CreateTemp].
const CheckFile = ".acsbridge-check-*"

// ReplaceFile writes a file whole or not at all, readable by the owner alone.
func ReplaceFile(path string, content []byte) error {
	return RewriteFile(path, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// RewriteFile is [ReplaceFile] with what a function writes.
func RewriteFile(path string, write func(io.Writer) error) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if err = errors.Join(write(file), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// names are what bridges, and checks of them, keep in a data directory, and the directory
// that mkfs makes in a volume.
var names = regexp.MustCompile(`^(journal|quarantine|nats|last-start\.json.*|dead-letters.*|demo-key\.pem|lock|lost\+found|\.acsbridge-check-.*)$`)

// Restrict takes the rights of other users from a data directory that was there
// before: a volume of an earlier image has mode 0755. A directory with anything else
// in it, such as /tmp or a home directory, stays as it is, and so does one of another
// user, such as a volume of Kubernetes; what the bridge keeps there has modes of its own.
func Restrict(dir string) {
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if !names.MatchString(entry.Name()) {
			return
		}
	}
	_ = os.Chmod(dir, 0o700)
}
