package journal

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A load balancer sends nothing to a bridge whose journal is failing, so
// nobody else would ever make it try again.
func TestAFailedLogIsOpenedAgainWithoutAnAppend(t *testing.T) {
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
			t.Error("a disk that is still broken counts as healed")
		}
		broken.Store(false)
		time.Sleep(2 * reopenAfter)
		if j.Stats().Failing {
			t.Error("the disk has healed and the journal still says failing")
		}
		// The failed record had reached the disk: the reader must hear of it.
		select {
		case <-j.Changed():
		default:
			t.Error("the reader was not told")
		}
		mustAppend(t, j, "three", 3)
	})
}
