package journal

import (
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"

	"github.com/acsbridge/acsbridge/internal/crash"
)

// dataSync is raft-wal's file system with fdatasync in the place of fsync.
// Segments have their full size from the start, so an append changes nothing
// of a file but its content and its times, and leaving the times alone saves a
// third of the CPU time: see docs/benchmarks.md. fdatasync still writes what
// is needed to find the content again.
type dataSync struct{ *fs.FS }

// Create makes a file whose first Sync is a whole one: it brings the file's
// size and its name in the directory to the disk.
func (d dataSync) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := d.FS.Create(dir, name, size)
	if err != nil {
		return nil, err
	}
	crash.At("segment-created")
	return &syncedFile{WritableFile: crash.Volatile(f)}, nil
}

func (d dataSync) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := d.FS.OpenWriter(dir, name)
	if err != nil {
		return nil, err
	}
	return &syncedFile{WritableFile: crash.Volatile(f)}, nil
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
