// Package durable makes directory entries survive a power cut. fsync of a file
// promises its content, not that its name can be found again (fsync(2)).
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// MakeDir makes a directory and its parents, readable by the owner alone, and
// brings the names of the last two of them to the disk. A directory that is there
// already becomes the owner's alone, so it must be for us and nothing else.
func MakeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	// A volume that is mounted here can belong to root, and have us by its group.
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

// SyncDir brings the names in a directory to the disk, as far as that can be
// done: a parent may be somebody else's, and not every system can sync one.
func SyncDir(dir string) {
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	_ = d.Sync()
	_ = d.Close()
}
