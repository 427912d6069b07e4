package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/acsbridge/acsbridge/internal/failpoint"
)

// entry is one record with its place in the log.
type entry struct {
	index  uint64 // without gaps
	offset uint64 // record bytes that the journal took before this one
	Record
}

// store is what the journal needs of a log. One goroutine appends and
// truncates; reads may run beside it.
type store interface {
	// append makes the entries durable, all or none. After an error the store
	// must be closed.
	append(entries []entry) error
	// read returns the entry at index, or errNotFound, or ErrCorrupt.
	read(index uint64) (entry, error)
	// bounds returns the first and the last index, zeros when empty.
	bounds() (first, last uint64, err error)
	// truncate forgets every entry up to and including index.
	truncate(index uint64) error
	close() error
}

var errNotFound = errors.New("journal: no record at this index")

// walStore is the store on hashicorp/raft-wal.
type walStore struct {
	log  *wal.WAL
	meta *metadb.BoltMetaDB
}

// openWAL opens the log in dir, which must exist and be locked by the caller.
func openWAL(dir string, segmentSize int, logger *slog.Logger) (store, error) {
	// The handle is kept because wal.Close leaves the metadata file open and
	// locked, and a second Open in this process would wait for it for ever.
	meta := &metadb.BoltMetaDB{}
	filer := segment.NewFiler(dir, dataSync{fs.New()})
	log, err := wal.Open(dir,
		wal.WithSegmentFiler(filer),
		wal.WithMetaStore(&sealRepair{MetaStore: meta, filer: filer, segmentSize: segmentSize}),
		wal.WithSegmentSize(segmentSize),
		wal.WithLogger(walLogger(logger)))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open log in %s: %w", dir, err), meta.Close())
	}
	s := &walStore{log: log, meta: meta}
	if err := restrict(dir); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *walStore) append(entries []entry) error {
	logs := make([]*raft.Log, len(entries))
	records := make([]raft.Log, len(entries))
	for i, e := range entries {
		records[i] = toLog(e)
		logs[i] = &records[i]
	}
	return s.log.StoreLogs(logs)
}

func (s *walStore) read(index uint64) (e entry, err error) {
	// raft-wal's decoder trusts its lengths: a flipped bit in one may panic.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, p)
		}
	}()
	var l raft.Log
	err = s.log.GetLog(index, &l)
	var pathErr *os.PathError
	switch {
	case err == nil:
		return fromLog(&l, index)
	case errors.Is(err, wal.ErrNotFound):
		return entry{}, errNotFound
	case errors.Is(err, wal.ErrClosed), errors.As(err, &pathErr):
		return entry{}, err
	}
	return entry{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
}

func (s *walStore) bounds() (first, last uint64, err error) {
	if first, err = s.log.FirstIndex(); err != nil {
		return 0, 0, err
	}
	if last, err = s.log.LastIndex(); err != nil {
		return 0, 0, err
	}
	return first, last, nil
}

func (s *walStore) truncate(index uint64) error {
	first, _, err := s.bounds()
	if err != nil || first == 0 || index < first {
		return err
	}
	return s.log.DeleteRange(first, index)
}

func (s *walStore) close() error {
	return errors.Join(s.log.Close(), s.meta.Close())
}

// sealRepair completes the sealing of a segment that a crash interrupted.
//
// raft-wal writes a full segment's index block with the last batch and records
// the seal in its metadata afterwards, in the background. When the process
// dies in between, the file says sealed and the metadata says open: raft-wal
// v0.4.0 opens such a log and then refuses every append with ErrSealed, for
// good. Here the missing metadata is written before raft-wal looks at it.
type sealRepair struct {
	types.MetaStore
	filer       *segment.Filer
	segmentSize int
}

func (m *sealRepair) Load(dir string) (types.PersistentState, error) {
	state, err := m.MetaStore.Load(dir)
	if err != nil || len(state.Segments) == 0 {
		return state, err
	}
	tail := &state.Segments[len(state.Segments)-1]
	if !tail.SealTime.IsZero() {
		return state, nil
	}
	w, err := m.filer.RecoverTail(*tail)
	if errors.Is(err, os.ErrNotExist) {
		return state, nil // created only in the metadata: raft-wal copes
	}
	if err != nil {
		return state, err
	}
	sealed, indexStart, err := w.Sealed()
	last := w.LastIndex()
	if err := errors.Join(err, w.Close()); err != nil || !sealed {
		return state, err
	}
	tail.SealTime = time.Now()
	tail.IndexStart = indexStart
	tail.MaxIndex = last
	state.Segments = append(state.Segments, types.SegmentInfo{
		ID:         state.NextSegmentID,
		BaseIndex:  last + 1,
		MinIndex:   last + 1,
		SizeLimit:  uint32(m.segmentSize),
		Codec:      wal.CodecBinaryV1,
		CreateTime: time.Now(),
	})
	state.NextSegmentID++
	return state, m.CommitState(state)
}

// CommitState writes the list of segments: when one is sealed, created or
// removed.
func (m *sealRepair) CommitState(state types.PersistentState) error {
	failpoint.At("before-segment-list")
	err := m.MetaStore.CommitState(state)
	failpoint.At("after-segment-list")
	return err
}

// rewriteTail writes the newest segment file over itself and syncs it. After a
// failed fsync Linux counts the lost pages as clean: they can be read, yet they
// are not on the disk, and a later power cut would take the records behind
// them along. Written again, they are dirty again. Reports an error when the
// disk still fails.
func rewriteTail(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(names) == 0 {
		return err
	}
	f, err := os.OpenFile(names[len(names)-1], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for at := int64(0); ; {
		n, err := f.ReadAt(buf, at)
		if _, err := f.WriteAt(buf[:n], at); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return f.Sync()
		}
		if err != nil {
			return err
		}
		at += int64(n)
	}
}

// walLogger hands raft-wal's warnings to our log. They name files, indexes and
// system errors, never a record.
func walLogger(logger *slog.Logger) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Level:       hclog.Warn,
		DisableTime: true,
		Output:      slogWriter{logger},
	})
}

type slogWriter struct{ logger *slog.Logger }

func (w slogWriter) Write(line []byte) (int, error) {
	w.logger.Warn("journal log", "message", strings.TrimSpace(string(line)))
	return len(line), nil
}

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
