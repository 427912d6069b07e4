package publish_test

import (
	"context"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestRights_viewer reads as tail, call and calls do, and tries what a viewer
// must not be able to.
func TestRights_viewer(t *testing.T) {
	server := restricted(t)
	createStreams(t, server, publish.StreamConfig{})
	b := startAs(t, asBridge(server), publish.Options{Dir: t.TempDir()})
	b.publish("a", 1, 20)
	b.quarantine("no event")
	b.drained()
	server.Await(schemas.QuarantineStream, 1)

	c := login(t, server, "viewer", "viewer_password")
	for stream, want := range map[string]int{schemas.Stream: 20, schemas.QuarantineStream: 1} {
		reader := replay.Reader{
			JetStream: func(context.Context) (jetstream.JetStream, error) { return c.js, nil },
			Stream:    stream, Prefix: schemas.SubjectPrefix,
		}
		read := 0
		for _, err := range reader.Read(t.Context(), replay.Selection{}) {
			if err != nil {
				t.Fatalf("message %d of stream %s: %v", read+1, stream, err)
			}
			read++
		}
		if _, err := reader.Info(t.Context()); err != nil || read != want {
			t.Errorf("%d messages of stream %s, want %d; look at it: %v", read, stream, want, err)
		}
	}
	for _, subject := range append([]string{
		"acs.contoso.CallConnected.a.c-1", "acs-quarantine.contoso.not_json", "_INBOX_hangups.abc.1", "_INBOX_viewer.abc.1",
		"$JS.API.CONSUMER.INFO.ACS.hangups", "$JS.API.CONSUMER.MSG.NEXT.ACS.hangups", "$JS.ACK.ACS.hangups.1.1.1.1.0",
	}, forbidden...) {
		c.mayNotPublish(subject)
		if operation, ok := strings.CutPrefix(subject, "$JS.API."); ok {
			c.mayNotPublish(domain + operation)
		}
	}
	for _, subject := range []string{"acs.>", "acs-quarantine.>", ">", "_INBOX_hangups.>", "_INBOX.>"} {
		c.mayNotSubscribe(subject)
	}
	checkStream(t, server, map[string]int{"a": 20})
}
