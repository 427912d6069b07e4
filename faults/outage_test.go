package faults_test

import (
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
)

const (
	// outageP99 bounds the answers 200 while NATS is disconnected, in the long form: the short
	// one runs with other tests at the same time.
	outageP99 = 20 * time.Millisecond
	// drainRate is the minimum of records a second afterwards.
	drainRate = 10_000
)

// TestLookback_longOutage cuts off NATS during acknowledgements, for ten minutes with 500
// callbacks a second. All of them are answered 200. The records of the journal reach the
// stream fast, in order, and once, although the duplicate window has passed.
func TestLookback_longOutage(t *testing.T) {
	var from, to time.Time
	scenario{
		load: load{rate: 500}, drain: 2 * time.Minute,
		prepare: func(w *world) {
			w.createStream(jetstream.StreamConfig{Duplicates: byForm(shortWindow, 2*time.Minute)})
		},
		fault: func(w *world, _ int) {
			node := w.nats.nodes[0]
			node.clients.Shape(natstest.Conditions{}, natstest.Conditions{Held: true})
			w.pause(time.Second) // stored, and not acknowledged
			from = time.Now()
			node.stop(os.Kill)
			w.pause(byForm(2*shortWindow, 10*time.Minute))
			to = time.Now()
			w.clear()
			w.drains(node)
		},
		after: func(w *world) {
			got := timesOf(w.calls, from, to)
			p99 := quantile(got.stored, .99)
			w.Logf("while NATS was disconnected, %d callbacks were answered 200, p50 %v, p99 %v, max %v",
				len(got.stored), quantile(got.stored, .5), p99, quantile(got.stored, 1))
			if got.others > 0 {
				w.Errorf("while NATS was disconnected, %d callbacks were not answered 200", got.others)
			}
			if *form == "long" && p99 > outageP99 {
				w.Errorf("while NATS was disconnected, answers took %v in p99, want at most %v", p99, outageP99)
			}
		},
	}.run(t)
}

// drains starts NATS and measures how fast the journal empties while more
// comes in.
func (w *world) drains(node *node) {
	w.Helper()
	published := func() float64 { return sum(w.bridge.metrics(), "acsbridge_published_total{", "") }
	backlog := w.bridge.metrics()["acsbridge_forwarder_lag_records"]
	idle, back := published(), time.Now()
	node.start()
	until(w, aroundWithin, "forwarding begins", func() bool { return published() > idle })
	begin, before, read := time.Now(), published(), w.bridge.metrics()["acsbridge_lookback_messages_total"]
	w.bridge.drainsUnderLoad(w, 5*time.Minute)
	took := time.Since(begin)
	rate := (published() - before) / took.Seconds()
	w.Logf("NATS is back, %v later the first of %.0f records is published (%.0f messages read back), %v later the last: %.0f a second",
		begin.Sub(back).Round(time.Millisecond), backlog, read, took.Round(time.Millisecond), rate)
	if *form == "long" && rate < drainRate {
		w.Errorf("the journal empties at %.0f records a second, want %d", rate, drainRate)
	}
}
