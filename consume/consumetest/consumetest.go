// Package consumetest tests the handler of a service that is built on package consume:
// against a real NATS server in the test's process, with events that come twice, and
// replicas that die between an effect and its save.
//
//	kit := consumetest.New(t, service, consumetest.Faults{Kills: true, Duplicates: true})
//	kit.Send(consumetest.Event("CallConnected", call, nil))
//	kit.Wait()
//	kit.Expire(call) // the caller presses nothing
//	kit.Wait()
//	got := effects.Names() // [StartRecognizing HangUp]
//
// The handler's client of ACS is the test's own; [Effects] is one that knows a request by
// its id, as ACS does.
//
// A test of one event needs neither a server nor this package, since the zero value of a
// call works:
//
//	call := consume.Call[Menu]{ID: "401f3500", State: Menu{Asked: 1}}
//	err := handle(ctx, &call, &schemas.Message{Event: schemas.Event{Data: &schemas.RecognizeFailed{}}})
//	// call.State, call.Waits() and the test's client of ACS have what the handler did
package consumetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// Faults say what goes wrong. The zero value is nothing.
type Faults struct {
	// Kills has the replica die each time that an event was handled for the first time:
	// its effects are made, and neither state nor position is saved.
	Kills bool
	// Duplicates stores each event twice, as happens when ACS repeats a callback after
	// the stream has forgotten its id.
	Duplicates bool
}

// Kit is a service that runs against a server of its own.
type Kit[S any] struct {
	t       testing.TB
	faults  Faults
	service consume.Service[S]
	server  *natstest.Server
	js      jetstream.JetStream

	mu      sync.Mutex
	killed  map[string]bool // events whose first handler was followed by a kill
	replica *nats.Conn
	stop    context.CancelFunc
	ended   chan struct{}
}

// duplicateWindow is the stream's, its least: what is stored later is stored twice.
const duplicateWindow = 100 * time.Millisecond

// New starts a server with a stream, and a replica of the service, until the test ends.
func New[S any](t testing.TB, s consume.Service[S], f Faults) *Kit[S] {
	t.Helper()
	k := &Kit[S]{t: t, faults: f, service: s, server: natstest.Start(t), killed: make(map[string]bool)}
	k.js = k.server.JetStream()
	if k.service.Logger == nil {
		k.service.Logger = slog.New(slog.NewTextHandler(t.Output(), nil)) // of use when the test fails
	}
	if k.service.StartAt.IsZero() {
		k.service.StartAt = time.Unix(1, 0) // an event may be sent before the replica is ready
	}
	handle := s.Handle
	k.service.Handle = func(ctx context.Context, call *consume.Call[S], m *schemas.Message) error {
		if err := handle(ctx, call, m); err != nil {
			return err
		}
		if k.faults.Kills && k.firstTime(m.Delivery.MsgID) {
			k.kill()
		}
		return nil
	}
	if _, err := k.js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: schemas.Stream, Subjects: []string{schemas.SubjectPrefix + ".>"}, AllowDirect: true, Duplicates: duplicateWindow,
	}); err != nil {
		t.Fatal(err)
	}
	k.launch()
	t.Cleanup(func() { k.end() })
	return k
}

func (k *Kit[S]) firstTime(event string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	first := !k.killed[event]
	k.killed[event] = true
	return first
}

// launch starts a replica. When it is killed, another one follows.
func (k *Kit[S]) launch() {
	nc, err := nats.Connect(k.server.URL())
	if err != nil {
		k.t.Error(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	k.mu.Lock()
	k.replica, k.stop, k.ended = nc, stop, ended
	k.mu.Unlock()
	go func() {
		err := consume.Run(ctx, nc, k.service)
		nc.Close()
		switch {
		case errors.Is(err, nats.ErrConnectionClosed) && ctx.Err() == nil:
			k.forget()
			k.launch()
		case err != nil:
			k.t.Error(err)
		}
		close(ended)
	}()
}

// kill ends the connection of the replica, so that it can save nothing any more.
func (k *Kit[S]) kill() {
	k.mu.Lock()
	nc := k.replica
	k.mu.Unlock()
	nc.Close()
}

// end stops the replica as a service stops.
func (k *Kit[S]) end() {
	for {
		k.mu.Lock()
		stop, ended := k.stop, k.ended
		k.mu.Unlock()
		stop()
		<-ended
		k.mu.Lock()
		last := k.ended == ended
		k.mu.Unlock()
		if last { // and no other was launched meanwhile
			return
		}
	}
}

// forget removes the leases of a replica that was killed: their end need not be waited
// for.
func (k *Kit[S]) forget() {
	kv := k.bucket()
	for _, key := range k.keys(kv) {
		if strings.HasSuffix(key, ".lease") || strings.HasPrefix(key, "replica.") {
			if err := kv.Delete(context.Background(), key); err != nil {
				k.t.Error(err)
			}
		}
	}
}

func (k *Kit[S]) bucket() jetstream.KeyValue {
	kv, err := k.js.KeyValue(context.Background(), consume.Bucket(k.service.Name))
	if err != nil {
		k.t.Error(err)
	}
	return kv
}

func (k *Kit[S]) keys(kv jetstream.KeyValue) (keys []string) {
	if kv == nil {
		return nil
	}
	list, err := kv.ListKeys(context.Background())
	if err != nil {
		k.t.Error(err)
		return nil
	}
	for key := range list.Keys() {
		keys = append(keys, key)
	}
	return keys
}

// Event returns the message of an event of a call, with a new id. Data is its data,
// callConnectionId aside.
func Event(shortType, call string, data map[string]any) *nats.Msg {
	all := map[string]any{"callConnectionId": call}
	for name, value := range data {
		all[name] = value
	}
	id, source := uuid.NewString(), "calling/callConnections/"+call
	payload, err := json.Marshal(map[string]any{
		"id": id, "source": source, "type": schemas.TypePrefix + shortType, "specversion": "1.0",
		"time": time.Now().UTC().Format(time.RFC3339Nano), "data": all,
	})
	if err != nil {
		panic(fmt.Sprintf("consumetest: data of %s: %v", shortType, err))
	}
	return &nats.Msg{
		Subject: schemas.WithSlot(strings.Join([]string{schemas.SubjectPrefix, "contoso", shortType, schemas.CallToken(call)}, ".")),
		Header:  nats.Header{schemas.HeaderMsgID: {source + "#" + id}, schemas.HeaderContentType: {"application/cloudevents+json"}},
		Data:    payload,
	}
}

// Capture returns the messages of a capture that acsbridge tail has written.
func Capture(t testing.TB, file string) (messages []*nats.Msg) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for m, err := range replay.ReadCapture(f, replay.Selection{}) {
		if err != nil {
			t.Fatal(err)
		}
		header := nats.Header{}
		for name, values := range m.Header {
			if !strings.HasPrefix(name, "Nats-") || name == schemas.HeaderMsgID {
				header[name] = values
			}
		}
		messages = append(messages, &nats.Msg{Subject: schemas.WithSlot(m.Subject), Header: header, Data: m.Data})
	}
	return messages
}

// Send stores events, in this order.
func (k *Kit[S]) Send(messages ...*nats.Msg) {
	k.t.Helper()
	copies := [][]*nats.Msg{messages}
	if k.faults.Duplicates {
		copies = nil
		for _, m := range messages {
			copies = append(copies, []*nats.Msg{m}, []*nats.Msg{m})
		}
	}
	for i, batch := range copies {
		if k.faults.Duplicates && i%2 == 1 {
			<-time.After(duplicateWindow + 50*time.Millisecond)
		}
		for _, m := range batch {
			if _, err := k.js.PublishMsg(k.t.Context(), m); err != nil {
				k.t.Fatal(err)
			}
		}
	}
}

// Wait waits until the service has handled all events, or given them up, and none is to
// be tried again. It fails the test after 30 s.
func (k *Kit[S]) Wait() {
	k.t.Helper()
	natstest.Until(k.t, k.quiet)
}

func (k *Kit[S]) quiet() bool {
	for _, slot := range "0123456789abcdef" {
		consumer, err := k.js.Consumer(k.t.Context(), schemas.Stream, consume.ConsumerName(k.service.Name, string(slot)))
		if err != nil {
			return false
		}
		if info := consumer.CachedInfo(); info.NumPending > 0 || info.NumAckPending > 0 {
			return false
		}
	}
	kv := k.bucket()
	for _, key := range k.keys(kv) {
		if _, e, ok := k.entry(kv, key); ok && !e.Held && (e.Retry != nil || len(e.Queue) > 0) {
			return false
		}
	}
	return true
}

func (k *Kit[S]) entry(kv jetstream.KeyValue, key string) (jetstream.KeyValueEntry, *consume.Entry, bool) {
	if !strings.Contains(key, ".call.") {
		return nil, nil, false
	}
	value, err := kv.Get(k.t.Context(), key)
	if err != nil {
		return nil, nil, false
	}
	e := new(consume.Entry)
	return value, e, json.Unmarshal(value.Value(), e) == nil
}

// Entry returns what the bucket has of a call, nil when it has nothing.
func (k *Kit[S]) Entry(call string) *consume.Entry {
	token := schemas.CallToken(call)
	_, e, _ := k.entry(k.bucket(), schemas.Slot(token)+".call."+token)
	return e
}

// State returns the state of a call; its zero value when there is none.
func (k *Kit[S]) State(call string) (state S) {
	k.t.Helper()
	if e := k.Entry(call); e != nil && len(e.State) > 0 {
		if err := json.Unmarshal(e.State, &state); err != nil {
			k.t.Fatal(err)
		}
	}
	return state
}

// Expire lets the deadlines of a call's waits pass at once: the replica is stopped, and
// another one finds them in the past.
func (k *Kit[S]) Expire(call string) {
	k.t.Helper()
	k.Wait()
	k.end()
	kv, token := k.bucket(), schemas.CallToken(call)
	key := schemas.Slot(token) + ".call." + token
	value, e, ok := k.entry(kv, key)
	if !ok || len(e.Waits) == 0 {
		k.t.Fatalf("call %s waits for nothing", call)
	}
	for i := range e.Waits {
		e.Waits[i].Deadline = time.Now().Add(-time.Second)
	}
	document, err := json.Marshal(e)
	if err == nil {
		_, err = kv.Update(k.t.Context(), key, document, value.Revision())
	}
	if err != nil {
		k.t.Fatal(err)
	}
	k.launch()
	natstest.Until(k.t, func() bool {
		e := k.Entry(call)
		return !slices.ContainsFunc(e.Waits, func(w consume.Wait) bool { return w.Deadline.Before(time.Now()) })
	})
}

// DeadLetters returns the service's dead letters.
func (k *Kit[S]) DeadLetters() []*jetstream.RawStreamMsg {
	k.t.Helper()
	return k.server.Messages(consume.DeadStream(k.service.Name))
}

// Effects stands in for a receiver that does a request once that is made twice with the
// same id, as ACS does with Repeatability-Request-ID. The zero value is ready.
type Effects struct {
	mu    sync.Mutex
	ids   map[string]string
	names []string
}

// Do makes an effect of a name, unless one with the id was made before. Another name
// under the same id is an error.
func (e *Effects) Do(id, name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if before, made := e.ids[id]; made {
		if before != name {
			return fmt.Errorf("effect id %s was that of %s, and is now that of %s", id, before, name)
		}
		return nil
	}
	if e.ids == nil {
		e.ids = make(map[string]string)
	}
	e.ids[id] = name
	e.names = append(e.names, name)
	return nil
}

// Names returns the names of the effects in the order in which they were made.
func (e *Effects) Names() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.names)
}
