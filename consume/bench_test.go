//go:build unix

package consume_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/schemas"
)

// BenchmarkRun handles a backlog of calls with ten events each, with a handler that keeps
// a counter in its state. One operation is one event. Server, stream and replicas are in
// one process.
//
//	go test ./consume -run '^$' -bench Run -benchtime 100000x
func BenchmarkRun(b *testing.B) {
	for _, replicas := range []int{1, 3} {
		b.Run(fmt.Sprintf("replicas=%d", replicas), func(b *testing.B) { benchmarkBacklog(b, replicas) })
	}
}

const eventsPerCall = 10

func benchmarkBacklog(b *testing.B, replicas int) {
	server := newStream(b)
	js := server.JetStream()
	fill(b, js, b.N)
	type count struct{ Events int }
	var handled atomic.Int64
	all := make(chan struct{})
	service := consume.Service[count]{
		Name: "bench", StartAt: time.Unix(1, 0), HandleStale: true,
		Handle: func(_ context.Context, call *consume.Call[count], _ *schemas.Message) error {
			call.State.Events++
			if handled.Add(1) == int64(b.N) {
				close(all)
			}
			return nil
		},
	}
	b.ResetTimer()
	for range replicas {
		start(b, server.URL(), service)
	}
	select {
	case <-all:
	case <-time.After(5 * time.Minute):
		b.Fatalf("%d of %d events were handled", handled.Load(), b.N)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// fill stores the events of calls, event by event of each call.
func fill(b *testing.B, js jetstream.JetStream, n int) {
	b.Helper()
	calls := max(n/eventsPerCall, 1)
	padding := make([]byte, 700) // with it a message has about a kilobyte
	for i := range padding {
		padding[i] = 'x'
	}
	for i := range n {
		m := newEvent("PlayCompleted", fmt.Sprintf("call-%d-%d", i%calls, i/calls/eventsPerCall), fmt.Sprint(i), map[string]any{"operationContext": string(padding)})
		if _, err := js.PublishMsgAsync(m, jetstream.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(time.Minute):
		b.Fatal("the events are not stored")
	}
}

// BenchmarkRun_latency measures from the moment when the stream has an event until its
// handler begins, at 200 events a second.
func BenchmarkRun_latency(b *testing.B) {
	server := newStream(b)
	js := server.JetStream()
	arrived := make(chan time.Time, 1)
	start(b, server.URL(), consume.Service[struct{}]{
		Name: "bench",
		Handle: func(context.Context, *consume.Call[struct{}], *schemas.Message) error {
			arrived <- time.Now()
			return nil
		},
	})
	ready(b, js, "bench")
	var all []time.Duration
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i := 0; b.Loop(); i++ {
		<-tick.C
		store(b, js, newEvent("PlayCompleted", fmt.Sprint("call-", i/eventsPerCall), fmt.Sprint(i), nil))
		stored := time.Now()
		all = append(all, (<-arrived).Sub(stored))
	}
	b.ReportMetric(quantile(all, 0.5).Seconds()*1e3, "p50-ms")
	b.ReportMetric(quantile(all, 0.99).Seconds()*1e3, "p99-ms")
}

func quantile(all []time.Duration, q float64) time.Duration {
	all = slices.Sorted(slices.Values(all))
	return all[min(int(q*float64(len(all))), len(all)-1)]
}

// BenchmarkPlainConsumer handles the same backlog with a durable consumer that all
// workers share: no order, no state, an acknowledgement for each event.
func BenchmarkPlainConsumer(b *testing.B) {
	server := newStream(b)
	js := server.JetStream()
	fill(b, js, b.N)
	consumer, err := js.CreateConsumer(b.Context(), schemas.Stream, jetstream.ConsumerConfig{Durable: "plain", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: -1})
	if err != nil {
		b.Fatal(err)
	}
	var handled atomic.Int64
	all := make(chan struct{})
	b.ResetTimer()
	running, err := consumer.Consume(func(m jetstream.Msg) {
		if _, err := schemas.Parse(m.Headers(), m.Data()); err != nil {
			b.Error(err)
		}
		if err := m.Ack(); err != nil {
			b.Error(err)
		}
		if handled.Add(1) == int64(b.N) {
			close(all)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	defer running.Stop()
	<-all
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
