package publish_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// forge makes an event durable that has the id of another one.
func (b *bridge) forge(call string, n int) []byte {
	b.t.Helper()
	e := event(call, n)
	e.Raw = []byte(`{"id":"` + e.ID + `","forged":true}`)
	b.store(e)
	return e.Raw
}

// checkQuarantined checks that quarantine holds the forged event and nothing
// else, with what is known of it.
func checkQuarantined(t *testing.T, server *natstest.Server, body []byte) {
	t.Helper()
	got := server.Messages(schemas.QuarantineStream)
	if len(got) != 1 {
		t.Fatalf("quarantine has %d messages, want 1", len(got))
	}
	m := got[0]
	if string(m.Data) != string(body) || m.Subject != "acs-quarantine.contoso.conflict" || m.Header.Get("acs-quarantine-reason") != "conflict" {
		t.Errorf("got %s %s %v", m.Subject, m.Data, m.Header)
	}
	var id struct{ ID string }
	if err := json.Unmarshal(body, &id); err != nil || m.Header.Get("ce-id") != id.ID || m.Header.Get("acs-token-aud") != audience {
		t.Errorf("headers: %v, %v", m.Header, err)
	}
}

// A forged event that comes first must not make the real one disappear.
func TestConflict_isQuarantined(t *testing.T) {
	withAndWithoutJournal(t, func(t *testing.T, dir string) {
		server := natstest.Start(t)
		reg := prometheus.NewRegistry()
		b := start(t, server.URL(), publish.Options{Dir: dir, Registerer: reg})
		server.Await(schemas.QuarantineStream, 0)
		b.publish("a", 1, 2)
		body := b.forge("a", 2)
		b.forge("a", 2)      // and again, the same
		b.publish("a", 2, 4) // a repetition is none, and what follows is stored
		b.drained()
		checkStream(t, server, map[string]int{"a": 4})
		checkQuarantined(t, server, body)
		if n := metric(t, reg, "acsbridge_conflicts_total"); n != 2 {
			t.Errorf("%v conflicts were counted, want 2", n)
		}
	})
}

func TestConflict_afterALongOutage(t *testing.T) {
	server := natstest.Start(t)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), Stream: shortWindow})
	b.publish("a", 1, 5)
	b.drained()
	server.Stop()
	body := b.forge("a", 3)
	b.publish("a", 4, 6)
	afterWindow()
	server.Restart()
	b.drained()
	checkStream(t, server, map[string]int{"a": 6})
	checkQuarantined(t, server, body)
}

// A sender with a token cannot push everything else out of the quarantine, nor fill the
// log: what is above the limit of its resource is a dead letter.
func TestConflict_limit(t *testing.T) {
	server := natstest.Start(t)
	dir := t.TempDir()
	var log bridgetest.Log
	b := start(t, server.URL(), publish.Options{Dir: dir, AckWait: publish.NoAckWait, Logger: log.Logger()})
	begin := time.Now()
	const conflicts = 300
	b.publish("a", 1, 1)
	for n := range conflicts {
		e := event("a", 1)
		e.Raw = fmt.Appendf(nil, `{"forged":%d}`, n)
		b.store(e)
	}
	b.drained()
	kept := len(server.Messages(schemas.QuarantineStream))
	dead := deadLetters(t, dir, "quarantine")
	if kept < 100 || kept > 250 || kept+dead != conflicts {
		t.Errorf("%d are in quarantine and %d are dead letters, of %d", kept, dead, conflicts)
	}
	most := 1 + int(time.Since(begin)/time.Second)
	if n := log.Count("event has the id of another one"); n == 0 || n > most {
		t.Errorf("%d lines for %d conflicts, want 1 to %d", n, conflicts, most)
	}
}

// What was removed from the stream cannot be compared, and counts as it did.
func TestConflict_removedMessage(t *testing.T) {
	server := natstest.Start(t)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
	b.publish("a", 1, 3)
	b.drained()
	stream, err := server.JetStream().Stream(context.Background(), schemas.Stream)
	if err != nil {
		t.Fatal(err)
	}
	for sequence := range uint64(2) {
		if err := stream.DeleteMsg(context.Background(), sequence+2); err != nil {
			t.Fatal(err)
		}
	}
	b.forge("a", 2) // the next message is gone as well
	b.publish("b", 1, 1)
	b.forge("a", 3) // there is a next one, of another event
	b.drained()
	if n := len(server.Messages(schemas.QuarantineStream)); n != 0 {
		t.Errorf("quarantine has %d messages", n)
	}
}

// Without the right to compare, the stream deduplicates as it does.
func TestConflict_withoutTheRightToCompare(t *testing.T) {
	server := natstest.Start(t)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
	server.Await(schemas.Stream, 0)
	b.stop()
	b = start(t, onlyPublishing(server), publish.Options{Dir: t.TempDir()})
	b.publish("a", 1, 3)
	b.publish("a", 1, 4)
	b.drained()
	checkStream(t, server, map[string]int{"a": 4})
}
