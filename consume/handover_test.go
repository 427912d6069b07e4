package consume_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// The slots of a replica that ends are taken as soon as they are free, not when its
// slowest handler has ended.
func TestRun_shutdownWithSlowHandler(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	begun, finish := make(chan struct{}), make(chan struct{})
	var h history
	service := consume.Service[tally]{
		Name: "ivr", Lease: time.Minute, ShutdownTimeout: time.Minute,
		Handle: func(_ context.Context, call *consume.Call[tally], _ *schemas.Message) error {
			if call.ID == "slow" {
				close(begun)
				<-finish
				return nil
			}
			h.add(call.ID)
			return nil
		},
	}
	first := start(t, server.URL(), service)
	ready(t, js, "ivr")
	store(t, js, newEvent("PlayCompleted", "slow", "0", nil))
	<-begun
	start(t, server.URL(), service)
	first.cancel()
	others := 0
	for i := range 100 {
		if call := fmt.Sprint("call-", i); schemas.Slot(call) != schemas.Slot("slow") {
			store(t, js, newEvent("PlayCompleted", call, "0", nil))
			others++
		}
	}
	natstest.Until(t, func() bool { return len(h.all()) == others })
	close(finish)
}

// A loop that cannot write, since the network takes no more, still ends its handlers with
// the lease.
func TestRun_blockedWrites(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	proxy := natstest.NewProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	const calls = 300
	begun, finish, ended := make(chan string, calls+1), make(chan struct{}), make(chan time.Time, 1)
	start(t, proxy.URL(), consume.Service[string]{
		Name: "ivr", Lease: 3 * time.Second, Concurrency: calls + 1, HandleTimeout: time.Minute,
		Handle: func(ctx context.Context, call *consume.Call[string], _ *schemas.Message) error {
			begun <- call.ID
			if call.ID == "watched" {
				<-ctx.Done()
				select {
				case ended <- time.Now():
				default:
				}
				return ctx.Err()
			}
			<-finish
			call.State = strings.Repeat("x", 200<<10)
			return nil
		},
	})
	ready(t, js, "ivr")
	store(t, js, newEvent("PlayCompleted", "watched", "0", nil))
	for i := range calls {
		store(t, js, newEvent("PlayCompleted", fmt.Sprint("call-", i), "0", nil))
	}
	for range calls + 1 {
		<-begun
	}
	proxy.Shape(natstest.Conditions{Held: true}, natstest.Conditions{Held: true})
	cut := time.Now()
	close(finish)
	select {
	case at := <-ended:
		if took := at.Sub(cut); took > 3*time.Second {
			t.Errorf("the handler's context ended after %v, the lease being 3 s", took)
		}
	case <-time.After(10 * time.Second):
		t.Error("the handler's context does not end")
	}
	proxy.Clear()
}

// A slot that was lost while one of its handlers ignores the end of its context has an
// owner again after one more lease.
func TestRun_lostWithDeafHandler(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	proxy := natstest.NewProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	begun, finish := make(chan struct{}, 40), make(chan struct{})
	service := consume.Service[tally]{
		Name: "ivr", Lease: 3 * time.Second,
		Handle: func(context.Context, *consume.Call[tally], *schemas.Message) error {
			begun <- struct{}{}
			<-finish
			return nil
		},
	}
	start(t, proxy.URL(), service)
	ready(t, js, "ivr")
	for i := range 40 {
		store(t, js, newEvent("PlayCompleted", fmt.Sprint("call-", i), "0", nil))
	}
	for range 40 {
		<-begun
	}
	kv, err := js.KeyValue(t.Context(), consume.Bucket("ivr"))
	if err != nil {
		t.Fatal(err)
	}
	leases := func() (n int) {
		for _, slot := range "0123456789abcdef" {
			if _, err := kv.Get(t.Context(), string(slot)+".lease"); err == nil {
				n++
			}
		}
		return n
	}
	proxy.Shape(natstest.Conditions{Held: true}, natstest.Conditions{Held: true})
	natstest.Until(t, func() bool { return leases() == 0 })
	proxy.Clear()
	natstest.Until(t, func() bool { return leases() == 16 })
	close(finish)
}
