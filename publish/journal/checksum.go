package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// ErrCorrupt reports a record whose bytes are not the ones that were written.
var ErrCorrupt = errors.New("journal: record is corrupt")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is the CRC-32C of an entry: index, offset (both 8 bytes, big
// endian) and record, so that a good record in the wrong place is found too.
func checksum(e entry) uint32 {
	var head [16]byte
	binary.BigEndian.PutUint64(head[:8], e.index)
	binary.BigEndian.PutUint64(head[8:], e.offset)
	return crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, e.Data)
}

// toLog lays an entry out as raft-wal's own codec writes it: Term carries the
// offset and Extensions the checksum, which the library itself verifies only
// for the last batch, and only when a log is opened. (A codec of our own would
// be the place for both, but v0.4.0 marks every segment as its own codec's and
// then refuses to open it with another.)
func toLog(e entry) raft.Log {
	return raft.Log{
		Index:      e.index,
		Term:       e.offset,
		Data:       e.Data,
		Extensions: binary.BigEndian.AppendUint32(nil, checksum(e)),
	}
}

// fromLog returns the entry in l, which must be the one of the given index.
func fromLog(l *raft.Log, index uint64) (entry, error) {
	e := entry{index: l.Index, offset: l.Term, Record: Record{Data: l.Data}}
	switch {
	case len(l.Extensions) != crc32.Size || binary.BigEndian.Uint32(l.Extensions) != checksum(e):
		return entry{}, fmt.Errorf("%w: checksum differs", ErrCorrupt)
	case l.Index != index:
		return entry{}, fmt.Errorf("%w: holds index %d", ErrCorrupt, l.Index)
	}
	return e, nil
}
