package publish

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/publish/journal"
)

// openLog returns a journal in dir.
func openLog(t *testing.T, dir string, opts journal.Options) *journal.Journal {
	t.Helper()
	j, err := journal.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

// fill appends n records of ten bytes.
func fill(t *testing.T, j *journal.Journal, n int) {
	t.Helper()
	records := make([][]byte, n)
	for i := range records {
		records[i] = []byte("0123456789")
	}
	if _, err := j.Append(t.Context(), records...); err != nil {
		t.Fatal(err)
	}
}

func TestForwardingGoesOnWhereTheCursorFitsTheJournal(t *testing.T) {
	ten := openLog(t, t.TempDir(), journal.Options{})
	fill(t, ten, 10)
	rest := openLog(t, t.TempDir(), journal.Options{})
	fill(t, rest, 10)
	if err := rest.Truncate(5); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		journal  *journal.Journal
		cursor   cursor
		keep     time.Duration
		want     position
		doubtful uint64
	}{
		{"no journal yet", openLog(t, t.TempDir(), journal.Options{}), cursor{}, 0, position{0, 0}, 0},
		{"no cursor: all is in doubt", ten, cursor{}, 0, position{0, 10}, 10},
		{"no cursor, truncated", rest, cursor{}, 0, position{5, 10}, 10},
		{"what was reserved is in doubt", ten, cursor{position: position{7, 8}, valid: true}, 0, position{7, 8}, 8},
		{"reserved ahead of the journal", ten, cursor{position: position{7, 4103}, valid: true}, 0, position{7, 4103}, 10},
		{"all acknowledged", ten, cursor{position: position{10, 10}, valid: true}, 0, position{10, 10}, 10},
		{"reserved is impossible", ten, cursor{position: position{7, 3}, valid: true}, 0, position{7, 10}, 10},
		{"ahead of the journal", ten, cursor{position: position{11, 20}, valid: true}, 0, position{0, 20}, 10},
		{"just before the first record", rest, cursor{position: position{5, 20}, valid: true}, 0, position{5, 20}, 10},
		{"behind the first record", rest, cursor{position: position{4, 20}, valid: true}, 0, position{5, 20}, 10},
		{"the tail is sent again", rest, cursor{position: position{9, 9}, valid: true}, time.Minute, position{5, 9}, 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newForwarder(&forwarder{journal: c.journal, cursor: &c.cursor, keep: c.keep})
			if f.position != c.want || f.doubtful != c.doubtful {
				t.Errorf("got %+v, doubtful %d; want %+v, doubtful %d", f.position, f.doubtful, c.want, c.doubtful)
			}
		})
	}
}

func TestTheJournalIsTruncatedWhenItIsWorthIt(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name    string
		opts    journal.Options
		records int
		acked   uint64
		last    time.Time
		force   bool
		want    uint64 // the first record that is left
	}{
		{"few and lately", journal.Options{}, 100, 90, now, false, 1},
		{"few, at the end", journal.Options{}, 100, 90, now, true, 91},
		{"few and long ago", journal.Options{}, 100, 90, now.Add(-truncateEvery), false, 91},
		{"many", journal.Options{}, truncateRecords + 10, truncateRecords + 1, now, false, truncateRecords + 2},
		{"one less than many", journal.Options{}, truncateRecords + 10, truncateRecords, now, false, 1},
		{"full", journal.Options{MaxBytes: 1000}, 100, 90, now, false, 91},
		{"nothing acknowledged", journal.Options{}, 100, 0, now, true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := openLog(t, t.TempDir(), c.opts)
			fill(t, j, c.records)
			f := newForwarder(&forwarder{journal: j, cursor: &cursor{position: position{c.acked, c.acked}, valid: true}})
			tr := truncation{last: c.last}
			if err := f.truncate(&tr, c.force); err != nil {
				t.Fatal(err)
			}
			if first, _ := j.Bounds(); first != c.want {
				t.Errorf("first record is %d, want %d", first, c.want)
			}
			if truncated := c.want > 1; truncated != !tr.last.Equal(c.last) {
				t.Errorf("truncated %v, last time noted %s", truncated, tr.last)
			}
		})
	}
}

// Every fsync of the cursor allows thousands of records to be sent.
func TestReservingIsDurableAndAhead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cursor")
	c, err := openCursor(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	j := openLog(t, t.TempDir(), journal.Options{})
	f := newForwarder(&forwarder{journal: j, cursor: c})
	onDisk := func() position {
		t.Helper()
		c, err := openCursor(path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		return c.position
	}
	for _, step := range []struct{ index, want uint64 }{
		{1, 1 + reserveAhead}, {2, 1 + reserveAhead}, {1 + reserveAhead, 1 + reserveAhead}, {2 + reserveAhead, 2 + 2*reserveAhead},
	} {
		if err := f.reserve(step.index); err != nil {
			t.Fatal(err)
		}
		if got := onDisk().reserved; got != step.want {
			t.Errorf("record %d: reserved %d, want %d", step.index, got, step.want)
		}
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	before := f.position
	if err := f.reserve(before.reserved + 1); err == nil {
		t.Error("a record may be sent although the cursor could not be saved")
	}
	if f.position != before {
		t.Errorf("got %+v, want %+v", f.position, before)
	}
}
