package journal

import (
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A load balancer sends nothing to a bridge whose journal is failing, so
// no further append would make it try again.
func TestJournal_reopenWithoutAnAppend(t *testing.T) {
	var broken atomic.Bool
	opts := Options{SegmentSize: 16 << 10, open: func(dir string, size int, l *slog.Logger) (store, error) {
		if broken.Load() {
			return nil, errDisk
		}
		s, err := openWAL(dir, size, l)
		return brokenDisk{s, &broken}, err
	}}
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		j, err := Open(dir, opts)
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		mustAppend(t, j, "one", 1)
		<-j.Changed()
		broken.Store(true)
		if _, err := j.Append(t.Context(), Record{Data: []byte("lost")}); err == nil {
			t.Fatal("a broken disk stored a record")
		}
		time.Sleep(3 * reopenAfter)
		if !j.Stats().Failing {
			t.Error("a disk that is still broken counts as repaired")
		}
		broken.Store(false)
		time.Sleep(2 * reopenAfter)
		if j.Stats().Failing {
			t.Error("the disk works again and the journal still says failing")
		}
		// The failed record had reached the disk: the reader must hear of it.
		select {
		case <-j.Changed():
		default:
			t.Error("the reader was not woken")
		}
		mustAppend(t, j, "three", 3)
	})
}

// A disk that fails a write may have lost those before it as well. Their
// indexes must not be given to others, since the reader may be past them.
func TestJournal_repair(t *testing.T) {
	var broken atomic.Bool
	dir := t.TempDir()
	opts := Options{SegmentSize: 16 << 10, open: func(dir string, size int, l *slog.Logger) (store, error) {
		if broken.Swap(false) { // the log is there as it was after the first record
			if err := os.RemoveAll(dir); err != nil {
				return nil, err
			}
			if err := os.CopyFS(dir, os.DirFS(dir+".early")); err != nil {
				return nil, err
			}
		}
		s, err := openWAL(dir, size, l)
		return brokenDisk{s, &broken}, err
	}}
	early, err := Open(dir, Options{SegmentSize: 16 << 10})
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, early, "one", 1)
	if err := early.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir+".early", os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		j, err := Open(dir, opts)
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		mustAppend(t, j, "two", 2)
		large := string(make([]byte, cachedMax+1)) // not kept in memory
		mustAppend(t, j, large, 3)
		mustAppend(t, j, "four", 4)
		broken.Store(true)
		if _, err := j.Append(t.Context(), Record{Data: []byte("lost")}); err == nil {
			t.Fatal("a broken disk stored a record")
		}
		time.Sleep(2 * reopenAfter)
		mustAppend(t, j, "five", 5)
		j.cache = cache{} // from the disk alone
		for i, want := range []string{"one", "two", "", "four", "five"} {
			if got, err := j.Read(uint64(i + 1)); err != nil || string(got.Data) != want {
				t.Errorf("record %d: got %d bytes, %v; want %q", i+1, len(got.Data), err, want)
			}
		}
		if s := j.Stats(); s.Records != 5 || s.Bytes != int64(len("onetwofourfive")) {
			t.Errorf("stats: %+v", s)
		}
	})
}
