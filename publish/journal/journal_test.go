package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/acsbridge/acsbridge/internal/datadir"
	"github.com/acsbridge/acsbridge/publish/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// small makes segments roll after a few records.
var small = journal.Options{SegmentSize: 16 << 10}

func open(t *testing.T, dir string, opts journal.Options) *journal.Journal {
	t.Helper()
	j, err := journal.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func record(i int) journal.Record { return of("record %d %01000d", i, i) }

// of returns a record of that text.
func of(format string, args ...any) journal.Record {
	return journal.Record{Data: fmt.Appendf(nil, format, args...)}
}

// size returns a record of so many bytes.
func size(n int) journal.Record { return journal.Record{Data: make([]byte, n)} }

func appendN(t *testing.T, j *journal.Journal, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		last, err := j.Append(t.Context(), record(i))
		if err != nil {
			t.Fatal(err)
		}
		if last != uint64(i) {
			t.Fatalf("append %d: index %d", i, last)
		}
	}
}

func check(t *testing.T, j *journal.Journal, from, to int) {
	t.Helper()
	first, last := j.Bounds()
	if got, want := [2]uint64{first, last}, [2]uint64{uint64(from), uint64(to)}; got != want {
		t.Fatalf("bounds: got %v, want %v", got, want)
	}
	for i := from; i <= to; i++ {
		got, err := j.Read(uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Data, record(i).Data) {
			t.Fatalf("record %d: got %.20q", i, got)
		}
	}
}

func TestJournal_reopen(t *testing.T) {
	dir := t.TempDir()
	for round := range 4 {
		j := open(t, dir, small)
		appendN(t, j, round*40+1, 40)
		check(t, j, 1, round*40+40)
		size := int64(0)
		for i := 1; i <= round*40+40; i++ {
			size += int64(len(record(i).Data))
		}
		want := journal.Stats{Records: int64(round*40 + 40), Bytes: size}
		if diff := cmp.Diff(want, j.Stats()); diff != "" {
			t.Error(diff)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestJournal_appendAllOrNone(t *testing.T) {
	j := open(t, t.TempDir(), journal.Options{MaxBytes: 1000})
	defer j.Close()
	if _, err := j.Append(t.Context(), size(600), size(600)); !errors.Is(err, journal.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
	last, err := j.Append(t.Context(), of("a"), of("b"), of("c"))
	if err != nil || last != 3 {
		t.Errorf("got %d, %v", last, err)
	}
	if _, err := j.Append(t.Context(), size(journal.MaxRecord+1)); !errors.Is(err, journal.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
}

// What is stored outside of the journal counts against its size.
func TestJournal_reserved(t *testing.T) {
	j := open(t, t.TempDir(), journal.Options{MaxBytes: 1000})
	defer j.Close()
	j.Reserve(500)
	if _, err := j.Append(t.Context(), size(600)); !errors.Is(err, journal.ErrFull) {
		t.Errorf("with half of it reserved: got %v, want ErrFull", err)
	}
	j.Reserve(960)
	if !j.Stats().Full {
		t.Error("stats do not say full")
	}
	j.Reserve(0)
	if _, err := j.Append(t.Context(), size(600)); err != nil || j.Stats().Full {
		t.Errorf("with nothing reserved: %v, full %v", err, j.Stats().Full)
	}
}

func TestJournal_full(t *testing.T) {
	dir := t.TempDir()
	opts := journal.Options{MaxBytes: 10 * int64(len(record(10).Data)), SegmentSize: 16 << 10}
	j := open(t, dir, opts)
	appendN(t, j, 1, 9)
	if _, err := j.Append(t.Context(), record(10), record(11)); !errors.Is(err, journal.ErrFull) {
		t.Fatalf("got %v, want ErrFull", err)
	}
	appendN(t, j, 10, 1)
	if !j.Stats().Full {
		t.Error("stats do not say full")
	}
	if err := j.Truncate(8); err != nil {
		t.Fatal(err)
	}
	check(t, j, 9, 10)
	appendN(t, j, 11, 8)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir, opts)
	defer j.Close()
	check(t, j, 9, 18)
}

func TestJournal_newestRecordStays(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, small)
	appendN(t, j, 1, 50)
	if err := j.Truncate(1 << 40); err != nil {
		t.Fatal(err)
	}
	check(t, j, 50, 50)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir, small)
	defer j.Close()
	appendN(t, j, 51, 10)
	check(t, j, 50, 60)
}

func TestJournal_manyWriters(t *testing.T) {
	j := open(t, t.TempDir(), small)
	defer j.Close()
	const writers, each = 16, 50
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if _, err := j.Append(context.Background(), of("%d %d", w, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	next := make(map[int]int)
	for i := uint64(1); i <= writers*each; i++ {
		rec, err := j.Read(i)
		if err != nil {
			t.Fatal(err)
		}
		var w, n int
		if _, err := fmt.Sscan(string(rec.Data), &w, &n); err != nil {
			t.Fatal(err)
		}
		if n != next[w] {
			t.Fatalf("writer %d: record %d came when %d was due", w, n, next[w])
		}
		next[w]++
	}
	select {
	case <-j.Changed():
	default:
		t.Error("the reader was not woken")
	}
}

func TestJournal_flippedBit(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Options{})
	appendN(t, j, 1, 5)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	flip(t, dir, record(3).Data)

	j = open(t, dir, journal.Options{})
	defer j.Close()
	for i := 1; i <= 5; i++ {
		_, err := j.Read(uint64(i))
		if got, want := errors.Is(err, journal.ErrCorrupt), i == 3; got != want {
			t.Errorf("record %d: corrupt %v, want %v (%v)", i, got, want, err)
		}
	}
	if err := j.Truncate(2); err != nil { // a corrupt head must not block
		t.Error(err)
	}
	if err := j.Truncate(3); err != nil {
		t.Error(err)
	}
	check(t, j, 4, 5)
}

// flip changes one bit of the record in the log files below dir.
func flip(t *testing.T, dir string, rec []byte) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(content, rec); at >= 0 {
			content[at+len(rec)/2] ^= 1
			if err := os.WriteFile(name, content, 0o600); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("record not found on disk")
}

func TestJournal_secondOnTheDirectory(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, small)
	if _, err := journal.Open(dir, small); !errors.Is(err, datadir.ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir, small).Close(); err != nil {
		t.Fatal(err)
	}
}

func TestJournal_closed(t *testing.T) {
	j := open(t, t.TempDir(), small)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(t.Context(), of("x")); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

// A reader that keeps up is spared the decoding, one that does not gets what is
// on the disk.
func TestJournal_decodedRecord(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Options{})
	made := &struct{ text string }{"x"}
	if _, err := j.Append(t.Context(), journal.Record{Data: []byte("x"), Decoded: made}); err != nil {
		t.Fatal(err)
	}
	if got, err := j.Read(1); err != nil || got.Decoded != any(made) {
		t.Errorf("got %v, %v", got, err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir, journal.Options{})
	if got, err := j.Read(1); err != nil || got.Decoded != nil || string(got.Data) != "x" {
		t.Errorf("got %v, %v", got, err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestOpen_modes checks that nothing of a journal is for other users: neither of
// a new one nor of one that an earlier version left with modes 0755 and 0644.
func TestOpen_modes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	for range 2 {
		j := open(t, dir, small)
		_, last := j.Bounds()
		appendN(t, j, int(last)+1, 40) // three segments
		paths, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(paths) < 5 {
			t.Fatalf("files %v, error %v, want segments, metadata and lock", paths, err)
		}
		for _, path := range append(paths, dir) {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%v (%v), want none but the owner to have rights", info.Mode(), path)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if err := os.Chmod(path, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
