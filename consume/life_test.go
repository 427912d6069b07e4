package consume_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// A service that ends lets its handler finish, and saves what it did.
func TestRun_shutdown(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	begun, finish := make(chan struct{}), make(chan struct{})
	r := start(t, server.URL(), consume.Service[tally]{
		Name: "ivr", ShutdownTimeout: 30 * time.Second,
		Handle: func(ctx context.Context, call *consume.Call[tally], m *schemas.Message) error {
			close(begun)
			<-finish
			call.State.Events = append(call.State.Events, m.Event.ID)
			return ctx.Err()
		},
	})
	ready(t, js, "ivr")
	store(t, js, newEvent("PlayCompleted", "call", "0", nil))
	<-begun
	r.cancel()
	close(finish)
	r.stop(t)
	kv, err := js.KeyValue(t.Context(), consume.Bucket("ivr"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"0"}, stateOf(t, kv, "call")); diff != "" {
		t.Error(diff)
	}
	consumer, err := js.Consumer(t.Context(), schemas.Stream, consume.ConsumerName("ivr", schemas.Slot("call")))
	if err != nil {
		t.Fatal(err)
	}
	natstest.Until(t, func() bool {
		info, err := consumer.Info(t.Context())
		return err == nil && info.NumAckPending == 0 && info.AckFloor.Stream == 1
	})
}

// A handler that does not return at the end of its time is cut off, which is an attempt.
func TestRun_handleTimeout(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	var h history
	start(t, server.URL(), consume.Service[tally]{
		Name: "ivr", HandleTimeout: 50 * time.Millisecond, FirstRetry: 10 * time.Millisecond,
		Handle: func(ctx context.Context, call *consume.Call[tally], _ *schemas.Message) error {
			h.add(fmt.Sprint(call.Attempt))
			if call.Attempt == 1 {
				<-ctx.Done()
			}
			return ctx.Err()
		},
	})
	ready(t, js, "ivr")
	store(t, js, newEvent("PlayCompleted", "call", "0", nil))
	natstest.Until(t, func() bool { return len(h.all()) == 2 })
	if diff := cmp.Diff([]string{"1", "2"}, h.all()); diff != "" {
		t.Error(diff)
	}
}

// counted returns the sum of a metric over its labels.
func counted(t *testing.T, g prometheus.Gatherer, name string) (sum float64) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// What the stream removes before it was handled is counted: unread events, and a parked
// one.
func TestRun_retentionOvertakes(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	registry := prometheus.NewRegistry()
	var h history
	service := consume.Service[tally]{
		Name: "ivr", FirstRetry: 2 * time.Second, Registerer: registry,
		Handle: func(_ context.Context, call *consume.Call[tally], m *schemas.Message) error {
			h.add(call.ID + m.Event.ID)
			if call.ID == "parked" {
				return errors.New("not yet")
			}
			return nil
		},
	}
	r := start(t, server.URL(), service)
	ready(t, js, "ivr")
	store(t, js, newEvent("PlayCompleted", "parked", "0", nil))
	store(t, js, newEvent("PlayCompleted", "call", "0", nil))
	natstest.Until(t, func() bool { return len(h.all()) >= 2 })
	r.stop(t)
	store(t, js, newEvent("PlayCompleted", "call", "1", nil))
	stream, err := js.Stream(t.Context(), schemas.Stream)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxMsgs = 1
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	store(t, js, newEvent("PlayCompleted", "call", "2", nil))
	start(t, server.URL(), service)
	natstest.Until(t, func() bool {
		return counted(t, registry, "acsbridge_consume_removed_messages_total") > 0 && counted(t, registry, "acsbridge_consume_skipped_total") == 1
	})
	natstest.Until(t, func() bool { return len(h.all()) == 3 })
	if got := h.all()[2]; got != "call2" {
		t.Errorf("handled afterwards: %s, want call2", got)
	}
}

// The trace of the callback goes on in the handler.
func TestRun_traceparent(t *testing.T) {
	before := otel.GetTextMapPropagator()
	otel.SetTextMapPropagator(propagation.TraceContext{})
	defer otel.SetTextMapPropagator(before)
	server := newStream(t)
	js := server.JetStream()
	var h history
	start(t, server.URL(), consume.Service[tally]{
		Name: "ivr",
		Handle: func(ctx context.Context, _ *consume.Call[tally], _ *schemas.Message) error {
			h.add(trace.SpanContextFromContext(ctx).TraceID().String())
			return nil
		},
	})
	ready(t, js, "ivr")
	m := newEvent("PlayCompleted", "call", "0", nil)
	m.Header.Set(schemas.HeaderTraceparent, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	store(t, js, m)
	natstest.Until(t, func() bool { return len(h.all()) == 1 })
	if diff := cmp.Diff([]string{"4bf92f3577b34da6a3ce929d0e0e4736"}, h.all()); diff != "" {
		t.Error(diff)
	}
}

func TestCall_effectID(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	var h history
	start(t, server.URL(), consume.Service[tally]{
		Name: "ivr", FirstRetry: 10 * time.Millisecond,
		Handle: func(_ context.Context, call *consume.Call[tally], m *schemas.Message) error {
			h.add(call.EffectID("a"))
			h.add(call.EffectID("b"))
			if m.Event.ID == "0" && call.Attempt == 1 {
				return errors.New("again")
			}
			return nil
		},
	})
	ready(t, js, "ivr")
	store(t, js, newEvent("PlayCompleted", "call", "0", nil))
	store(t, js, newEvent("PlayCompleted", "call", "1", nil))
	natstest.Until(t, func() bool { return len(h.all()) == 6 })
	ids := h.all()
	if ids[0] != ids[2] || ids[1] != ids[3] || ids[0] == ids[1] || ids[0] == ids[4] || len(ids[0]) != 36 || ids[0][14] != '5' {
		t.Errorf("ids of two attempts and of another event: %v", ids)
	}
}

// A handler that ends its goroutine, as t.FailNow does, has failed.
func TestRun_handlerEndsGoroutine(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	var h history
	start(t, server.URL(), consume.Service[tally]{
		Name: "ivr", FirstRetry: 10 * time.Millisecond, Concurrency: 1,
		Handle: func(_ context.Context, call *consume.Call[tally], _ *schemas.Message) error {
			if h.add(fmt.Sprint(call.Attempt)); call.Attempt == 1 {
				runtime.Goexit()
			}
			return nil
		},
	})
	ready(t, js, "ivr")
	store(t, js, newEvent("PlayCompleted", "call", "0", nil))
	natstest.Until(t, func() bool { return len(h.all()) == 2 })
	if diff := cmp.Diff([]string{"1", "2"}, h.all()); diff != "" {
		t.Error(diff)
	}
}

// A stream that was deleted and made anew counts from 1 again. With the positions of the
// old one its events would count as finished, so a service does not start.
func TestRun_streamMadeAnew(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	var h history
	service := consume.Service[tally]{
		Name: "ivr",
		Handle: func(_ context.Context, _ *consume.Call[tally], m *schemas.Message) error {
			h.add(m.Event.ID)
			return nil
		},
	}
	r := start(t, server.URL(), service)
	ready(t, js, "ivr")
	store(t, js, newEvent("PlayCompleted", "call", "0", nil))
	natstest.Until(t, func() bool { return len(h.all()) == 1 })
	r.stop(t)
	if err := js.DeleteStream(t.Context(), schemas.Stream); err != nil {
		t.Fatal(err)
	}
	makeStream(t, js, 1)
	const want = "nats kv del acs_ivr"
	if err := consume.Run(t.Context(), connect(t, server.URL()), service); err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("Run returns %v, want an error with %q", err, want)
	}
	if err := js.DeleteKeyValue(t.Context(), consume.Bucket("ivr")); err != nil {
		t.Fatal(err)
	}
	start(t, server.URL(), service)
	ready(t, js, "ivr")
	store(t, js, newEvent("PlayCompleted", "call", "1", nil))
	natstest.Until(t, func() bool { return len(h.all()) == 2 })
}

// The state of a call that has ended expires; that of another is kept.
func TestRun_endedCallExpires(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	start(t, server.URL(), consume.Service[tally]{
		Name: "ivr", KeepEnded: time.Second,
		Handle: func(_ context.Context, call *consume.Call[tally], m *schemas.Message) error {
			call.State.Events = append(call.State.Events, m.Event.ID)
			return nil
		},
	})
	ready(t, js, "ivr")
	kv, err := js.KeyValue(t.Context(), consume.Bucket("ivr"))
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range []string{"open", "ended"} {
		store(t, js, newEvent("CallConnected", call, "0", nil))
		natstest.Until(t, func() bool { return len(stateOf(t, kv, call)) == 1 })
	}
	store(t, js, newEvent("CallDisconnected", "ended", "1", nil))
	natstest.Until(t, func() bool { return len(stateOf(t, kv, "ended")) == 0 })
	if got := stateOf(t, kv, "open"); len(got) != 1 {
		t.Errorf("the state of a call that has not ended has events %v", got)
	}
}
