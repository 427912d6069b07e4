package publish_test

import (
	"context"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// A stream without room for one event may have room for the next, and later
// for both. The events of a call must not change places by that.
func TestARefusalInsideTheWindowKeepsTheOrderOfACall(t *testing.T) {
	server := natstest.Start(t)
	js := server.JetStream()
	config := jetstream.StreamConfig{Name: "ACS", Subjects: []string{"acs.>"}, Discard: jetstream.DiscardNew, MaxBytes: 6000}
	if _, err := js.CreateStream(context.Background(), config); err != nil {
		t.Fatal(err)
	}
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), AckWait: publish.NoAckWait})
	natstest.Until(t, func() bool { return b.Status().Sending })
	big := event("a", 1)
	big.Raw = []byte(`"` + strings.Repeat("x", 8000) + `"`)
	events := []schemas.Inbound{big, event("a", 2), event("b", 1)}
	if err := b.Publish(context.Background(), claims(t), delivery(), events); err != nil {
		t.Fatal(err)
	}
	// The other call does not wait, so its event shows that the window is through.
	natstest.Until(t, func() bool { return b.says("no room") })

	config.MaxBytes = -1
	if _, err := js.UpdateStream(context.Background(), config); err != nil {
		t.Fatal(err)
	}
	b.drained()
	checkStream(t, server, map[string]int{"a": 2, "b": 1})
}
