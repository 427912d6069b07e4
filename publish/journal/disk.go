package journal

import (
	"errors"
	"io/fs"
	"path/filepath"
)

// Disk returns the bytes that the journal's files take, and those that they may
// take at most: log files are allocated whole, one ahead, and the oldest goes
// only when nothing in it is needed.
func (j *Journal) Disk() (now, atMost int64, err error) {
	now, err = DirSize(j.dir)
	return now, j.opts.MaxBytes + 2*int64(j.opts.SegmentSize), err
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
