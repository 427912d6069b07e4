package consume_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// startBehind starts a service whose replica reaches the server through a proxy.
func startBehind[S any](t *testing.T, server *natstest.Server, s consume.Service[S]) (*replica, *natstest.Proxy) {
	t.Helper()
	proxy := natstest.NewProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	return start(t, proxy.URL(), s), proxy
}

// makeBucket makes the bucket of a service before its first start.
func makeBucket[S any](t *testing.T, js jetstream.JetStream, s *consume.Service[S]) jetstream.KeyValue {
	t.Helper()
	needs, err := s.Needs(1)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.CreateKeyValue(t.Context(), needs.Bucket)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

// A slot whose entries take longer to read than the lease lasts is taken once, and works.
// The answer to each renewal comes after the next one was sent, and no slot is lost.
func TestRun_slowEntries(t *testing.T) {
	const batches, latency = 4, 800 * time.Millisecond // of 1,024 entries
	server := newStream(t)
	js := server.JetStream()
	registry := prometheus.NewRegistry()
	var h history
	service := consume.Service[tally]{
		Name: "ivr", Lease: 3 * time.Second, Registerer: registry,
		Handle: func(_ context.Context, call *consume.Call[tally], m *schemas.Message) error {
			h.add(m.Event.ID)
			return nil
		},
	}
	kv := makeBucket(t, js, &service)
	for i := range batches * 1024 {
		_, err := js.PublishMsgAsync(&nats.Msg{Subject: fmt.Sprintf("$KV.acs_ivr.7.call.old-%d", i), Data: []byte(`{"epoch":1,"write":1,"cursor":1}`)})
		if err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	if _, err := kv.PutString(t.Context(), "7.lease", `{"replica":"another"}`); err != nil {
		t.Fatal(err)
	}
	_, proxy := startBehind(t, server, service)
	taken := func() float64 { return counted(t, registry, "acsbridge_consume_slots_taken_total") }
	natstest.Until(t, func() bool { return taken() == 15 })
	proxy.Shape(natstest.Conditions{}, natstest.Conditions{Latency: latency})
	if err := kv.Delete(t.Context(), "7.lease"); err != nil {
		t.Fatal(err)
	}
	store(t, js, newEvent("PlayCompleted", inSlot("7", 1)[0], "0", nil))
	natstest.Until(t, func() bool { return len(h.all()) == 1 })
	proxy.Clear()
	if n := taken(); n != 16 {
		t.Errorf("slots were taken %v times, want each of the 16 once", n)
	}
}
