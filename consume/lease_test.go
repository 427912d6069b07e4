package consume_test

import (
	"context"
	"fmt"
	"slices"
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
		_, err := js.PublishMsgAsync(&nats.Msg{Subject: fmt.Sprintf("$KV.acs_ivr.7.call.old-%d", i), Data: []byte(`{"epoch":1,"write":1,"cursor":1}`)}, jetstream.WithStallWait(time.Minute))
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

// A slot changes hands though one of its handlers takes long: that one is cut off, and its
// event is handled elsewhere, as its first attempt; what another one has done until then is
// stored. Nothing waits for the end of a lease.
func TestRun_slowHandler(t *testing.T) {
	for _, ends := range []bool{false, true} {
		t.Run(fmt.Sprint("the former owner ends=", ends), func(t *testing.T) {
			server := newStream(t)
			js := server.JetStream()
			var h history
			version := func(name string) consume.Service[tally] {
				return consume.Service[tally]{
					Name: "ivr", Lease: time.Minute, HandleTimeout: time.Minute, ShutdownTimeout: 500 * time.Millisecond,
					Handle: func(ctx context.Context, call *consume.Call[tally], m *schemas.Message) error {
						h.add(fmt.Sprint(name, " ", m.Event.ID, " attempt ", call.Attempt))
						if name == "first" {
							<-ctx.Done()
						}
						if m.Event.ID == "careful" {
							return nil
						}
						return ctx.Err()
					},
				}
			}
			first := start(t, server.URL(), version("first"))
			ready(t, js, "ivr")
			for _, slot := range "0123456789abcdef" {
				calls := inSlot(string(slot), 2)
				store(t, js, newEvent("PlayCompleted", calls[0], "slow", nil))
				store(t, js, newEvent("PlayCompleted", calls[1], "careful", nil))
			}
			natstest.Until(t, func() bool { return len(h.all()) == 32 })
			moved := 8
			start(t, server.URL(), version("second"))
			if ends {
				moved = 16
				first.stop(t)
			}
			natstest.Until(t, func() bool { return len(h.all()) == 32+moved })
			for _, line := range h.all()[32:] {
				if line != "second slow attempt 1" {
					t.Errorf("then: %s", line)
				}
			}
		})
	}
}

// Free slots are taken side by side.
func TestRun_slotsSideBySide(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	registry := prometheus.NewRegistry()
	service := consume.Service[tally]{
		Name: "ivr", Registerer: registry, Handle: func(context.Context, *consume.Call[tally], *schemas.Message) error { return nil },
	}
	kv := makeBucket(t, js, &service)
	each := func(do func(key string) error) {
		for _, slot := range "0123456789abcdef" {
			if err := do(string(slot) + ".lease"); err != nil {
				t.Fatal(err)
			}
		}
	}
	each(func(key string) error {
		_, err := kv.PutString(t.Context(), key, `{"replica":"another"}`)
		return err
	})
	_, proxy := startBehind(t, server, service)
	natstest.Until(t, func() bool {
		keys, err := kv.Keys(t.Context())
		return err == nil && slices.ContainsFunc(keys, func(key string) bool { return strings.HasPrefix(key, "replica.") })
	})
	natstest.Until(t, func() bool { // its metrics are there when it has prepared all
		families, err := registry.Gather()
		return err == nil && len(families) > 0
	})
	proxy.Shape(natstest.Conditions{}, natstest.Conditions{Latency: 500 * time.Millisecond})
	each(func(key string) error { return kv.Delete(t.Context(), key) })
	began := time.Now()
	natstest.Until(t, func() bool { return counted(t, registry, "acsbridge_consume_slots_taken_total") == 16 })
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("it took %v; one after the other would take 8 s", took)
	}
	proxy.Clear()
}
