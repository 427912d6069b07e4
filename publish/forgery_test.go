package publish_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// forge answers each publish of an event in the stream's name, as a client could that
// may subscribe to the subjects.
func forge(t *testing.T, server *natstest.Server, answer func(nc *nats.Conn, m *nats.Msg)) {
	t.Helper()
	nc := server.JetStream().Conn()
	sub, err := nc.Subscribe("acs.>", func(m *nats.Msg) { answer(nc, m) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// toRecord answers to another record than the one that a message is of.
func toRecord(nc *nats.Conn, m *nats.Msg, record, text string) {
	_ = nc.Publish(m.Reply[:strings.LastIndexByte(m.Reply, '.')+1]+record, []byte(text))
}

// Answers to records that are not pending, and second answers, change nothing.
func TestSender_answersToNothing(t *testing.T) {
	server := natstest.Start(t)
	forge(t, server, func(nc *nats.Conn, m *nats.Msg) {
		for _, record := range []string{"0", "513", "x", "-1", "18446744073709551615"} {
			toRecord(nc, m, record, `{"stream":"ACS","seq":1}`)
		}
		_ = m.Respond([]byte(`{"stream":"ACS","seq":1}`)) // besides the stream's own answer
	})
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
	b.publish("a", 1, 3)
	b.drained()
	checkStream(t, server, map[string]int{"a": 3})
}

// What answers the publishes of one sender says nothing to the next one, and cannot be
// guessed.
func TestSender_inboxOfItsOwn(t *testing.T) {
	server := natstest.Start(t)
	inboxes := make(chan string, 10)
	forge(t, server, func(_ *nats.Conn, m *nats.Msg) {
		if m.Header.Get(schemas.HeaderEventID) != "" { // it is not a trial
			inboxes <- m.Reply[:strings.LastIndexByte(m.Reply, '.')]
		}
	})
	proxy := natstest.NewProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	b := start(t, proxy.URL(), publish.Options{Dir: t.TempDir()})
	b.publish("a", 1, 1)
	b.drained()
	first := <-inboxes
	proxy.Cut()
	b.publish("a", 2, 2)
	b.drained()
	if second := <-inboxes; second == first || len(second) < len(nats.NewInbox()) {
		t.Errorf("answers come to %s and then to %s", first, second)
	}
}

// An acknowledgement that is not the stream's own moves nothing, with a journal or
// without: of another stream, without a sequence, or to a record whose place in the
// window another one had, or will have.
func TestPublish_forgedAcknowledgement(t *testing.T) {
	for name, answer := range map[string]func(nc *nats.Conn, m *nats.Msg){
		"another stream": func(_ *nats.Conn, m *nats.Msg) { _ = m.Respond([]byte(`{"stream":"EVIL","seq":1}`)) },
		"no sequence":    func(_ *nats.Conn, m *nats.Msg) { _ = m.Respond([]byte(`{"stream":"ACS","seq":0}`)) },
		"another record": func(nc *nats.Conn, m *nats.Msg) {
			toRecord(nc, m, "513", `{"stream":"ACS","seq":1}`)
			_ = m.Respond([]byte(`{"stream":"EVIL","seq":1}`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := natstest.Start(t)
			elsewhere(t, server)
			forge(t, server, answer)
			b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
			b.publish("a", 1, 1)
			natstest.Until(t, func() bool { return b.says("takes acs.> as well") })
			if b.Status().Waiting != 1 {
				t.Error("the record counts as stored")
			}
			b.stop()

			b = start(t, server.URL(), publish.Options{})
			natstest.Until(t, func() bool { return b.Status().Sending })
			if err := b.Publish(t.Context(), claims(t), delivery(), []schemas.Inbound{event("a", 1)}); !errors.Is(err, publish.ErrUnavailable) {
				t.Errorf("without a journal: got %v, want ErrUnavailable", err)
			}
		})
	}
}

// elsewhere makes a stream that can be looked at and does not take events.
func elsewhere(t *testing.T, server *natstest.Server) {
	t.Helper()
	config := jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{"elsewhere"}, AllowDirect: true}
	natstest.CreateStream(t, server.JetStream(), config)
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
