package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/acsbridge/acsbridge/internal/datadir"
	"github.com/acsbridge/acsbridge/internal/failpoint"
)

// Errors of [Journal.Append]. None of the records counts as stored.
var (
	// ErrFull reports that the journal holds as many bytes as it may.
	ErrFull = errors.New("journal: full")
	// ErrFailing reports that the disk refuses writes.
	ErrFailing = errors.New("journal: disk is failing")
	// ErrClosed reports an append to a closed journal.
	ErrClosed = errors.New("journal: closed")
	// ErrTooLarge reports a record of more than [MaxRecord] bytes.
	ErrTooLarge = errors.New("journal: record is too large")
)

const (
	// DefaultMaxBytes is the MaxBytes of [Options] when it is zero.
	DefaultMaxBytes = 1 << 30

	// MaxRecord is the largest record in bytes. A callback is at most 256 KiB;
	// the rest is room for headers and for raft-wal, whose segments could not
	// hold an entry near their own size.
	MaxRecord = 1 << 20

	defaultSegmentSize = 16 << 20 // preallocated: making a larger one stops appends for longer

	// maxBatch bounds the records of one fsync, maxBatchBytes their size.
	maxBatch      = 1024
	maxBatchBytes = 8 << 20

	// reopenAfter is the pause after a failed append before the log is opened
	// again, so that a broken disk is not tried all the time.
	reopenAfter = time.Second
)

// Options of a journal. The zero value is good.
type Options struct {
	// MaxBytes bounds the records held, in bytes. Zero means 1 GiB. The files
	// take up to two segments more.
	MaxBytes int64
	// SegmentSize is the size of one log file in bytes. Zero means 16 MiB.
	SegmentSize int
	// Logger gets what went wrong with the disk. Nil means silence.
	Logger *slog.Logger

	open func(dir string, segmentSize int, logger *slog.Logger) (store, error)
}

// Journal is a durable queue of records. See the package comment.
type Journal struct {
	dir    string
	opts   Options
	unlock func() error

	appends chan *appendRequest
	changed chan struct{} // capacity 1: there are new records
	done    chan struct{} // the writer has ended
	closing context.CancelFunc

	mu    sync.RWMutex // guards store against reopening
	store store        // nil while the log could not be opened again

	first, last            atomic.Uint64 // bounds of what is durable; zero when empty
	startOffset, endOffset atomic.Uint64 // record bytes before first, and up to last
	queued                 atomic.Int64  // record bytes waiting for the writer
	reserved               atomic.Int64  // see Reserve
	failing                atomic.Bool

	cache    cache
	requests sync.Pool // of *appendRequest: there is one for every append
}

// Record is what the journal keeps.
type Record struct {
	Data []byte // what is durable; it must not be changed
	// Decoded is what Data was made from, or nil. The reader gets it as long as
	// the record is in memory, and is spared the decoding.
	Decoded any
}

type appendRequest struct {
	records []Record
	size    int64
	last    uint64     // index of the last record, set by the writer
	result  chan error // capacity 1
}

// Open opens or creates the journal in dir. It reports an error wrapping
// [datadir.ErrLocked] when another process has it open.
func Open(dir string, opts Options) (*Journal, error) {
	if opts.MaxBytes == 0 {
		opts.MaxBytes = DefaultMaxBytes
	}
	if opts.SegmentSize == 0 {
		opts.SegmentSize = defaultSegmentSize
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.open == nil {
		opts.open = openWAL
	}
	if err := datadir.Make(dir); err != nil {
		return nil, fmt.Errorf("create journal: %w", err)
	}
	unlock, err := datadir.Lock(dir)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	j := &Journal{
		dir: dir, opts: opts, unlock: unlock,
		appends: make(chan *appendRequest, maxBatch),
		changed: make(chan struct{}, 1),
		done:    make(chan struct{}),
		closing: cancel,
	}
	j.requests.New = func() any { return &appendRequest{result: make(chan error, 1)} }
	if err := j.load(); err != nil {
		cancel()
		return nil, errors.Join(fmt.Errorf("open journal: %w", err), unlock())
	}
	go j.write(ctx)
	return j, nil
}

// load opens the log and learns its bounds from its first and last record.
func (j *Journal) load() error {
	s, err := j.opts.open(j.dir, j.opts.SegmentSize, j.opts.Logger)
	if err != nil {
		return err
	}
	failpoint.At("log-opened")
	if err := j.measure(s); err != nil {
		return errors.Join(err, s.close())
	}
	j.mu.Lock()
	j.store = s
	j.mu.Unlock()
	return nil
}

func (j *Journal) measure(s store) error {
	first, last, err := s.bounds()
	if err != nil {
		return err
	}
	if last == 0 {
		return nil
	}
	// A corrupt record at an end has lost its offset: count from its
	// neighbours, at worst the journal takes itself for smaller than it is.
	for i := first; i <= last; i++ {
		if e, err := s.read(i); err == nil {
			j.startOffset.Store(e.offset)
			break
		}
	}
	for i := last; i >= first; i-- {
		if e, err := s.read(i); err == nil {
			j.endOffset.Store(e.offset + uint64(len(e.Data)))
			break
		}
	}
	j.first.Store(first)
	j.last.Store(last)
	return nil
}

// Append makes the records durable in this order, all or none, and returns the
// index of the last one. It returns early with ctx's error when the disk does
// not answer in time; the records may be stored all the same. Errors: ErrFull,
// ErrFailing, ErrTooLarge, ErrClosed, ctx's.
func (j *Journal) Append(ctx context.Context, records ...Record) (last uint64, err error) {
	r := j.requests.Get().(*appendRequest)
	r.records, r.size = records, 0
	for _, rec := range records {
		if len(rec.Data) > MaxRecord {
			return 0, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(rec.Data), MaxRecord)
		}
		r.size += int64(len(rec.Data))
	}
	if j.queued.Add(r.size)+j.Stats().Bytes+j.reserved.Load() > j.opts.MaxBytes {
		j.queued.Add(-r.size)
		return 0, ErrFull
	}
	select {
	case j.appends <- r:
	case <-ctx.Done():
		j.queued.Add(-r.size)
		return 0, ctx.Err()
	case <-j.done:
		j.queued.Add(-r.size)
		return 0, ErrClosed
	}
	select {
	case err := <-r.result:
		last := r.last
		r.records = nil
		j.requests.Put(r) // no other reference is left
		return last, err
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-j.done:
		// The writer answered before it ended, or never saw the request.
		select {
		case err := <-r.result:
			return r.last, err
		default:
			return 0, ErrClosed
		}
	}
}

// Read returns the record at index. Errors: [ErrCorrupt] for a record that is
// lost, others may pass.
func (j *Journal) Read(index uint64) (Record, error) {
	if rec, ok := j.cache.get(index); ok {
		return rec, nil
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.store == nil {
		return Record{}, ErrFailing
	}
	e, err := j.store.read(index)
	if err != nil {
		return Record{}, fmt.Errorf("read record %d: %w", index, err)
	}
	return e.Record, nil
}

// Changed delivers a value when there may be records after those the reader
// has seen. It is for one reader.
func (j *Journal) Changed() <-chan struct{} { return j.changed }

// Bounds returns the indexes of the first and last durable record, zeros when
// there is none.
func (j *Journal) Bounds() (first, last uint64) { return j.first.Load(), j.last.Load() }

// Truncate forgets the records up to and including index. The newest record
// stays whatever index says, because the log would lose its count without it.
func (j *Journal) Truncate(index uint64) error {
	if last := j.last.Load(); index >= last {
		index = last - 1
	}
	if first := j.first.Load(); first == 0 || index < first {
		return nil
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.store == nil {
		return ErrFailing
	}
	next, err := j.store.read(index + 1)
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("truncate journal: %w", err)
	}
	failpoint.At("before-truncate")
	if err := j.store.truncate(index); err != nil {
		return fmt.Errorf("truncate journal: %w", err)
	}
	failpoint.At("after-truncate")
	if next.index != 0 { // unless corrupt: then the size is repaired next time
		j.startOffset.Store(next.offset)
	}
	j.first.Store(index + 1)
	return nil
}

// Reserve counts bytes against MaxBytes that are stored outside of the journal. It
// replaces what was reserved before.
func (j *Journal) Reserve(bytes int64) { j.reserved.Store(bytes) }

// Stats are the journal's figures for metrics and readiness.
type Stats struct {
	Records int64 // durable and not truncated
	Bytes   int64 // their size without framing
	Full    bool  // at 95 % of its size or more
	Failing bool  // the last append failed
}

// Stats returns the journal's present figures.
func (j *Journal) Stats() Stats {
	s := Stats{Failing: j.failing.Load()}
	if first, last := j.Bounds(); last > 0 {
		s.Records = int64(last - first + 1)
		s.Bytes = int64(j.endOffset.Load() - j.startOffset.Load())
	}
	s.Full = s.Bytes+j.reserved.Load() >= j.opts.MaxBytes/20*19
	return s
}

// Close waits for the present appends and closes the log.
func (j *Journal) Close() error {
	j.closing()
	<-j.done
	j.mu.Lock()
	defer j.mu.Unlock()
	var err error
	if j.store != nil {
		err = j.store.close()
		j.store = nil
	}
	return errors.Join(err, j.unlock())
}
