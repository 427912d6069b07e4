package publish_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/publish/journal"
	"github.com/acsbridge/acsbridge/schemas"
)

// shortWindow is a duplicate window that a test can outlast. A quarter of it
// is more than a record waits before it is sent, on a busy machine too.
var shortWindow = publish.StreamConfig{Duplicates: time.Second}

// afterWindow returns once the stream has forgotten the ids it had.
func afterWindow() { <-time.After(1300 * time.Millisecond) }

// outage is a bridge whose NATS can stop, and whose acknowledgements can be lost.
type outage struct {
	*bridge
	server *natstest.Server
	proxy  *natstest.Proxy
	opts   publish.Options
}

// again starts the bridge again on the same directory.
func (o *outage) again() {
	o.stop()
	o.opts.Registerer = prometheus.NewRegistry()
	o.bridge = start(o.t, o.proxy.URL(), o.opts)
}

// lose stores the n-th event of ten calls, so that the stream has so many messages
// then, and loses the acknowledgements.
func (o *outage) lose(n, stored int) {
	o.proxy.LoseAnswers(true)
	o.publishTen(n)
	o.server.Await(schemas.Stream, stored)
}

// restore lets answers through again.
func (o *outage) restore() {
	o.proxy.LoseAnswers(false)
	o.proxy.Cut()
	o.drained()
}

// withoutCall makes events durable that have no call id.
func (o *outage) withoutCall(call string, from, to int) {
	o.t.Helper()
	for n := from; n <= to; n++ {
		e := event(call, n)
		e.CallConnectionID = ""
		if err := o.Publish(context.Background(), claims(o.t), delivery(), []schemas.Inbound{e}); err != nil {
			o.t.Fatal(err)
		}
	}
}

// TestForwarder_outages holds that each event is stored once and each call in its order,
// whatever was lost and however long it lasted.
func TestForwarder_outages(t *testing.T) {
	for name, c := range map[string]struct {
		opts publish.Options
		run  func(*outage)
		want map[string]int // the events of each call
	}{
		"NATS comes and goes": {publish.Options{AckWait: time.Minute}, func(o *outage) {
			o.server.Stop()
			begin := time.Now()
			o.publish("a", 1, 20)
			if took := time.Since(begin); took > 30*time.Second {
				o.t.Errorf("callbacks waited for NATS: %s", took)
			}
			o.server.Restart()
			o.publish("a", 21, 40)
			o.server.Restart()
			o.publish("a", 41, 60)
			o.server.Stop()
			o.publish("a", 61, 80)
			o.again()
			o.server.Restart()
		}, map[string]int{"a": 80}},
		"acknowledgements are lost": {publish.Options{}, func(o *outage) {
			o.publish("a", 1, 5)
			o.drained()
			for round := range 3 {
				o.lose(round+1, 15+10*round)
				o.restore()
			}
		}, tenCalls(3, map[string]int{"a": 5})},
		"for longer than the window": {publish.Options{Stream: shortWindow}, func(o *outage) {
			o.publish("a", 1, 5)
			o.drained()
			o.lose(1, 15)
			o.server.Stop()
			o.publish("a", 6, 10) // not stored
			afterWindow()
			o.server.Restart()
			o.restore()
			if n := metric(o.t, o.opts.Registerer.(*prometheus.Registry), "acsbridge_lookback_messages_total"); n != 15 {
				o.t.Errorf("%v messages were read, want those that the stream has had since", n)
			}
		}, tenCalls(1, map[string]int{"a": 10})},
		"for longer than the window of a stream that was there before": {publish.Options{}, func(o *outage) { // configures 10 min
			o.server.Await(schemas.Stream, 0)
			config := jetstream.StreamConfig{Name: "ACS", Subjects: []string{"acs.>"}, Duplicates: shortWindow.Duplicates, AllowDirect: true}
			if _, err := o.server.JetStream().UpdateStream(o.t.Context(), config); err != nil {
				o.t.Fatal(err)
			}
			o.again()
			o.publish("a", 1, 2)
			o.drained()
			o.lose(1, 12)
			afterWindow()
			o.restore()
		}, tenCalls(1, map[string]int{"a": 2})},
		"for longer than the window, and the cursor is lost": {publish.Options{Stream: shortWindow}, func(o *outage) {
			o.publish("a", 1, 5)
			o.drained()
			o.lose(1, 15)
			o.proxy.Cut()
			o.stop()
			o.proxy.LoseAnswers(false)
			afterWindow()
			if err := os.Remove(filepath.Join(o.opts.Dir, "journal", "cursor")); err != nil {
				o.t.Fatal(err)
			}
			o.again()
			o.publish("a", 6, 10)
		}, tenCalls(1, map[string]int{"a": 10})},
		"events without a call, in a stream that was lost": {publish.Options{Stream: shortWindow}, func(o *outage) {
			o.withoutCall("b", 1, 20)
			o.drained()
			o.server.Stop()
			o.server.Wipe()
			o.server.Restart()
			o.withoutCall("a", 1, 1)
			o.drained()
			o.proxy.LoseAnswers(true)
			o.withoutCall("a", 2, 5)
			o.server.Await(schemas.Stream, 5)
			afterWindow()
			o.restore()
		}, map[string]int{"a": 5}},
		"the server loses what it acknowledged": {publish.Options{KeepAcked: time.Hour, Stream: shortWindow}, func(o *outage) {
			o.withoutCall("a", 1, 20)
			o.drained()
			o.stop()
			o.server.Stop()
			o.server.Wipe()
			o.server.Restart()
			o.again()
			o.withoutCall("a", 21, 25)
			o.drained()
			checkStream(o.t, o.server, map[string]int{"a": 25})
			afterWindow()
			o.again() // and now it has lost nothing
		}, map[string]int{"a": 25}},
		"the journal is lost, and the cursor is not": {publish.Options{}, func(o *outage) {
			o.publish("a", 1, 20)
			o.drained()
			o.stop()
			logs, err := filepath.Glob(filepath.Join(o.opts.Dir, "journal", "*wal*"))
			if err != nil || len(logs) < 2 {
				o.t.Fatal(logs, err)
			}
			for _, name := range logs {
				if err := os.Remove(name); err != nil {
					o.t.Fatal(err)
				}
			}
			o.server.Stop() // the bridge stops before it has forwarded anything
			o.again()
			o.publish("b", 1, 30)
			o.stop()
			o.server.Restart()
			o.again()
		}, map[string]int{"a": 20, "b": 30}},
	} {
		t.Run(name, func(t *testing.T) {
			server := natstest.Start(t)
			reg := prometheus.NewRegistry()
			c.opts.Dir, c.opts.Registerer = t.TempDir(), reg
			o := &outage{server: server, proxy: natstest.NewProxy(t, strings.TrimPrefix(server.URL(), "nats://")), opts: c.opts}
			o.bridge = start(t, o.proxy.URL(), c.opts)
			c.run(o)
			o.drained()
			checkStream(t, server, c.want)
		})
	}
}

// A sender delivers an event again while NATS is disconnected for longer than the stream
// remembers the first one. Our own repetitions are not counted as the sender's.
func TestForwarder_duplicatesDuringALongOutage(t *testing.T) {
	server := natstest.Start(t)
	proxy := natstest.NewProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	reg := prometheus.NewRegistry()
	b := start(t, proxy.URL(), publish.Options{Dir: t.TempDir(), Stream: shortWindow, Registerer: reg})
	b.publish("a", 1, 5)
	b.drained()
	proxy.LoseAnswers(true)
	b.publish("b", 1, 1) // our own repetition
	server.Await(schemas.Stream, 6)
	server.Stop()
	proxy.LoseAnswers(false)
	natstest.Until(t, func() bool { return !b.Status().Connected }) // nothing of it is sent yet
	b.publish("a", 3, 7)
	b.quarantine("x")
	afterWindow()
	server.Restart()
	b.drained()
	checkStream(t, server, map[string]int{"a": 7, "b": 1})
	expect(t, scrape(t, reg), map[string]float64{
		"acsbridge_published_total duplicate contoso":   3,
		"acsbridge_published_total quarantined contoso": 1,
		"acsbridge_published_total stored contoso":      8,
	})
}

// Without the lookback an event might be stored twice: it waits until direct get is
// allowed.
func TestForwarder_waitsForDirectGet(t *testing.T) {
	server := natstest.Start(t)
	config := jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{"acs.>"}, Duplicates: shortWindow.Duplicates}
	natstest.CreateStream(t, server.JetStream(), config)
	dir := t.TempDir()
	b := start(t, "nats://127.0.0.1:1", publish.Options{Dir: dir})
	b.publish("a", 1, 3)
	b.stop()
	afterWindow()
	b = start(t, server.URL(), publish.Options{Dir: dir})
	natstest.Until(t, func() bool { return b.says("look back in stream ACS") })
	config.AllowDirect = true
	if _, err := server.JetStream().UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	b.drained()
	checkStream(t, server, map[string]int{"a": 3})
}

// The last message of the stream may be an incoming call whose time is over.
func TestForwarder_lookbackPastAnEndedCall(t *testing.T) {
	server := natstest.Start(t)
	limitedLife(t, server, true)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
	natstest.Until(t, func() bool { return b.Status().Sending })
	send := func(d *publish.Delivery, e schemas.Inbound) {
		t.Helper()
		if err := b.Publish(context.Background(), claims(t), d, []schemas.Inbound{e}); err != nil {
			t.Fatal(err)
		}
	}
	send(delivery(), event("a", 1))
	send(delivery(), gridEvent("IncomingCall", 1, time.Now().Add(-time.Hour)))
	b.drained()
	natstest.Until(t, func() bool { return len(server.Messages(schemas.Stream)) == 1 })

	late := delivery()
	late.ReceivedAt = time.Now().Add(-10 * time.Minute)
	send(late, event("a", 1)) // a repetition, out of the window as far as its time says
	send(late, event("a", 2))
	b.drained()
	checkStream(t, server, map[string]int{"a": 2})
}

// A stream without room for one event may have room for the next, and later for both.
// The events of a call keep their order, and the other call does not wait.
func TestForwarder_refusalKeepsTheOrderOfACall(t *testing.T) {
	server := natstest.Start(t)
	config := jetstream.StreamConfig{Name: "ACS", Subjects: []string{"acs.>"}, Discard: jetstream.DiscardNew, MaxBytes: 6000}
	natstest.CreateStream(t, server.JetStream(), config)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), AckWait: publish.NoAckWait})
	natstest.Until(t, func() bool { return b.Status().Sending })
	big := event("a", 1)
	big.Raw = []byte(`"` + strings.Repeat("x", 8000) + `"`)
	b.store(big, event("a", 2), event("b", 1))
	natstest.Until(t, func() bool { return b.says("no room") && len(server.Messages("ACS")) == 1 })
	config.MaxBytes = -1
	if _, err := server.JetStream().UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	b.drained()
	checkStream(t, server, map[string]int{"a": 2, "b": 1})
}

func TestForwarder_corruptRecord(t *testing.T) {
	server := natstest.Start(t)
	server.Stop()
	dir := t.TempDir()
	b := start(t, server.URL(), publish.Options{Dir: dir})
	b.publish("a", 1, 1)
	b.publish("b", 1, 1)
	b.publish("a", 2, 2)
	b.stop()

	spoil(t, filepath.Join(dir, "journal"), `{"id":"b-1"`)
	server.Restart()
	reg := prometheus.NewRegistry()
	b = start(t, server.URL(), publish.Options{Dir: dir, Registerer: reg})
	b.drained()
	checkStream(t, server, map[string]int{"a": 2})
	if n := metric(t, reg, "acsbridge_dead_letters_total"); n != 1 {
		t.Errorf("%v dead letters, want 1", n)
	}
	if n := deadLetters(t, dir, "corrupt"); n == 0 {
		t.Error("no dead letter")
	}
}

// A bridge needs no more than the rights to publish and to look at the stream.
func TestForwarder_fewRights(t *testing.T) {
	server := natstest.Start(t)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
	server.Await(schemas.Stream, 0)
	b.stop()

	b = start(t, onlyPublishing(server), publish.Options{Dir: t.TempDir()})
	b.publish("a", 1, 5)
	b.drained()
	checkStream(t, server, map[string]int{"a": 5})
}

// What the stream has is forgotten by the journal; the newest record stays.
func TestForwarder_remembersWhatTheStreamHas(t *testing.T) {
	server := natstest.Start(t)
	dir := t.TempDir()
	b := start(t, server.URL(), publish.Options{Dir: dir})
	b.publish("a", 1, 5)
	natstest.Until(t, func() bool { // and what a crash leaves is read from the file
		file, err := os.ReadFile(filepath.Join(dir, "journal", "cursor"))
		return err == nil && strings.HasPrefix(string(file), "\x00\x00\x00\x00\x00\x00\x00\x05")
	})
	b.stop()
	server.Stop()
	b = start(t, server.URL(), publish.Options{Dir: dir})
	if s := b.Status(); s.Waiting != 0 || s.Journal.Records != 1 {
		t.Errorf("%d records wait, the journal has %d", s.Waiting, s.Journal.Records)
	}
}

// A full journal takes events again once the stream has what it held.
func TestForwarder_fullJournal(t *testing.T) {
	server := natstest.Start(t)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), Journal: journal.Options{MaxBytes: 3500}})
	for n := range 10 {
		natstest.Until(t, func() bool {
			err := b.Publish(context.Background(), claims(t), delivery(), []schemas.Inbound{event("a", n+1)})
			if err != nil && !errors.Is(err, journal.ErrFull) {
				t.Fatal(err)
			}
			return err == nil
		})
	}
	b.drained()
	checkStream(t, server, map[string]int{"a": 10})
}

// Created is called after the first look at the stream, and not after a further one.
func TestForwarder_created(t *testing.T) {
	server := natstest.Start(t)
	created := make(chan struct{}, 10)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), Created: func() { created <- struct{}{} }})
	b.publish("a", 1, 1)
	b.drained()
	server.Stop()
	b.publish("a", 2, 2)
	server.Restart()
	b.drained()
	if len(created) != 1 {
		t.Errorf("called %d times", len(created))
	}
}
