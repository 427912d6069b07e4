//go:build unix

package journal_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/publish/journal"
)

// BenchmarkAppend makes records durable, of the size that a callback leads to,
// with one writer and with 64 of them. Besides the time of one record it
// reports the CPU time, fsyncs included; the file system decides most of it.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			j, err := journal.Open(b.TempDir(), journal.Options{MaxBytes: 1 << 40})
			if err != nil {
				b.Fatal(err)
			}
			defer j.Close()
			record := make([]byte, 2000)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			before := cpuTime(b)
			b.ResetTimer()
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						last, err := j.Append(context.Background(), journal.Record{Data: record})
						if err != nil {
							b.Error(err)
							return
						}
						if last%20000 == 0 { // the forwarder does so too
							if err := j.Truncate(last - 1000); err != nil {
								b.Error(err)
							}
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
