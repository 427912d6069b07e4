package journal

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"

	"github.com/acsbridge/acsbridge/internal/failpoint"
)

// dataSync is raft-wal's file system with fdatasync in the place of fsync.
// Segments have their full size from the start, so an append changes nothing
// of a file but its content and its times, and leaving the times alone saves a
// third of the CPU time: see docs/benchmarks.md. fdatasync still writes what
// is needed to find the content again.
type dataSync struct{ *walfs.FS }

// Create makes a file whose first Sync is a whole one: it brings the file's
// size and its name in the directory to the disk.
func (d dataSync) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := d.FS.Create(dir, name, size)
	if err != nil {
		return nil, err
	}
	// raft-wal makes it with mode 0644.
	if err := os.Chmod(filepath.Join(dir, name), fileMode); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	failpoint.At("segment-created")
	return &syncedFile{WritableFile: failpoint.Volatile(f)}, nil
}

func (d dataSync) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := d.FS.OpenWriter(dir, name)
	if err != nil {
		return nil, err
	}
	return &syncedFile{WritableFile: failpoint.Volatile(f)}, nil
}

// fileMode is the mode of every file of the journal: the records are personal
// data.
const fileMode fs.FileMode = 0o600

// restrict takes the rights of other users from the files in dir. raft-wal makes
// them with mode 0644, the metadata file also now, segments until an earlier
// version of this package.
func restrict(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !entry.Type().IsRegular() {
			continue
		}
		// A restored file can belong to another user, who decides on its mode.
		err := os.Chmod(filepath.Join(dir, entry.Name()), fileMode)
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

// syncedFile syncs whole the first time and data afterwards. One goroutine
// appends, so there is no lock.
type syncedFile struct {
	types.WritableFile
	whole bool
}

func (f *syncedFile) Sync() error {
	if file, ok := f.WritableFile.(interface{ Fd() uintptr }); ok && f.whole {
		return syncData(file.Fd())
	}
	if err := f.WritableFile.Sync(); err != nil {
		return err
	}
	f.whole = canSyncData
	return nil
}

// AtMost returns the bytes that the journal's files may take at most: log files are
// allocated whole, one ahead, and the oldest goes only when nothing in it is needed.
func (o Options) AtMost() int64 {
	return cmp.Or(o.MaxBytes, DefaultMaxBytes) + 2*int64(cmp.Or(o.SegmentSize, defaultSegmentSize))
}

// DirSize returns the bytes of the files in a directory and below it. A file
// that goes meanwhile counts nothing.
func DirSize(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}
