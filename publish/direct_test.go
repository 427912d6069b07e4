package publish_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// A server that takes everything and answers nothing must not make callbacks
// wait for one another.
func TestDirect_silentServer(t *testing.T) {
	server := natstest.Start(t)
	elsewhere(t, server)
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Subscribe("acs.>", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	b := start(t, server.URL(), publish.Options{})
	natstest.Until(t, func() bool { return b.Status().Sending })

	const limit = 4 * time.Second // twice what a callback may wait
	var wg sync.WaitGroup
	for range 80 {
		wg.Go(func() {
			events := make([]schemas.Inbound, 50)
			for i := range events {
				events[i] = event("a", i)
			}
			begin := time.Now()
			err := b.Publish(context.Background(), claims(t), delivery(), events)
			if took := time.Since(begin); !errors.Is(err, publish.ErrUnavailable) || took > limit {
				t.Errorf("got %v after %s", err, took)
			}
		})
	}
	wg.Wait()
}

// A server takes connections before its JetStream is up.
func TestDirect_streamIsLookedAtAgain(t *testing.T) {
	server := natstest.Start(t, func(o *natsserver.Options) { o.JetStream = false })
	said := make(hears, 1)
	b := start(t, server.URL(), publish.Options{Logger: slog.New(slog.NewTextHandler(said, nil))})
	<-said
	server.EnableJetStream()
	server.Await(schemas.QuarantineStream, 0)
	b.publish("a", 1, 1)
	checkStream(t, server, map[string]int{"a": 1})
}

// hears gets a value when the log says that a stream cannot be used.
type hears chan struct{}

func (h hears) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("stream cannot be used")) {
		select {
		case h <- struct{}{}:
		default:
		}
	}
	return len(line), nil
}

func TestDirect_oneRefusalRefusesTheCallback(t *testing.T) {
	server := natstest.Start(t, func(o *natsserver.Options) { o.MaxPayload = 8 << 10 })
	b := start(t, server.URL(), publish.Options{})
	server.Await(schemas.QuarantineStream, 0)
	big := event("a", 2)
	big.Raw = make([]byte, 8<<10)
	for name, events := range map[string][]schemas.Inbound{
		"last": {event("a", 1), big}, "first": {big, event("a", 1)},
	} {
		if err := b.Publish(context.Background(), claims(t), delivery(), events); !errors.Is(err, publish.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", name, err)
		}
	}
}

func TestDirect_storedOrUnavailable(t *testing.T) {
	server := natstest.Start(t)
	b := start(t, server.URL(), publish.Options{})
	server.Await(schemas.Stream, 0)
	b.publish("a", 1, 5)
	checkStream(t, server, map[string]int{"a": 5})
	server.Stop()
	err := b.Publish(context.Background(), claims(t), delivery(), []schemas.Inbound{event("a", 6)})
	if !errors.Is(err, publish.ErrUnavailable) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
	server.Restart()
	natstest.Until(t, func() bool { return b.Status().Connected })
	b.publish("b", 1, 1) // what was refused must not appear later
	checkStream(t, server, map[string]int{"a": 5, "b": 1})

	server.Stop()
	server.Wipe() // the streams are made again
	server.Restart()
	server.Await(schemas.QuarantineStream, 0)
	b.publish("c", 1, 1)
	checkStream(t, server, map[string]int{"c": 1})
}
