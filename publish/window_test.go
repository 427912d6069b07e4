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

// A stream that was there before may forget ids sooner than it is configured
// here. What counts is how long it really remembers.
func TestTheStreamsOwnWindowDecidesWhatIsInDoubt(t *testing.T) {
	server := natstest.Start(t)
	config := jetstream.StreamConfig{Name: "ACS", Subjects: []string{"acs.>"}, Duplicates: shortWindow.Duplicates, AllowDirect: true}
	if _, err := server.JetStream().CreateStream(context.Background(), config); err != nil {
		t.Fatal(err)
	}
	proxy := natstest.NewProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	b := start(t, proxy.URL(), publish.Options{Dir: t.TempDir()}) // configures 10 min
	b.publish("a", 1, 2)
	b.drained()
	proxy.LoseAnswers(true)
	b.publishTen(1)
	server.Await(schemas.Stream, 12)
	afterWindow()
	proxy.LoseAnswers(false)
	proxy.Cut()
	b.drained()
	checkStream(t, server, tenCalls(1, map[string]int{"a": 2}))
}

// Two resources that send the same malformed body send two callbacks.
func TestQuarantineKeepsResourcesApart(t *testing.T) {
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
