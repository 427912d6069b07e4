package publish_test

import (
	"context"
	"errors"
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
func TestWithoutAJournalNobodyWaitsLongForASilentServer(t *testing.T) {
	server := natstest.Start(t, func(o *natsserver.Options) { o.JetStream = false })
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
	natstest.Until(t, func() bool { return b.Status().Connected })

	const limit = 4 * time.Second // twice what a callback may wait
	var wg sync.WaitGroup
	for range 80 {
		wg.Go(func() {
			events := make([]schemas.Event, 50)
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
