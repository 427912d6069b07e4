package publish

import (
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
)

// A stream's own duplicate window may be shorter than the configured one.
// Forgetting it would count records as safe that the stream no longer knows.
func TestAFailedLookForgetsNothingOfTheStream(t *testing.T) {
	bare := natstest.Start(t, func(o *server.Options) { o.JetStream = false })
	nc, err := nats.Connect(bare.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{
		stream: StreamConfig{}.withDefaults(), logger: slog.New(slog.DiscardHandler),
		state: streamState{exists: true, window: time.Minute, differences: []string{"duplicate window"}},
	}
	f.prepare(t.Context(), js)
	if f.problem == nil {
		t.Fatal("a server without JetStream has no stream")
	}
	if f.state.window != time.Minute || len(f.state.differences) != 1 {
		t.Errorf("got %+v", f.state)
	}
}
