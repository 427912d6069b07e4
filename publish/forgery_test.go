package publish_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// Whoever sees a publish knows where its answer goes, and can answer there what
// nobody asked.
func TestAnswersToNothingAreIgnored(t *testing.T) {
	server := natstest.Start(t)
	nc := server.JetStream().Conn()
	if _, err := nc.Subscribe("acs.>", func(m *nats.Msg) {
		inbox := m.Reply[:strings.LastIndexByte(m.Reply, '.')+1]
		for _, record := range []string{"0", "513", "x", "-1", "18446744073709551615"} {
			_ = nc.Publish(inbox+record, []byte(`{"stream":"ACS","seq":1}`))
		}
		_ = m.Respond([]byte(`{"stream":"ACS","seq":1}`)) // besides the stream's own answer
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
	b.publish("a", 1, 3)
	b.drained()
	checkStream(t, server, map[string]int{"a": 3})
}

// The record whose place in the window another one had, or will have.
func TestAnAnswerToAnotherRecordMovesNothing(t *testing.T) {
	server := natstest.Start(t)
	elsewhere(t, server)
	nc := server.JetStream().Conn()
	if _, err := nc.Subscribe("acs.>", func(m *nats.Msg) {
		inbox := m.Reply[:strings.LastIndexByte(m.Reply, '.')+1]
		_ = nc.Publish(inbox+"513", []byte(`{"stream":"ACS","seq":1}`))
		_ = m.Respond([]byte(`{"stream":"EVIL","seq":1}`))
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
	b.publish("a", 1, 1)
	natstest.Until(t, func() bool { return b.says("stream EVIL takes acs.> as well") })
	if b.Status().Waiting != 1 {
		t.Error("the record counts as stored")
	}
}

// elsewhere makes a stream that can be looked at and does not take events.
func elsewhere(t *testing.T, server *natstest.Server) {
	t.Helper()
	config := jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{"elsewhere"}, AllowDirect: true}
	if _, err := server.JetStream().CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
}

// says reports whether there is a note with a text in it.
func (b *bridge) says(text string) bool {
	return slices.ContainsFunc(b.Status().Notes, func(n publish.Note) bool { return strings.Contains(n.Text, text) })
}

// differences returns the notes of the event stream.
func (b *bridge) differences() (list []string) {
	for _, n := range b.Status().Notes {
		if n.Part == "stream" {
			list = append(list, n.Text)
		}
	}
	return list
}
