package publish_test

import (
	"context"
	"errors"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestRights_oneAccountIsNotEnough shows why deploy/nats/rights.conf has accounts: what
// users can do with an answer, in the account of the streams, who have no right
// to it. Should a release of NATS ask for the right to where an answer goes,
// this test fails and the file can become simpler.
func TestRights_oneAccountIsNotEnough(t *testing.T) {
	for name, test := range map[string]struct {
		rights  []string // to publish
		subject string   // that the request goes to
		body    string
		answer  string // where its answer is to go
		deleted bool
	}{
		"an event from the answer to a question": {
			rights: []string{"$JS.API.STREAM.INFO.ACS"}, subject: "$JS.API.STREAM.INFO.ACS", answer: "acs.contoso.CallConnected.c.forged",
		},
		"a stream deleted by reading an empty message": {
			rights: []string{"$JS.API.DIRECT.GET.ACS_QUARANTINE"}, subject: "$JS.API.DIRECT.GET.ACS_QUARANTINE",
			body: `{"seq":1}`, answer: "$JS.API.STREAM.DELETE.ACS", deleted: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := natstest.Start(t, func(o *natsserver.Options) {
				o.Users = []*natsserver.User{{Username: "operator", Password: "p"}, {Username: "reader", Password: "p", Permissions: &natsserver.Permissions{
					Publish: &natsserver.SubjectPermission{Allow: test.rights},
				}}}
				o.NoAuthUser = "operator"
			})
			b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
			b.publish("a", 1, 1)
			b.quarantine("")
			b.drained()
			b.stop()
			js := server.JetStream()
			reader, err := nats.Connect(server.URL(), nats.UserInfo("reader", "p"))
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			if err := reader.PublishRequest(test.subject, test.answer, []byte(test.body)); err != nil {
				t.Fatal(err)
			}
			natstest.Until(t, func() bool {
				stream, err := js.Stream(t.Context(), schemas.Stream)
				if test.deleted {
					return errors.Is(err, jetstream.ErrStreamNotFound)
				}
				return err == nil && stream.CachedInfo().State.Msgs == 2
			})
		})
	}
}

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
	c.mayNot([]string{
		"acs.contoso.CallConnected.a.c-1", "acs-quarantine.contoso.not_json", "_INBOX_hangups.abc.1", "_INBOX_viewer.abc.1",
		"$JS.API.CONSUMER.INFO.ACS.hangups", "$JS.API.CONSUMER.MSG.NEXT.ACS.hangups", "$JS.ACK.ACS.hangups.1.1.1.1.0",
	}, []string{"_INBOX_hangups.>"})
	checkStream(t, server, map[string]int{"a": 20})
}
