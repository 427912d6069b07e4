// Package datadir does what a directory of data needs: it makes one that survives
// a power cut, keeps a second process from using it, and asks how much room its
// file system has left.
package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

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
