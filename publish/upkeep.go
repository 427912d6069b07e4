package publish

import (
	"context"
	"time"
)

const (
	saveEvery = 100 * time.Millisecond // how old a saved cursor may be
	// Truncating costs two fsyncs of raft-wal's metadata, during which appends
	// wait: it is done for many records at once.
	truncateRecords = 8192
	truncateEvery   = 10 * time.Second
)

// maintain saves the cursor and truncates the journal until ctx ends, and
// once more then.
func (f *forwarder) maintain(ctx context.Context) {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	t := truncation{keep: f.keep, last: time.Now()}
	measured := time.Now()
	for {
		select {
		case <-tick.C:
			f.report(f.save(false))
			f.report(f.truncate(&t, false))
			if time.Since(measured) > truncateEvery { // files are taken away
				measured = time.Now()
				f.report(f.dead.measure())
			}
		case <-ctx.Done():
			f.report(f.save(true))
			f.report(f.truncate(&t, true))
			return
		}
	}
}

func (f *forwarder) report(err error) {
	if err != nil {
		f.logger.Error("journal upkeep failed", "error", err)
	}
}

func (f *forwarder) save(sync bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !sync && f.cursor.acked == f.position {
		return nil
	}
	return f.cursor.save(f.position, sync)
}

// truncation decides when and how far the journal is truncated.
type truncation struct {
	keep  time.Duration
	last  time.Time // of the last truncation
	marks []mark    // with keep: how far the cursor was, and when
}

type mark struct {
	at    time.Time
	acked uint64
}

// limit returns the index up to which records may go.
func (t *truncation) limit(now time.Time, acked uint64) uint64 {
	if t.keep == 0 {
		return acked
	}
	if n := len(t.marks); n == 0 || now.Sub(t.marks[n-1].at) >= time.Second {
		t.marks = append(t.marks, mark{now, acked})
	}
	var limit uint64
	for len(t.marks) > 0 && now.Sub(t.marks[0].at) >= t.keep {
		limit = t.marks[0].acked
		if len(t.marks) == 1 || now.Sub(t.marks[1].at) < t.keep {
			break
		}
		t.marks = t.marks[1:]
	}
	return limit
}

func (f *forwarder) truncate(t *truncation, now bool) error {
	limit := t.limit(time.Now(), f.acked())
	first, _ := f.journal.Bounds()
	if first == 0 || limit <= first {
		return nil
	}
	due := now || limit-first >= truncateRecords || time.Since(t.last) >= truncateEvery || f.journal.Stats().Full
	if !due {
		return nil
	}
	t.last = time.Now()
	return f.journal.Truncate(limit)
}
