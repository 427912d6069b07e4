package publish

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/acsbridge/acsbridge/internal/crash"
)

// cursor keeps in a file of its own how far the forwarder has come. After a
// crash it may be old, which costs repeated publishes that the stream folds.
type cursor struct {
	file crash.File
	// acked is the index of the last record that the stream has, together with
	// every record before it.
	acked uint64
	valid bool // the file held an index
}

const cursorSize = 8 + crc32.Size

// openCursor opens or creates the file. An unreadable index is no error: then
// everything in the journal is sent again.
func openCursor(path string) (*cursor, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open cursor: %w", err)
	}
	c := &cursor{file: crash.Volatile(f)}
	var b [cursorSize]byte
	if _, err := f.ReadAt(b[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.Join(fmt.Errorf("read cursor: %w", err), f.Close())
	}
	if sum := crc32.ChecksumIEEE(b[:8]); sum == binary.BigEndian.Uint32(b[8:]) {
		c.valid = true
		c.acked = binary.BigEndian.Uint64(b[0:])
	}
	return c, nil
}

// save writes the index, and makes it durable when sync asks for it.
func (c *cursor) save(acked uint64, sync bool) error {
	var b [cursorSize]byte
	binary.BigEndian.PutUint64(b[0:], acked)
	binary.BigEndian.PutUint32(b[8:], crc32.ChecksumIEEE(b[:8]))
	if _, err := c.file.WriteAt(b[:], 0); err != nil {
		return fmt.Errorf("write cursor: %w", err)
	}
	if sync {
		if err := c.file.Sync(); err != nil {
			return fmt.Errorf("sync cursor: %w", err)
		}
	}
	c.acked, c.valid = acked, true
	crash.At("cursor-saved")
	return nil
}

func (c *cursor) close() error { return c.file.Close() }
