package publish

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/acsbridge/acsbridge/internal/failpoint"
)

// cursor keeps in a file of its own how far the forwarder has come. After a
// crash it may be old, which costs repeated publishes that the stream deduplicates.
type cursor struct {
	file failpoint.File
	// acked is the index of the last record that the stream has, together with
	// every record before it.
	acked uint64
	valid bool // the file held an index
	// address is that of the stream that acknowledged them, from the record after
	// since on: an earlier run may have had another one. Zero when the file does
	// not say.
	address, since uint64
}

// The file is two numbers with a checksum each time: acked, and address with since,
// which versions before did not write.
const (
	cursorSize  = 8 + crc32.Size
	addressSize = 8 + 8 + crc32.Size
)

// addressOf returns a number for a stream and the prefix of its subjects.
func addressOf(c StreamConfig) uint64 {
	sum := sha256.Sum256([]byte(c.Name + "\n" + c.Prefix))
	return binary.BigEndian.Uint64(sum[:]) | 1
}

// openCursor opens or creates the file. An unreadable index is not an error: then
// everything in the journal is sent again.
func openCursor(path string) (*cursor, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open cursor: %w", err)
	}
	c := &cursor{file: failpoint.Volatile(f)}
	var b [cursorSize + addressSize]byte
	if _, err := f.ReadAt(b[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.Join(fmt.Errorf("read cursor: %w", err), f.Close())
	}
	if sum := crc32.ChecksumIEEE(b[:8]); sum == binary.BigEndian.Uint32(b[8:]) {
		c.valid = true
		c.acked = binary.BigEndian.Uint64(b[0:])
	}
	if rest := b[cursorSize:]; crc32.ChecksumIEEE(rest[:16]) == binary.BigEndian.Uint32(rest[16:]) {
		c.address, c.since = binary.BigEndian.Uint64(rest), binary.BigEndian.Uint64(rest[8:])
	}
	return c, nil
}

// sentTo notes the address that records are sent to from now on.
func (c *cursor) sentTo(address uint64) {
	if c.address != address && c.address != 0 {
		c.since = c.acked
	}
	c.address = address
}

// save writes the index, and makes it durable when sync asks for it.
func (c *cursor) save(acked uint64, sync bool) error {
	var b [cursorSize + addressSize]byte
	binary.BigEndian.PutUint64(b[0:], acked)
	binary.BigEndian.PutUint32(b[8:], crc32.ChecksumIEEE(b[:8]))
	rest := b[cursorSize:]
	binary.BigEndian.PutUint64(rest, c.address)
	binary.BigEndian.PutUint64(rest[8:], c.since)
	binary.BigEndian.PutUint32(rest[16:], crc32.ChecksumIEEE(rest[:16]))
	if _, err := c.file.WriteAt(b[:], 0); err != nil {
		return fmt.Errorf("write cursor: %w", err)
	}
	if sync {
		if err := c.file.Sync(); err != nil {
			return fmt.Errorf("sync cursor: %w", err)
		}
	}
	c.acked, c.valid = acked, true
	failpoint.At("cursor-saved")
	return nil
}

func (c *cursor) close() error { return c.file.Close() }
