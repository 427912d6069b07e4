package publish_test

import (
	"strings"
	"testing"

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
