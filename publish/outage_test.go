package publish_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

func TestNATSAwayAtStart(t *testing.T) {
	server := natstest.Start(t)
	server.Stop()
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), AckWait: time.Minute})
	begin := time.Now()
	b.publish("a", 1, 20)
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("callbacks waited for NATS: %s", took)
	}
	server.Restart()
	checkStream(t, server, map[string]int{"a": 20})
}

func TestNATSStopsAndComesBack(t *testing.T) {
	server := natstest.Start(t)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), AckWait: time.Minute})
	b.publish("a", 1, 20)
	server.Stop()
	b.publish("a", 21, 40)
	server.Restart()
	b.publish("a", 41, 60)
	server.Restart()
	b.publish("a", 61, 80)
	b.drained()
	checkStream(t, server, map[string]int{"a": 80})
}

func TestABridgeThatStopsLeavesTheRestToTheNext(t *testing.T) {
	server := natstest.Start(t)
	dir := t.TempDir()
	b := start(t, server.URL(), publish.Options{Dir: dir})
	b.publish("a", 1, 10)
	server.Stop()
	b.publish("a", 11, 20)
	b.stop()
	server.Restart()
	b = start(t, server.URL(), publish.Options{Dir: dir})
	b.publish("a", 21, 30)
	b.drained()
	checkStream(t, server, map[string]int{"a": 30})
}

// The stream stores and the acknowledgement is lost: that is where duplicates
// come from.
func TestLostAcknowledgements(t *testing.T) {
	server := natstest.Start(t)
	proxy := natstest.NewProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	reg := prometheus.NewRegistry()
	b := start(t, proxy.URL(), publish.Options{Dir: t.TempDir(), Registerer: reg})
	b.publish("a", 1, 5)
	b.drained()
	for round := range 3 {
		proxy.LoseAnswers(true)
		b.publishTen(round + 1)
		server.Await(schemas.Stream, 15+10*round)
		proxy.Cut()
		proxy.LoseAnswers(false)
		b.drained()
	}
	checkStream(t, server, tenCalls(3, map[string]int{"a": 5}))
	// Our own repetitions are no duplicates of the sender's.
	const want = `
# HELP acsbridge_published_total Records that left the bridge, by resource and outcome: stored, duplicate (folded by the stream), quarantined, dead_letter.
# TYPE acsbridge_published_total counter
acsbridge_published_total{outcome="stored",resource="contoso"} 35
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "acsbridge_published_total"); err != nil {
		t.Error(err)
	}
}

// shortWindow is a duplicate window that a test can outlast, and of which a
// quarter is more than a record waits before it is sent, on a busy machine too.
var shortWindow = publish.StreamConfig{Duplicates: time.Second}

// afterWindow returns once the stream has forgotten the ids it had.
func afterWindow() { <-time.After(1300 * time.Millisecond) }

func TestRecordsInDoubtAreStoredOnceAfterALongOutage(t *testing.T) {
	server := natstest.Start(t)
	proxy := natstest.NewProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	reg := prometheus.NewRegistry()
	b := start(t, proxy.URL(), publish.Options{Dir: t.TempDir(), Stream: shortWindow, Registerer: reg})
	b.publish("a", 1, 5)
	b.drained()
	proxy.LoseAnswers(true)
	b.publishTen(1) // stored, but nobody says so
	server.Await(schemas.Stream, 15)
	server.Stop()
	b.publish("a", 6, 10) // not stored
	afterWindow()
	proxy.LoseAnswers(false)
	proxy.Cut()
	server.Restart()
	b.drained()
	checkStream(t, server, tenCalls(1, map[string]int{"a": 10}))
	if n := metric(t, reg, "acsbridge_recalled_total"); n != 15 {
		t.Errorf("%v messages were read back, want those that the stream has had since", n)
	}
}

func TestRecordsInDoubtAreStoredOnceAfterARestart(t *testing.T) {
	server := natstest.Start(t)
	proxy := natstest.NewProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	dir := t.TempDir()
	opts := publish.Options{Dir: dir, Stream: shortWindow}
	b := start(t, proxy.URL(), opts)
	b.publish("a", 1, 5)
	b.drained()
	proxy.LoseAnswers(true)
	b.publishTen(1)
	server.Await(schemas.Stream, 15)
	proxy.Cut()
	b.stop()
	proxy.LoseAnswers(false)
	afterWindow()
	// Also when the cursor itself was lost.
	if err := os.Remove(filepath.Join(dir, "journal", "cursor")); err != nil {
		t.Fatal(err)
	}
	b = start(t, proxy.URL(), opts)
	b.publish("a", 6, 10)
	b.drained()
	checkStream(t, server, tenCalls(1, map[string]int{"a": 10}))
}

// An embedded stream acknowledges before it syncs: after a power cut the
// journal's tail is all there is.
func TestTheTailIsPublishedAgainToAStreamThatLostIt(t *testing.T) {
	server := natstest.Start(t)
	dir := t.TempDir()
	opts := publish.Options{Dir: dir, KeepAcked: time.Hour}
	b := start(t, server.URL(), opts)
	b.publish("a", 1, 20)
	b.drained()
	b.stop()
	server.Stop()
	server.Wipe()
	server.Restart()
	b = start(t, server.URL(), opts)
	b.publish("a", 21, 25)
	b.drained()
	checkStream(t, server, map[string]int{"a": 25})
	b.stop()

	// And again to one that lost nothing.
	b = start(t, server.URL(), opts)
	b.drained()
	checkStream(t, server, map[string]int{"a": 25})
}

func TestACorruptRecordIsSetAside(t *testing.T) {
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
	letters, err := os.ReadFile(filepath.Join(dir, "dead-letters.ndjson"))
	if err != nil || !strings.Contains(string(letters), `"reason":"corrupt"`) {
		t.Errorf("dead letters: %s, %v", letters, err)
	}
}

func TestWithoutAJournalAnEventIsStoredOrRefused(t *testing.T) {
	server := natstest.Start(t)
	b := start(t, server.URL(), publish.Options{})
	server.Await(schemas.Stream, 0)
	b.publish("a", 1, 5)
	checkStream(t, server, map[string]int{"a": 5})
	server.Stop()
	err := b.Publish(context.Background(), claims(t), delivery(), []schemas.Inbound{event("a", 6)})
	if !errors.Is(err, publish.ErrUnavailable) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
	server.Restart()
	natstest.Until(t, func() bool { return b.Status().Connected })
	b.publish("b", 1, 1) // what was refused must not appear later
	checkStream(t, server, map[string]int{"a": 5, "b": 1})
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
