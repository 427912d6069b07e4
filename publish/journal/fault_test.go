package journal

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
)

// brokenDisk stores like the real log, and then may report a failure.
type brokenDisk struct {
	store
	broken *atomic.Bool
}

var errDisk = errors.New("input/output error")

func (d brokenDisk) append(entries []entry) error {
	if err := d.store.append(entries); err != nil {
		return err
	}
	if d.broken.Load() {
		return errDisk
	}
	return nil
}

func TestJournal_failedAppend(t *testing.T) {
	var broken atomic.Bool
	opts := Options{SegmentSize: 16 << 10, open: func(dir string, size int, l *slog.Logger) (store, error) {
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

		broken.Store(true)
		if _, err := j.Append(t.Context(), Record{Data: []byte("lost")}); !errors.Is(err, ErrFailing) || !errors.Is(err, errDisk) {
			t.Fatalf("got %v, want ErrFailing and its cause", err)
		}
		if !j.Stats().Failing {
			t.Error("stats do not say failing")
		}
		// Even a repaired disk is left alone until the pause is over.
		broken.Store(false)
		if _, err := j.Append(t.Context(), Record{Data: []byte("early")}); !errors.Is(err, ErrFailing) {
			t.Fatalf("got %v, want ErrFailing", err)
		}
		time.Sleep(reopenAfter)
		// The disk had stored the failed record: numbering goes on behind it.
		mustAppend(t, j, "three", 3)
		if j.Stats().Failing {
			t.Error("stats still say failing")
		}
		for i, want := range []string{1: "one", 2: "lost", 3: "three"} {
			if i == 0 {
				continue
			}
			if got, err := j.Read(uint64(i)); err != nil || string(got.Data) != want {
				t.Errorf("record %d: got %q, %v", i, got, err)
			}
		}
	})
}

func mustAppend(t *testing.T, j *Journal, rec string, want uint64) {
	t.Helper()
	last, err := j.Append(t.Context(), Record{Data: []byte(rec)})
	if err != nil || last != want {
		t.Fatalf("append %s: got %d, %v, want %d", rec, last, err, want)
	}
}

// crashingMeta loses the metadata's commits, as a kill would.
type crashingMeta struct {
	metadb.BoltMetaDB
	crashed bool
}

func (m *crashingMeta) CommitState(s types.PersistentState) error {
	if m.crashed {
		return errors.New("crashed")
	}
	return m.BoltMetaDB.CommitState(s)
}

func TestJournal_crashWhileSealing(t *testing.T) {
	const segmentSize = 8 << 10
	dir := t.TempDir()
	meta := &crashingMeta{}
	log, err := wal.Open(dir, wal.WithMetaStore(meta), wal.WithSegmentSize(segmentSize), wal.WithLogger(walLogger(slog.New(slog.DiscardHandler))))
	if err != nil {
		t.Fatal(err)
	}
	meta.crashed = true
	s := &walStore{log: log, meta: &meta.BoltMetaDB}
	stored := uint64(0)
	for {
		e := entry{index: stored + 1, offset: stored * 500, Record: Record{Data: make([]byte, 500)}}
		if err := s.append([]entry{e}); errors.Is(err, wal.ErrSealed) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		stored++
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}

	for range 2 { // the repaired state must itself be good to open again
		j, err := Open(dir, Options{SegmentSize: segmentSize})
		if err != nil {
			t.Fatal(err)
		}
		if first, last := j.Bounds(); first != 1 || last != stored {
			t.Fatalf("bounds: got %d, %d, want 1, %d", first, last, stored)
		}
		stored++
		mustAppend(t, j, fmt.Sprintf("after the crash %0500d", stored), stored)
		for i := uint64(1); i <= stored; i++ {
			if _, err := j.Read(i); err != nil {
				t.Error(err)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestJournal_tornBatch(t *testing.T) {
	dir := t.TempDir()
	s, err := openWAL(dir, 64<<10, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.append([]entry{{1, 0, Record{Data: []byte("whole")}}}); err != nil {
		t.Fatal(err)
	}
	if err := s.append([]entry{{2, 5, Record{Data: []byte("torn")}}, {3, 9, Record{Data: []byte("torn too")}}}); err != nil {
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	tear(t, dir, "torn too")
	j, err := Open(dir, Options{SegmentSize: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if first, last := j.Bounds(); first != 1 || last != 1 {
		t.Fatalf("bounds: got %d, %d, want 1, 1", first, last)
	}
	mustAppend(t, j, "next", 2)
}

// tear zeroes everything from rec to the end of the segment that holds it.
func tear(t *testing.T, dir, rec string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	content, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(content, []byte(rec))
	if at < 0 {
		t.Fatal("record not found on disk")
	}
	clear(content[at:])
	if err := os.WriteFile(names[0], content, 0o600); err != nil {
		t.Fatal(err)
	}
}
