package publish_test

import (
	"errors"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
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
