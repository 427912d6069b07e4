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

// reserveAhead is how many records the cursor allows to be sent before it has
// to be fsynced again. It bounds the records that are in doubt after a crash.
const reserveAhead = 4096

// position is how far the forwarder has come.
type position struct {
	// acked is the index of the last record that the stream has, together with
	// every record before it.
	acked uint64
	// reserved is an index that no record ever sent is above. Records between
	// acked and reserved are in doubt after a restart.
	reserved uint64
}

// cursor keeps a position in a file of its own. acked may be old after a
// crash, which costs repeated publishes that the stream folds; reserved must
// never be too low, so raising it is fsynced.
type cursor struct {
	file crash.File
	position
	valid bool // the file held a position
}

const cursorSize = 2*8 + crc32.Size

// openCursor opens or creates the file. An unreadable position is no error:
// then everything in the journal is in doubt.
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
	if sum := crc32.ChecksumIEEE(b[:2*8]); sum == binary.BigEndian.Uint32(b[2*8:]) {
		c.valid = true
		c.acked = binary.BigEndian.Uint64(b[0:])
		c.reserved = binary.BigEndian.Uint64(b[8:])
	}
	return c, nil
}

// save writes a position. It is fsynced when reserved has grown or sync asks
// for it.
func (c *cursor) save(p position, sync bool) error {
	var b [cursorSize]byte
	binary.BigEndian.PutUint64(b[0:], p.acked)
	binary.BigEndian.PutUint64(b[8:], p.reserved)
	binary.BigEndian.PutUint32(b[2*8:], crc32.ChecksumIEEE(b[:2*8]))
	if _, err := c.file.WriteAt(b[:], 0); err != nil {
		return fmt.Errorf("write cursor: %w", err)
	}
	if sync || p.reserved > c.reserved {
		if err := c.file.Sync(); err != nil {
			return fmt.Errorf("sync cursor: %w", err)
		}
	}
	c.position, c.valid = p, true
	crash.At("cursor-saved")
	return nil
}

func (c *cursor) close() error { return c.file.Close() }
