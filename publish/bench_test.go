package publish_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/directget"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// BenchmarkDrain measures how fast a backlog reaches the stream once NATS is
// back. It has b.N records of so many calls at random, as old as an outage of ten
// minutes leaves them, so that a lookback comes first: to a server on the same machine,
// over a link with a delay, as between zones, and when one of a
// hundred was sent twice, and is compared. Afterwards the events of each call are in
// order.
func BenchmarkDrain(b *testing.B) {
	for _, c := range []struct {
		calls int
		twice float64
		link  time.Duration // its delay on the way to the server
	}{
		{1, 0, 0}, {20, 0, 0}, {200, 0, 0}, {5000, 0, 0}, {200, .01, 0},
		{1, 0, time.Millisecond}, {20, 0, time.Millisecond}, {200, 0, time.Millisecond}, {5000, 0, time.Millisecond},
	} {
		b.Run(fmt.Sprintf("calls=%d/twice=%g%%/link=%s", c.calls, 100*c.twice, c.link), func(b *testing.B) {
			drain(b, c.calls, c.twice, c.link)
		})
	}
}

func drain(b *testing.B, calls int, twice float64, link time.Duration) {
	server := natstest.Start(b)
	url := server.URL()
	if link > 0 {
		proxy := natstest.NewProxy(b, strings.TrimPrefix(url, "nats://"))
		proxy.Shape(natstest.Conditions{Latency: link}, natstest.Conditions{})
		url = proxy.URL()
	}
	w := start(b, url, publish.Options{Dir: b.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	server.Await(schemas.Stream, 0)
	server.Stop()
	natstest.Until(b, func() bool { return !w.Status().Connected })
	at := time.Now().Add(-10 * time.Minute)
	var again []schemas.Inbound // with the next callback
	for n := 0; n < b.N; {
		events := again
		again = nil
		for range min(100, b.N-n) {
			e := event(fmt.Sprintf("c%d", rand.N(calls)), n)
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
	b.StopTimer()
	if link > 0 { // timers make it longer
		nc, err := nats.Connect(url)
		if err != nil {
			b.Fatal(err)
		}
		defer nc.Close()
		rtt, err := nc.RTT()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(rtt.Microseconds())/1000, "round-trip-ms")
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	checkOrder(b, server)
}

// checkOrder makes sure that the events of each call are in the stream in the order in
// which they were published: event has their number as id.
func checkOrder(b *testing.B, server *natstest.Server) {
	newest := make(map[string]int)
	for next, more := uint64(1), true; more; {
		var err error
		more, err = directget.Get(b.Context(), server.JetStream(), directget.Request{Stream: schemas.Stream, Seq: next}, func(m *jetstream.RawStreamMsg) bool {
			call, number, _ := strings.Cut(m.Header.Get(schemas.HeaderEventID), "-")
			n, err := strconv.Atoi(number)
			if last, known := newest[call]; err != nil || known && n <= last {
				b.Fatalf("event %q is behind event %d of its call", m.Header.Get(schemas.HeaderEventID), last)
			}
			newest[call], next = n, m.Sequence+1
			return true
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	if len(newest) == 0 {
		b.Fatal("the stream has no event")
	}
}
