package consume_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// newStream starts a server with the stream of the bridge.
func newStream(t testing.TB) *natstest.Server {
	t.Helper()
	s := natstest.Start(t)
	makeStream(t, s.JetStream(), 1)
	return s
}

func makeStream(t testing.TB, js jetstream.JetStream, replicas int) {
	t.Helper()
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: schemas.Stream, Subjects: []string{"acs.>"}, AllowDirect: true, MaxAge: 72 * time.Hour, Replicas: replicas, Duplicates: 10 * time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// newEvent returns the message of an event as a bridge would store it.
func newEvent(shortType, call, id string, data map[string]any) *nats.Msg {
	all := map[string]any{"callConnectionId": call}
	for name, value := range data {
		all[name] = value
	}
	payload, err := json.Marshal(map[string]any{
		"id": id, "source": "calling/callConnections/" + call, "type": schemas.TypePrefix + shortType,
		"specversion": "1.0", "time": time.Now().UTC().Format(time.RFC3339Nano), "data": all,
	})
	if err != nil {
		panic(err)
	}
	token := schemas.CallToken(call)
	return &nats.Msg{
		Subject: fmt.Sprintf("acs.contoso.%s.%s.%s", shortType, schemas.Slot(token), token),
		Header:  nats.Header{schemas.HeaderMsgID: {call + "#" + id}, schemas.HeaderContentType: {"application/cloudevents+json"}},
		Data:    payload,
	}
}

func store(t testing.TB, js jetstream.JetStream, m *nats.Msg) uint64 {
	t.Helper()
	ack, err := js.PublishMsg(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// tally is a state that shows what was handled.
type tally struct {
	Events []string `json:"events"`
}

// history records what a handler gets.
type history struct {
	mu   sync.Mutex
	list []string
}

func (h *history) add(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, text)
}

func (h *history) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.list)
}

// logs is where the log of a test goes; it is printed when the test fails.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func newLogger(t testing.TB) *slog.Logger {
	l := &logs{}
	t.Cleanup(func() {
		if t.Failed() {
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Log(l.buf.String())
		}
	})
	return slog.New(slog.NewTextHandler(l, nil))
}

func connect(t testing.TB, url string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// replica runs a service until stop, or the end of the test.
type replica struct {
	cancel context.CancelFunc
	done   chan error
}

func start[S any](t testing.TB, url string, s consume.Service[S]) *replica {
	t.Helper()
	if s.Logger == nil {
		s.Logger = newLogger(t)
	}
	nc := connect(t, url)
	ctx, cancel := context.WithCancel(context.Background())
	r := &replica{cancel, make(chan error, 1)}
	go func() { r.done <- consume.Run(ctx, nc, s) }()
	t.Cleanup(func() { r.stop(t) })
	return r
}

func (r *replica) stop(t testing.TB) {
	t.Helper()
	r.cancel()
	select {
	case err := <-r.done:
		if err != nil {
			t.Error(err)
		}
		r.done <- nil
	case <-time.After(40 * time.Second):
		t.Error("the service does not end")
	}
}

// ready waits until the service owns all slots.
func ready(t testing.TB, js jetstream.JetStream, service string) {
	t.Helper()
	natstest.Until(t, func() bool {
		kv, err := js.KeyValue(t.Context(), consume.Bucket(service))
		if err != nil {
			return false
		}
		for _, slot := range "0123456789abcdef" {
			if _, err := kv.Get(t.Context(), string(slot)+".lease"); err != nil {
				return false
			}
		}
		return true
	})
}

// stateOf returns the events in the state of a call.
func stateOf(t testing.TB, kv jetstream.KeyValue, call string) []string {
	t.Helper()
	token := schemas.CallToken(call)
	value, err := kv.Get(t.Context(), schemas.Slot(token)+".call."+token)
	if err != nil {
		return nil
	}
	var e consume.Entry
	var state tally
	if json.Unmarshal(value.Value(), &e) != nil || len(e.State) == 0 || json.Unmarshal(e.State, &state) != nil {
		return nil
	}
	return state.Events
}
