package publish_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
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
	server := natstest.Start(t, func(o *server.Options) { o.JetStream = false })
	nc := server.JetStream().Conn()
	if _, err := nc.Subscribe("acs.>", func(m *nats.Msg) {
		inbox := m.Reply[:strings.LastIndexByte(m.Reply, '.')+1]
		_ = nc.Publish(inbox+"513", []byte(`{"stream":"ACS","seq":1}`))
		_ = m.Respond([]byte(`{"stream":"EVIL","seq":1}`)) // ends the session
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
	b.publish("a", 1, 1)
	natstest.Until(t, func() bool {
		problem := b.Status().Problem
		return problem != nil && strings.Contains(problem.Error(), "EVIL")
	})
	if b.Status().Waiting != 1 {
		t.Error("the record counts as stored")
	}
}
