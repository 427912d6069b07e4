// Package dirlock keeps two processes from using one directory.
//
// Neither raft-wal nor an embedded nats-server refuses to share its directory:
// the first would hang on its metadata file for ever, the second would quietly
// write over the other's blocks. So whoever owns a directory locks it first.
package dirlock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// name of the lock file. It stays when the lock is released: removing it would
// let a third process lock a file that a second one has just opened.
const name = "lock"

// ErrLocked reports that another process, or another part of this one, holds
// the directory.
var ErrLocked = errors.New("directory is in use by another acsbridge")

// Acquire locks dir, which must exist, and returns the function that releases
// it. The lock ends with the process, however it ends.
func Acquire(dir string) (release func() error, err error) {
	lock := flock.New(filepath.Join(dir, name), flock.SetPermissions(0o600), flock.SetFlag(os.O_CREATE|os.O_RDWR))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if !ok {
		return nil, fmt.Errorf("%w: %s (stop the other one, or choose another --data-dir)", ErrLocked, dir)
	}
	return lock.Unlock, nil
}
