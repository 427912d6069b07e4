package publish

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish/journal"
)

// A request that is lost with its connection is waited for no longer.
func TestForwarder_prepareEndsWithTheConnection(t *testing.T) {
	server := natstest.Start(t, func(o *server.Options) { o.JetStream = false })
	j, err := journal.Open(t.TempDir(), journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	proxy := natstest.NewProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	link, err := natsconn.Connect(natsconn.Config{URL: proxy.URL()}, nil)
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
	logger := slog.New(slog.NewTextHandler(&log, nil))
	f := newForwarder(&forwarder{
		journal: j, link: link, target: StreamConfig{}.withDefaults().eventTarget(link, logger), cursor: &cursor{},
		logger: logger, metrics: newMetrics(),
	})
	if err := f.send(t.Context(), js); !errors.Is(err, nats.ErrDisconnected) {
		t.Errorf("send returned %v", err)
	}
	if strings.Contains(log.String(), "stream cannot be used") {
		t.Errorf("the answer was waited for: %s", &log)
	}
}
