package publish_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// publishWithoutCall makes events durable that carry no call id, and so share
// one subject.
func (b *bridge) publishWithoutCall(call string, from, to int) {
	b.t.Helper()
	for n := from; n <= to; n++ {
		e := event(call, n)
		e.CallConnectionID = ""
		if err := b.Publish(context.Background(), claims(b.t), delivery(), []schemas.Inbound{e}); err != nil {
			b.t.Fatal(err)
		}
	}
}

// The tail of an embedded stream is published again at start, long after the
// stream has forgotten its ids.
func TestATailOfEventsWithoutACallIsStoredOnce(t *testing.T) {
	server := natstest.Start(t)
	opts := publish.Options{Dir: t.TempDir(), KeepAcked: time.Hour, Stream: shortWindow}
	b := start(t, server.URL(), opts)
	b.publishWithoutCall("a", 1, 5)
	b.drained()
	b.stop()
	afterWindow()
	b = start(t, server.URL(), opts)
	b.publishWithoutCall("a", 6, 7)
	b.drained()
	checkStream(t, server, map[string]int{"a": 7})
}

// A stream that was lost begins again at sequence 1.
func TestEventsWithoutACallAreFoundInAStreamThatBeganAgain(t *testing.T) {
	server := natstest.Start(t)
	proxy := natstest.NewProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	b := start(t, proxy.URL(), publish.Options{Dir: t.TempDir(), Stream: shortWindow})
	b.publishWithoutCall("b", 1, 20)
	b.drained()
	server.Stop()
	server.Wipe()
	server.Restart()
	b.publishWithoutCall("a", 1, 1)
	b.drained()
	proxy.LoseAnswers(true)
	b.publishWithoutCall("a", 2, 5)
	server.Await(schemas.Stream, 5)
	afterWindow()
	proxy.LoseAnswers(false)
	proxy.Cut()
	b.drained()
	checkStream(t, server, map[string]int{"a": 5})
}

// The sender delivers an event again while NATS is away, and the outage is
// longer than the stream remembers the first one.
func TestARepetitionDuringALongOutageIsStoredOnce(t *testing.T) {
	server := natstest.Start(t)
	reg := prometheus.NewRegistry()
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), Stream: shortWindow, Registerer: reg})
	b.publish("a", 1, 5)
	b.drained()
	server.Stop()
	natstest.Until(t, func() bool { return !b.Status().Connected }) // nothing of it is sent yet
	b.publish("a", 3, 7)
	b.quarantine("x")
	afterWindow()
	server.Restart()
	b.drained()
	checkStream(t, server, map[string]int{"a": 7})
	const want = `
# HELP acsbridge_published_total Records that left the bridge, by resource and outcome: stored, duplicate (folded by the stream), quarantined, dead_letter.
# TYPE acsbridge_published_total counter
acsbridge_published_total{outcome="duplicate",resource="contoso"} 3
acsbridge_published_total{outcome="quarantined",resource="contoso"} 1
acsbridge_published_total{outcome="stored",resource="contoso"} 7
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "acsbridge_published_total"); err != nil {
		t.Error(err)
	}
}

// Without a look at the tail an event might be stored twice: it waits until
// looking is allowed.
func TestForwardingWaitsForTheRightToReadBack(t *testing.T) {
	server := natstest.Start(t)
	js := server.JetStream()
	config := jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{"acs.>"}, Duplicates: shortWindow.Duplicates}
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	b := start(t, "nats://127.0.0.1:1", publish.Options{Dir: dir})
	b.publish("a", 1, 3)
	b.stop()
	afterWindow()
	b = start(t, server.URL(), publish.Options{Dir: dir})
	natstest.Until(t, func() bool { return b.says("read back what stream ACS holds") })
	config.AllowDirect = true
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	b.drained()
	checkStream(t, server, map[string]int{"a": 3})
}
