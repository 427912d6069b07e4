package publish_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// BenchmarkDrain measures how fast a backlog reaches the stream once NATS is
// back. It has b.N records of 200 calls at random, as old as an outage of ten
// minutes leaves them, so that a lookback comes first; and the same when
// one of a hundred was sent twice, and is compared.
func BenchmarkDrain(b *testing.B) {
	for _, twice := range []float64{0, .01} {
		b.Run(fmt.Sprintf("%g%% twice", 100*twice), func(b *testing.B) { drain(b, twice) })
	}
}

func drain(b *testing.B, twice float64) {
	server := natstest.Start(b)
	w := start(b, server.URL(), publish.Options{Dir: b.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	server.Await(schemas.Stream, 0)
	server.Stop()
	natstest.Until(b, func() bool { return !w.Status().Connected })
	at := time.Now().Add(-10 * time.Minute)
	var again []schemas.Inbound // with the next callback
	for n := 0; n < b.N; {
		events := again
		again = nil
		for range min(100, b.N-n) {
			e := event(fmt.Sprintf("c%d", rand.N(200)), n)
			e.Raw = append(e.Raw[:len(e.Raw)-1], fmt.Sprintf(`,"pad":%q}`, make([]byte, 150))...)
			events = append(events, e)
			n++
			if rand.Float64() < twice {
				again = append(again, e)
			}
		}
		d := delivery()
		d.ReceivedAt = at
		if err := w.Publish(context.Background(), claims(b), d, events); err != nil {
			b.Fatal(err)
		}
	}
	server.Restart()
	natstest.Until(b, func() bool { return w.Status().Connected })
	b.ResetTimer()
	if left := w.Drain(b.Context()); left > 0 {
		b.Fatalf("%d records are left", left)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
