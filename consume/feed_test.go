package consume_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// inSlot returns n calls of one slot.
func inSlot(slot string, n int) (calls []string) {
	for i := 0; len(calls) < n; i++ {
		if call := fmt.Sprint("call-", i); schemas.Slot(schemas.CallToken(call)) == slot {
			calls = append(calls, call)
		}
	}
	return calls
}

// A timeout comes although the stream has removed events that were stored before its
// deadline, after the slot has found out that they are to come.
func TestRun_timeoutAfterPurge(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	var h history
	finish := make(chan struct{})
	calls := inSlot("7", 2)
	start(t, server.URL(), consume.Service[tally]{
		Name: "ivr", Concurrency: 2,
		Handle: func(ctx context.Context, call *consume.Call[tally], m *schemas.Message) error {
			switch m.Event.Data.(type) {
			case *schemas.CallConnected:
				call.Expect(time.Second, "RecognizeCompleted")
				h.add("connected")
			case *consume.Timeout:
				h.add("timeout")
			default:
				if m.Event.ID == "0" {
					h.add("blocked")
					select {
					case <-finish:
					case <-ctx.Done():
					}
				}
			}
			return ctx.Err()
		},
	})
	ready(t, js, "ivr")
	store(t, js, newEvent("CallConnected", calls[0], "0", nil))
	natstest.Until(t, func() bool { return len(h.all()) == 1 })
	deadline := time.Now().Add(time.Second)
	questions, err := connect(t, server.URL()).SubscribeSync("$JS.API.CONSUMER.INFO.ACS." + consume.ConsumerName("ivr", "7"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 { // more than the prefetch
		store(t, js, newEvent("PlayCompleted", calls[1], fmt.Sprint(i), nil))
	}
	natstest.Until(t, func() bool { return len(h.all()) == 2 })
	for time.Now().Before(deadline) {
		if _, err := questions.NextMsg(10 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := js.Stream(t.Context(), schemas.Stream)
	if err == nil {
		err = stream.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	close(finish)
	natstest.Until(t, func() bool { return len(h.all()) == 3 })
	if diff := cmp.Diff([]string{"connected", "blocked", "timeout"}, h.all()); diff != "" {
		t.Error(diff)
	}
}

// An event whose delivery was lost is handled, though no other follows that would show
// the loss.
func TestRun_lastDeliveryLost(t *testing.T) {
	defer consume.SetInfoInterval(500 * time.Millisecond)()
	server := newStream(t)
	js := server.JetStream()
	var h history
	r := start(t, server.URL(), consume.Service[tally]{
		Name: "ivr",
		Handle: func(_ context.Context, _ *consume.Call[tally], m *schemas.Message) error {
			h.add(m.Event.ID)
			return nil
		},
	})
	ready(t, js, "ivr")
	nc := connect(t, server.URL())
	lost, err := nc.SubscribeSync(nats.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	pull := func() { // takes a delivery away, after the request of the replica was answered
		err := nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT.ACS."+consume.ConsumerName("ivr", "7"), lost.Subject, []byte(`{"batch":1}`))
		if err == nil {
			err = nc.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	call := inSlot("7", 1)[0]
	store(t, js, newEvent("PlayCompleted", call, "0", nil))
	natstest.Until(t, func() bool { return len(h.all()) == 1 })
	pull()
	var want []string
	for i := 0; ; i++ {
		want = append(want, fmt.Sprint(i))
		if i > 0 {
			store(t, js, newEvent("PlayCompleted", call, fmt.Sprint(i), nil))
			if _, err := lost.NextMsg(200 * time.Millisecond); err == nil {
				break
			}
		}
		if i == 20 {
			t.Fatal("the replica gets every delivery")
		}
	}
	natstest.Until(t, func() bool { return len(h.all()) == len(want) })
	r.stop(t) // before the interval is changed back
	if got := h.all(); !slices.Equal(got, want) {
		t.Errorf("handled: %v, want %v", got, want)
	}
}
