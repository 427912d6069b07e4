package main

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestPrefetch_eachEventOnce has work that is slow compared with the ack wait, and counts
// how often it is done: with the prefetch of the example once for each event, with the
// client's default more often.
func TestPrefetch_eachEventOnce(t *testing.T) {
	const (
		events = 60
		work   = 100 * time.Millisecond
		wait   = 4 * time.Second // for all of the work, it would take 6
	)
	if got := prefetch(wait, work); got != 20 {
		t.Fatalf("prefetch is %d, want 20", got)
	}
	for name, test := range map[string]struct {
		opts []jetstream.PullConsumeOpt
		once bool
	}{
		"of the example": {[]jetstream.PullConsumeOpt{jetstream.PullMaxMessages(prefetch(wait, work))}, true},
		"of the client":  {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := natstest.Start(t)
			js := server.JetStream()
			natstest.CreateStream(t, js, jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{"acs.>"}})
			for range events {
				if _, err := js.Publish(t.Context(), "acs.contoso.CallConnected.2.c", nil); err != nil {
					t.Fatal(err)
				}
			}
			consumer, err := js.CreateConsumer(t.Context(), schemas.Stream, jetstream.ConsumerConfig{
				Durable: "service", AckPolicy: jetstream.AckExplicitPolicy, AckWait: wait,
			})
			if err != nil {
				t.Fatal(err)
			}
			var runs, again atomic.Int64
			consuming, err := consumer.Consume(func(m jetstream.Msg) {
				meta, err := m.Metadata()
				if err != nil {
					t.Error(err)
					return
				}
				runs.Add(1)
				if meta.NumDelivered > 1 {
					again.Add(1)
				}
				time.Sleep(work) // the work itself
				if err := m.Ack(); err != nil {
					t.Error(err)
				}
			}, test.opts...)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				consuming.Stop()
				<-consuming.Closed()
			}()
			natstest.Until(t, func() bool {
				if !test.once {
					return again.Load() > 0
				}
				info, err := consumer.Info(t.Context())
				return err == nil && info.NumPending == 0 && info.NumAckPending == 0
			})
			if test.once && (runs.Load() != events || again.Load() != 0) {
				t.Errorf("%d events were done %d times, %d of them were sent again", events, runs.Load(), again.Load())
			}
		})
	}
}
