//go:build unix

package consume_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// BenchmarkRun handles a backlog of calls with ten events each, or of so many calls, with
// a handler that keeps a counter in its state. One operation is one event. Servers,
// stream and replicas are in one process.
//
//	go test ./consume -run '^$' -bench 'Run$' -benchtime 60000x
func BenchmarkRun(b *testing.B) {
	const link = time.Millisecond
	for _, l := range []backlog{
		{replicas: 1, nodes: 1}, {replicas: 3, nodes: 1}, {replicas: 1, nodes: 1, row: true},
		{replicas: 1, nodes: 1, calls: 1}, {replicas: 1, nodes: 1, calls: 5000}, {replicas: 1, nodes: 1, link: link},
		{replicas: 1, nodes: 3}, {replicas: 3, nodes: 3}, {replicas: 1, nodes: 3, link: link},
	} {
		b.Run(fmt.Sprintf("replicas=%d/nodes=%d/calls=%d/row=%t/link=%v", l.replicas, l.nodes, l.calls, l.row, l.link), l.run)
	}
}

const eventsPerCall = 10

// backlog says what a replica finds, and where.
type backlog struct {
	replicas, nodes int
	calls           int           // zero: as many as have ten events each
	row             bool          // the events of a call follow one another
	link            time.Duration // round trip between replicas and NATS, and between the nodes
}

func (l backlog) run(b *testing.B) {
	js, url := l.servers(b)
	l.fill(b, js)
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
	for range l.replicas {
		start(b, url, service)
	}
	select {
	case <-all:
	case <-time.After(5 * time.Minute):
		b.Fatalf("%d of %d events were handled", handled.Load(), b.N)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// servers starts NATS with the stream, and returns where replicas connect.
func (l backlog) servers(b *testing.B) (js jetstream.JetStream, url string) {
	c := newCluster(b, l.nodes)
	js = natstest.JetStream(b, c.urls())
	c.createStream(js, jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{"acs.>"}, AllowDirect: true})
	if l.link == 0 {
		return js, c.urls()
	}
	way := natstest.Conditions{Latency: l.link / 2}
	for _, route := range c.routes {
		route.Shape(way, way)
	}
	proxy := natstest.NewProxy(b, strings.TrimPrefix(c.servers[0].URL(), "nats://"))
	proxy.Shape(way, way)
	return js, proxy.URL()
}

// fill stores the events of calls.
func (l backlog) fill(b *testing.B, js jetstream.JetStream) {
	b.Helper()
	padding := strings.Repeat("x", 700) // with it a message has about a kilobyte
	for i := range b.N {
		call := i / eventsPerCall
		switch {
		case l.calls > 0:
			call = i % l.calls
		case !l.row:
			call = i % max(b.N/eventsPerCall, 1)
		}
		m := newEvent("PlayCompleted", fmt.Sprint("call-", call), fmt.Sprint(i), map[string]any{"operationContext": padding})
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
	for _, l := range []backlog{{nodes: 1}, {nodes: 1, link: time.Millisecond}, {nodes: 3}, {nodes: 3, link: time.Millisecond}} {
		b.Run(fmt.Sprintf("nodes=%d/link=%v", l.nodes, l.link), l.latency)
	}
}

func (l backlog) latency(b *testing.B) {
	js, url := l.servers(b)
	arrived := make(chan time.Time, 1)
	start(b, url, consume.Service[struct{}]{
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
	js, _ := backlog{nodes: 1}.servers(b)
	backlog{}.fill(b, js)
	consumer, err := js.CreateConsumer(b.Context(), schemas.Stream, jetstream.ConsumerConfig{Durable: "plain", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: -1})
	if err != nil {
		b.Fatal(err)
	}
	handle, all := acknowledge(b)
	b.ResetTimer()
	running, err := consumer.Consume(handle)
	if err != nil {
		b.Fatal(err)
	}
	defer running.Stop()
	<-all
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// acknowledge returns a handler that parses each message and acknowledges it, and a channel
// that is closed after b.N of them.
func acknowledge(b *testing.B) (handle func(jetstream.Msg), all chan struct{}) {
	var handled atomic.Int64
	all = make(chan struct{})
	return func(m jetstream.Msg) {
		if _, err := schemas.Parse(m.Headers(), m.Data()); err != nil {
			b.Error(err)
		}
		if err := m.Ack(); err != nil {
			b.Error(err)
		}
		if handled.Add(1) == int64(b.N) {
			close(all)
		}
	}, all
}
