package journal

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/acsbridge/acsbridge/internal/failpoint"
)

// The least time between the starts of two fsyncs grows with the number of appends
// in the last batch. An fsync costs as much CPU as ten records, and a fast disk would
// be done before more than two or three of many writers have come: see
// docs/benchmarks.md. A lone writer never waits.
const (
	pauseEach = 400 * time.Microsecond
	pauseMax  = 2 * time.Millisecond
)

// writer holds one batch. Its slices are used again.
type writer struct {
	requests []*appendRequest
	entries  []entry
	began    time.Time // of the last append
	failedAt time.Time // of the last failed append, zero when healthy
}

// write is the journal's only writer: it takes the requests that were queued during
// the last fsync, stores them as one batch and answers them.
func (j *Journal) write(ctx context.Context) {
	defer close(j.done)
	var w writer
	for {
		select {
		case r := <-j.appends:
			if n := len(w.requests); n > 1 {
				time.Sleep(time.Until(w.began.Add(min(time.Duration(n)*pauseEach, pauseMax))))
			}
			w.commit(j, r)
		case <-w.retry():
			_ = w.ready(j) // it has logged the error
		case <-ctx.Done():
			// Requests that were queued before the end are still served.
			for len(j.appends) > 0 {
				w.commit(j, <-j.appends)
			}
			return
		}
	}
}

// commit stores a request as one batch with those that are queued behind it, and
// answers all of them.
func (w *writer) commit(j *Journal, r *appendRequest) {
	w.requests = append(w.requests[:0], r)
	records, size := len(r.records), r.size
	for len(j.appends) > 0 && records < maxBatch && size < maxBatchBytes {
		r = <-j.appends
		w.requests = append(w.requests, r)
		records += len(r.records)
		size += r.size
	}
	err := w.ready(j)
	if err == nil {
		err = w.append(j)
	}
	for _, r := range w.requests {
		j.queued.Add(-r.size)
		r.result <- err
	}
	clear(w.requests) // keeps the length: the next batch asks for it
	clear(w.entries)
}

// append numbers the records of the batch and makes them durable.
func (w *writer) append(j *Journal) error {
	w.began = time.Now()
	index, offset := j.last.Load(), j.endOffset.Load()
	w.entries = w.entries[:0]
	for _, r := range w.requests {
		for _, rec := range r.records {
			index++
			w.entries = append(w.entries, entry{index: index, offset: offset, Record: rec})
			offset += uint64(len(rec.Data))
		}
		r.last = index
	}
	failpoint.At("before-append")
	if err := j.store.append(w.entries); err != nil {
		w.failedAt = time.Now()
		j.failing.Store(true)
		j.opts.Logger.Error("journal: append failed", "records", len(w.entries), "error", err)
		return fmt.Errorf("%w: %w", ErrFailing, err)
	}
	failpoint.At("after-fsync")
	j.cache.put(w.entries)
	if j.first.Load() == 0 {
		j.startOffset.Store(w.entries[0].offset)
		j.first.Store(w.entries[0].index)
	}
	j.endOffset.Store(offset)
	j.last.Store(index)
	j.notify()
	return nil
}

// notify wakes the reader.
func (j *Journal) notify() {
	select {
	case j.changed <- struct{}{}:
	default:
	}
}

// retry delivers a value when the log is to be opened again, so that a journal
// recovers that gets no appends because it is failing.
func (w *writer) retry() <-chan time.Time {
	if w.failedAt.IsZero() {
		return nil
	}
	return time.After(time.Until(w.failedAt.Add(reopenAfter)))
}

// ready opens the log again when the last append failed and the pause is over:
// raft-wal's writer is unusable after an error, and what it left behind is
// settled only when the log is opened. Records of the failed batch that did
// reach the disk appear then; they were answered with an error, and the sender
// repeats them under the same message id.
func (w *writer) ready(j *Journal) error {
	if w.failedAt.IsZero() {
		return nil
	}
	if time.Since(w.failedAt) < reopenAfter {
		return ErrFailing
	}
	if err := j.reopen(); err != nil {
		w.failedAt = time.Now()
		j.opts.Logger.Error("journal: open again after a failed append", "error", err)
		return fmt.Errorf("%w: %w", ErrFailing, err)
	}
	w.failedAt = time.Time{}
	j.failing.Store(false)
	j.notify()
	first, last := j.Bounds()
	j.opts.Logger.Info("journal: open again", "first", first, "last", last)
	return nil
}

// reopen closes the log, completes its last segment and opens it again.
func (j *Journal) reopen() error {
	j.mu.Lock()
	old := j.store
	j.store = nil
	j.mu.Unlock()
	if old != nil {
		if err := old.close(); err != nil {
			j.opts.Logger.Warn("journal: close failed log", "error", err)
		}
	}
	if err := rewriteTail(j.dir); err != nil {
		return fmt.Errorf("write the last records again: %w", err)
	}
	before := j.last.Load()
	if err := j.load(); err != nil {
		return err
	}
	if err := j.repair(before); err != nil {
		j.last.Store(before) // for the next attempt
		return err
	}
	return nil
}

// repair stores again what was durable up to an index and is gone: a disk that
// fails writes may not have kept the last ones. Of those that are not in memory
// any more an empty record takes the place, which reads as corrupt. Otherwise
// their indexes would be given to other records, and a reader that is past them
// would never see those.
func (j *Journal) repair(until uint64) error {
	var lost []entry
	offset := j.endOffset.Load()
	for index := j.last.Load() + 1; index <= until; index++ {
		r, _ := j.cache.get(index)
		lost = append(lost, entry{index: index, offset: offset, Record: r})
		offset += uint64(len(r.Data))
	}
	if len(lost) == 0 {
		return nil
	}
	if err := j.store.append(lost); err != nil {
		return fmt.Errorf("store %d records again: %w", len(lost), err)
	}
	j.opts.Logger.Error("journal: records that were durable were gone, and are stored again as far as they are in memory", "first", lost[0].index, "last", until)
	j.endOffset.Store(offset)
	j.last.Store(until)
	return nil
}

const (
	// cachedRecords is how many of the newest records stay in memory for a
	// reader that keeps up.
	cachedRecords = 1024
	// cachedMax is the largest record kept, so that the whole stays below
	// 16 MiB, and what the records were made from adds no more than their
	// headers. Callbacks have a median of 877 bytes.
	cachedMax = 16 << 10
)

// cache keeps the newest records, so that a reader that keeps up does not
// read from the disk what has just been written there.
type cache struct {
	mu      sync.Mutex
	entries [cachedRecords]entry // at index modulo cachedRecords
}

func (c *cache) put(entries []entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range entries {
		if len(e.Data) > cachedMax {
			e.Record = Record{}
		}
		c.entries[e.index%cachedRecords] = e
	}
}

func (c *cache) get(index uint64) (Record, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &c.entries[index%cachedRecords]
	return e.Record, e.index == index && e.Data != nil
}
