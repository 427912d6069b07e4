package publish_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/publish/journal"
	"github.com/acsbridge/acsbridge/schemas"
)

// full is a stream that takes one message and refuses the next.
func full(t *testing.T, server *natstest.Server, name, subjects string) {
	t.Helper()
	config := jetstream.StreamConfig{Name: name, Subjects: []string{subjects}, MaxMsgs: 1, Discard: jetstream.DiscardNew}
	natstest.CreateStream(t, server.JetStream(), config)
}

func (b *bridge) quarantine(body string) {
	b.t.Helper()
	if err := b.Quarantine(context.Background(), claims(b.t), delivery(), "not_json", "", []byte(body)); err != nil {
		b.t.Fatal(err)
	}
}

// What the quarantine stream does not take waits, and holds up no event.
func TestQuarantine_fullStream(t *testing.T) {
	server := natstest.Start(t)
	full(t, server, schemas.QuarantineStream, schemas.QuarantinePrefix+".>")
	dir := t.TempDir()
	b := start(t, server.URL(), publish.Options{Dir: dir})
	b.quarantine("one") // there is no room for more
	b.publish("a", 1, 2)
	body := b.forge("a", 2) // a conflict waits as well
	b.publish("a", 3, 3)
	checkStream(t, server, map[string]int{"a": 3})
	natstest.Until(t, func() bool { return b.Status().QuarantineWaiting == 1 && b.says("no room") })
	if s := b.Status(); s.Waiting != 0 || !s.Sending {
		t.Errorf("status: %+v", s)
	}
	config := jetstream.StreamConfig{Name: schemas.QuarantineStream, Subjects: []string{schemas.QuarantinePrefix + ".>"}, Discard: jetstream.DiscardNew}
	if _, err := server.JetStream().UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	b.drained()
	if got := server.Messages(schemas.QuarantineStream); len(got) != 2 || string(got[1].Data) != string(body) {
		t.Errorf("quarantine has %d messages", len(got))
	}
	if n := deadLetters(t, dir, ""); n > 0 {
		t.Errorf("%d dead letters were written", n)
	}
}

// A conflict that the journal of the quarantine has no room for is a dead letter, and
// holds up no event.
func TestQuarantine_fullJournal(t *testing.T) {
	server := natstest.Start(t)
	full(t, server, schemas.QuarantineStream, schemas.QuarantinePrefix+".>")
	dir := t.TempDir()
	b := start(t, server.URL(), publish.Options{Dir: dir, Journal: journal.Options{MaxBytes: 64 << 10}})
	b.publish("a", 1, 2)
	b.drained()
	var err error
	for n := 0; err == nil && n < 64; n++ {
		err = b.Quarantine(t.Context(), claims(t), delivery(), "not_json", "", append(bytes.Repeat([]byte{' '}, 4<<10), byte(n)))
	}
	if !errors.Is(err, publish.ErrUnavailable) {
		t.Fatalf("the journal of the quarantine is not full: %v", err)
	}
	e := event("a", 2)
	e.Raw = append([]byte(`{"forged":true}`), bytes.Repeat([]byte{' '}, 8<<10)...)
	b.store(e)
	b.publish("a", 3, 3)
	natstest.Until(t, func() bool { return b.Status().Waiting == 0 })
	checkStream(t, server, map[string]int{"a": 3})
	if n := deadLetters(t, dir, "quarantine"); n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
}

func TestQuarantine_lostAnswer(t *testing.T) {
	server := natstest.Start(t)
	proxy := natstest.NewProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	dir := t.TempDir()
	b := start(t, proxy.URL(), publish.Options{Dir: dir})
	b.publish("a", 1, 1)
	b.drained()
	b.quarantine("zero") // the stream has said where it is
	b.drained()
	proxy.LoseAnswers(true)
	b.quarantine("one")
	server.Await(schemas.QuarantineStream, 2)
	proxy.Cut() // the answer is lost, the connection too
	proxy.LoseAnswers(false)
	b.drained()
	proxy.LoseAnswers(true)
	b.quarantine("two") // here only the answer
	server.Await(schemas.QuarantineStream, 3)
	natstest.Until(t, func() bool { return b.says("no ack") || b.says("does not answer") })
	proxy.LoseAnswers(false)
	b.drained()
	if n := len(server.Messages(schemas.QuarantineStream)); n != 3 {
		t.Errorf("quarantine has %d messages, want 3", n)
	}
	if n := deadLetters(t, dir, ""); n > 0 {
		t.Errorf("%d dead letters were written", n)
	}
}

func TestPublish_ackWait(t *testing.T) {
	server := natstest.Start(t)
	proxy := natstest.NewProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	const wait = 300 * time.Millisecond
	b := start(t, proxy.URL(), publish.Options{Dir: t.TempDir(), AckWait: wait})
	b.publish("a", 1, 1)
	b.drained()
	proxy.LoseAnswers(true)
	begin := time.Now()
	b.publish("a", 2, 2)
	if took := time.Since(begin); took < wait {
		t.Errorf("Publish returned after %s", took)
	}
}

// Without the right to publish there, what is for quarantine waits for it.
func TestQuarantine_missingRight(t *testing.T) {
	server := natstest.Start(t)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
	server.Await(schemas.QuarantineStream, 0)
	b.stop()
	rights := []string{"acs.>", "$JS.API.>"}
	b = start(t, grant(server, rights), publish.Options{Dir: t.TempDir()})
	natstest.Until(t, func() bool { return b.Status().Sending })
	b.quarantine("one")
	b.publish("a", 1, 3)
	checkStream(t, server, map[string]int{"a": 3})
	natstest.Until(t, func() bool { return b.says(`Permissions Violation for Publish to "acs-quarantine.`) })
	grant(server, append(rights, "acs-quarantine.>"))
	b.drained()
	if n := len(server.Messages(schemas.QuarantineStream)); n != 1 {
		t.Errorf("quarantine has %d messages, want 1", n)
	}
}

// The client itself refuses what is above the server's max_payload. A sender with a
// token can cause many such dead letters.
func TestDeadLetters_doNotFloodTheLog(t *testing.T) {
	server := natstest.Start(t, func(o *natsserver.Options) { o.MaxPayload = 4 << 10 })
	dir, reg := t.TempDir(), prometheus.NewRegistry()
	var log bridgetest.Log
	b := start(t, server.URL(), publish.Options{Dir: dir, Registerer: reg, Logger: log.Logger()})
	begin := time.Now()
	b.quarantine("one")
	for i := range 20 {
		b.quarantine(strings.Repeat("x", 4<<10) + strconv.Itoa(i))
	}
	big := event("a", 99)
	big.Raw = []byte(`"` + strings.Repeat("x", 4<<10) + `"`)
	b.store(big, event("a", 1))
	b.drained()
	checkStream(t, server, map[string]int{"a": 1})
	expect(t, scrape(t, reg), map[string]float64{
		"acsbridge_published_total dead_letter contoso": 21, "acsbridge_dead_letters_total too_large": 21,
		"acsbridge_published_total quarantined contoso": 1,
	})
	if n := deadLetters(t, dir, "too_large"); n != 21 {
		t.Errorf("%d dead letters, want 21", n)
	}
	most := 2 * (1 + int(time.Since(begin)/time.Second)) // of events and of the quarantine
	if n := log.Count("level=ERROR"); n == 0 || n > most {
		t.Errorf("%d lines for 21 dead letters, want 1 to %d", n, most)
	}
}

// A record that the dead-letter file does not take holds up the others: late is better than
// lost.
func TestForwarder_deadLetterFileFails(t *testing.T) {
	server := natstest.Start(t, func(o *natsserver.Options) { o.MaxPayload = 4 << 10 })
	dir := t.TempDir()
	inTheWay := filepath.Join(dir, "dead-letters.ndjson")
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	b := start(t, server.URL(), publish.Options{Dir: dir})
	big := event("a", 99)
	big.Raw = []byte(`"` + strings.Repeat("x", 4<<10) + `"`)
	b.store(big, event("a", 1))
	natstest.Until(t, func() bool { return b.says("move record") })
	if n := b.Status().Waiting; n != 2 {
		t.Errorf("%d records wait, want both", n)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	b.drained()
	checkStream(t, server, map[string]int{"a": 1})
	if letters, err := os.ReadFile(inTheWay); err != nil || strings.Count(string(letters), "\n") != 1 {
		t.Errorf("dead letters: %s, %v", letters, err)
	}
}

// Two resources that send the same malformed body send two callbacks.
func TestQuarantine_keepsResourcesApart(t *testing.T) {
	server := natstest.Start(t)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
	other, err := verifiedFrom(map[string]any{"aud": otherAudience})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.Quarantine(context.Background(), claims(t), delivery(), "not_json", "", []byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := b.Quarantine(context.Background(), other, delivery(), "not_json", "", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	b.drained()
	if n := len(server.Messages(schemas.QuarantineStream)); n != 2 {
		t.Errorf("got %d messages, want one of each resource", n)
	}
}
