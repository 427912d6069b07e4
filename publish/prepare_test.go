package publish

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish/journal"
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

// A request that is lost with its connection is waited for no longer: the next
// session can begin.
func TestALookAtTheStreamsEndsWithTheConnection(t *testing.T) {
	server := natstest.Start(t, func(o *server.Options) { o.JetStream = false })
	j, err := journal.Open(t.TempDir(), journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	proxy := natstest.NewProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	link, err := Connect(NATS{URL: proxy.URL()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	js, err := link.JetStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Conn().Subscribe("$JS.API.STREAM.INFO.>", func(*nats.Msg) { proxy.Cut() }); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	f := newForwarder(&forwarder{
		journal: j, link: link, stream: StreamConfig{}.withDefaults(), cursor: &cursor{},
		logger: slog.New(slog.NewTextHandler(&log, nil)), metrics: newMetrics(),
	})
	if err := f.session(t.Context(), js); !errors.Is(err, nats.ErrDisconnected) {
		t.Errorf("the session ended with %v", err)
	}
	if strings.Contains(log.String(), "prepared") {
		t.Errorf("the answer was waited for: %s", &log)
	}
}
