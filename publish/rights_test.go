package publish_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// rightsFile is the configuration that the tests here hold to its promises.
const rightsFile = "../deploy/nats/rights.conf"

// restricted starts a server with the rights of deploy/nats.
func restricted(t *testing.T) *natstest.Server {
	t.Helper()
	return natstest.StartRights(t, rightsFile)
}

// domain is where the bridge and the readers find JetStream.
const domain = "$JS.acs.API."

// asBridge is how the bridge logs in.
func asBridge(server *natstest.Server) natsconn.Config {
	return natsconn.Config{
		URL: server.URL(), User: "acsbridge", Password: "of-the-bridge_password", InboxPrefix: "_INBOX_acsbridge", Domain: "acs",
	}
}

// login connects as a user of the configuration.
func login(t *testing.T, server *natstest.Server, user, passwordOf string) *rightsClient {
	t.Helper()
	c := &rightsClient{t: t, refusals: make(chan error, 64)}
	var err error
	c.nc, err = nats.Connect(server.URL(), nats.UserInfo(user, "of-the-"+passwordOf), nats.CustomInboxPrefix("_INBOX_"+user),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.refusals <- err }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.nc.Close)
	if c.js, err = jetstream.NewWithAPIPrefix(c.nc, strings.TrimSuffix(domain, ".")); err != nil {
		t.Fatal(err)
	}
	return c
}

// rightsClient is a client that hears what it may not do.
type rightsClient struct {
	t        *testing.T
	nc       *nats.Conn
	js       jetstream.JetStream
	refusals chan error
}

// mayNotPublish fails unless the server refuses a publish.
func (c *rightsClient) mayNotPublish(subject string) {
	c.t.Helper()
	if err := c.nc.Publish(subject, nil); err != nil {
		c.t.Fatal(err)
	}
	c.refused("publish to " + subject)
}

// mayNotSubscribe fails unless the server refuses a subscription.
func (c *rightsClient) mayNotSubscribe(subject string) {
	c.t.Helper()
	sub, err := c.nc.SubscribeSync(subject)
	if err != nil {
		c.t.Fatal(err)
	}
	c.refused("subscribe to " + subject)
	_ = sub.Unsubscribe()
}

// refused expects that the server has refused what was just asked for, and
// nothing else.
func (c *rightsClient) refused(what string) {
	c.t.Helper()
	if err := c.nc.Flush(); err != nil {
		c.t.Fatal(err)
	}
	select {
	case err := <-c.refusals:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			c.t.Errorf("%s: %v", what, err)
		}
	case <-time.After(2 * time.Second):
		c.t.Errorf("may %s", what)
	}
}

// mayNot tries what neither the bridge nor a reader may do, and what else this client
// may not.
func (c *rightsClient) mayNot(publish, subscribe []string) {
	c.t.Helper()
	for _, subject := range append(publish, forbidden...) {
		c.mayNotPublish(subject)
		if operation, ok := strings.CutPrefix(subject, "$JS.API."); ok {
			c.mayNotPublish(domain + operation)
		}
	}
	for _, subject := range append(subscribe, "acs.>", "acs-quarantine.>", ">", "_INBOX.>") {
		c.mayNotSubscribe(subject)
	}
}

// ask publishes a request whose answer is to go elsewhere, which needs no right
// to publish there.
func (c *rightsClient) ask(subject, answerTo, body string) {
	c.t.Helper()
	if err := c.nc.PublishRequest(subject, answerTo, []byte(body)); err != nil {
		c.t.Fatal(err)
	}
	if err := c.nc.Flush(); err != nil {
		c.t.Fatal(err)
	}
}

// forbidden are what neither the bridge nor a reader may ask JetStream for.
var forbidden = []string{
	"$JS.API.STREAM.DELETE.ACS", "$JS.API.STREAM.PURGE.ACS", "$JS.API.STREAM.UPDATE.ACS", "$JS.API.STREAM.CREATE.EVIL",
	"$JS.API.STREAM.MSG.DELETE.ACS", "$JS.API.STREAM.MSG.GET.ACS", "$JS.API.STREAM.SNAPSHOT.ACS", "$JS.API.STREAM.NAMES",
	"$JS.API.STREAM.DELETE.ACS_QUARANTINE", "$JS.API.STREAM.PURGE.ACS_QUARANTINE",
	"$JS.API.CONSUMER.CREATE.ACS.evil", "$JS.API.CONSUMER.CREATE.ACS", "$JS.API.CONSUMER.DURABLE.CREATE.ACS.evil",
	"$JS.API.CONSUMER.DELETE.ACS.hangups", "$JS.API.CONSUMER.PAUSE.ACS.hangups", "$JS.API.CONSUMER.MSG.NEXT.ACS.evil",
	"$JS.API.CONSUMER.CREATE.ACS_QUARANTINE.evil", "$JS.API.INFO", "$SYS.REQ.SERVER.PING", "elsewhere",
	"_INBOX.victim.1",
}

// TestRights_noOtherLogins holds the file to its list of users: a client that logs in
// beside the streams may do everything with them.
func TestRights_noOtherLogins(t *testing.T) {
	restricted(t)
	configured, err := natsserver.ProcessConfigFile(rightsFile)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, user := range configured.Users {
		got[user.Username] = user.Account.Name
	}
	want := map[string]string{"operator": "STREAMS", "acsbridge": "BRIDGE", "ivr": "SERVICE_IVR", "hangups": "READERS", "viewer": "VIEWERS"}
	if diff := cmp.Diff(want, got); diff != "" || len(configured.Nkeys) > 0 || configured.NoAuthUser != "" {
		t.Errorf("%s, %d nkeys, and without a login %q", diff, len(configured.Nkeys), configured.NoAuthUser)
	}
}

// TestRights_bridge runs a bridge with the rights it has, and tries what it
// has no right to.
func TestRights_bridge(t *testing.T) {
	server := restricted(t)
	createStreams(t, server, publish.StreamConfig{})
	b := startAs(t, asBridge(server), publish.Options{Dir: t.TempDir(), AckWait: time.Minute})
	b.publish("a", 1, 20)
	b.quarantine("no event")
	b.drained()
	checkStream(t, server, map[string]int{"a": 20})
	for _, m := range server.Messages(schemas.Stream) {
		for name := range m.Header {
			if strings.HasPrefix(name, "Nats-") && name != schemas.HeaderMsgID && name != jetstream.ExpectedStreamHeader {
				t.Errorf("on its way through the accounts an event got the header %s", name)
			}
		}
	}
	if got := len(server.Messages(schemas.QuarantineStream)); got != 1 {
		t.Errorf("%d messages in quarantine, want 1", got)
	}

	c := login(t, server, "acsbridge", "bridge_password")
	if _, err := c.js.Stream(t.Context(), schemas.Stream); err != nil {
		t.Errorf("look at the stream: %v", err)
	}
	batch, err := jetstreamext.GetBatch(t.Context(), c.js, schemas.Stream, 20, jetstreamext.GetBatchSeq(1))
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, err := range batch {
		if err != nil {
			t.Fatalf("message %d of a batch: %v", read+1, err)
		}
		read++
	}
	if read != 20 {
		t.Errorf("%d messages were read, want 20", read)
	}
	c.mayNot([]string{"_INBOX_acsbridge.x", "_INBOX_hangups.x", "$JS.ACK.ACS.hangups.1.1.1.1.0", "$JS.API.CONSUMER.MSG.NEXT.ACS.hangups"},
		[]string{"$JS.>", "_INBOX_hangups.>"})
	checkStream(t, server, map[string]int{"a": 20})
}

// TestRights_afterALongOutage has records that may be stored looked up by a bridge
// that has no more rights than it needs.
func TestRights_afterALongOutage(t *testing.T) {
	server := restricted(t)
	createStreams(t, server, shortWindow)
	proxy := natstest.NewProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	as := asBridge(server)
	as.URL = proxy.URL()
	b := startAs(t, as, publish.Options{Dir: t.TempDir(), Stream: shortWindow})
	b.publish("a", 1, 5)
	b.drained()
	proxy.LoseAnswers(true)
	b.publishTen(1) // stored, and not acknowledged
	server.Await(schemas.Stream, 15)
	server.Stop()
	b.publish("a", 6, 10)
	afterWindow()
	proxy.LoseAnswers(false)
	proxy.Cut()
	server.Restart()
	b.drained()
	checkStream(t, server, tenCalls(1, map[string]int{"a": 10}))
}

// createStreams makes the streams as the operator.
func createStreams(t *testing.T, server *natstest.Server, config publish.StreamConfig) {
	t.Helper()
	operator := startAs(t, natsconn.Config{URL: server.URL(), User: "operator", Password: "of-the-operator_password"},
		publish.Options{Dir: t.TempDir(), Stream: config})
	server.Await(schemas.Stream, 0)
	server.Await(schemas.QuarantineStream, 0)
	operator.stop()
}

// TestRights_reader reads as a service does, and tries what it must not be
// able to.
func TestRights_reader(t *testing.T) {
	server := restricted(t)
	createStreams(t, server, publish.StreamConfig{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	hangups := jetstream.ConsumerConfig{Durable: "hangups", FilterSubject: "acs.*.PlayCompleted.*.*", AckWait: time.Minute}
	if _, err := server.JetStream().CreateConsumer(ctx, schemas.Stream, hangups); err != nil {
		t.Fatal(err)
	}
	b := startAs(t, asBridge(server), publish.Options{Dir: t.TempDir()})
	b.publish("a", 1, 20)
	b.drained()

	c := login(t, server, "hangups", "hangups_password")
	consumer, err := c.js.Consumer(ctx, schemas.Stream, "hangups")
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 10; n++ {
		m, err := consumer.Next(jetstream.FetchMaxWait(10 * time.Second))
		if err != nil {
			t.Fatalf("message %d: %v", n, err)
		}
		if got, want := m.Headers().Get(schemas.HeaderEventID), fmt.Sprintf("a-%d", n); got != want || m.Subject() != "acs.contoso.PlayCompleted.c.a" {
			t.Errorf("got %s on %s, want %s", got, m.Subject(), want)
		}
		if err := m.DoubleAck(ctx); err != nil {
			t.Errorf("acknowledge message %d: %v", n, err)
		}
	}
	fetched, err := consumer.Fetch(10, jetstream.FetchMaxWait(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for m := range fetched.Messages() {
		if err := m.Ack(); err != nil {
			t.Error(err)
		}
	}
	natstest.Until(t, func() bool {
		info, err := consumer.Info(ctx)
		return err == nil && info.AckFloor.Consumer == 20
	})

	c.mayNot([]string{
		"acs.contoso.CallConnected.a.c-1", "acs-quarantine.contoso.not_json", "_INBOX_acsbridge.abc.1",
		"$JS.API.STREAM.INFO.ACS_QUARANTINE", "$JS.API.DIRECT.GET.ACS_QUARANTINE", "$JS.API.CONSUMER.INFO.ACS.another",
		"$JS.API.CONSUMER.MSG.NEXT.ACS.another", "$JS.ACK.ACS.another.1.1.1.1.0", "$JS.API.CONSUMER.MSG.NEXT.ACS_QUARANTINE.hangups",
	}, []string{"_INBOX_acsbridge.>"})
	checkStream(t, server, map[string]int{"a": 20})
}

// TestRights_answersDoNotReachTheStreams asks for what is allowed and has the answers
// sent where they would be events, forged acknowledgements or orders to
// JetStream. NATS does not ask for a right to that; the accounts are what keeps
// them away.
func TestRights_answersDoNotReachTheStreams(t *testing.T) {
	server := restricted(t)
	createStreams(t, server, publish.StreamConfig{})
	// A message without a body, sent to the right subject, deletes a stream.
	if _, err := server.JetStream().CreateConsumer(t.Context(), schemas.Stream, jetstream.ConsumerConfig{Durable: "hangups", HeadersOnly: true}); err != nil {
		t.Fatal(err)
	}
	b := startAs(t, asBridge(server), publish.Options{Dir: t.TempDir()})
	b.publish("a", 1, 5)
	b.quarantine("")
	b.drained()
	server.Await(schemas.QuarantineStream, 1)
	subjects := []string{
		"acs.contoso.CallConnected.c.forged", "acs-quarantine.contoso.forged", "_INBOX_acsbridge.forged.1",
		"$JS.API.STREAM.PURGE.ACS", "$JS.API.STREAM.DELETE.ACS",
	}
	for _, c := range []struct{ user, password, ask, body string }{
		{"hangups", "hangups_password", domain + "CONSUMER.INFO.ACS.hangups", ""},
		{"hangups", "hangups_password", domain + "CONSUMER.MSG.NEXT.ACS.hangups", ""},
		{"acsbridge", "bridge_password", domain + "STREAM.INFO.ACS", ""},
		{"acsbridge", "bridge_password", domain + "DIRECT.GET.ACS", `{"seq":1}`},
		{"acsbridge", "bridge_password", domain + "DIRECT.GET.ACS_QUARANTINE", `{"seq":1}`},
		{"viewer", "viewer_password", domain + "STREAM.INFO.ACS", ""},
		{"viewer", "viewer_password", domain + "DIRECT.GET.ACS", `{"seq":1}`},
		{"viewer", "viewer_password", domain + "DIRECT.GET.ACS", `{"seq":1,"batch":5}`},
	} {
		heard := make(chan *nats.Msg, 64)
		sub, err := server.JetStream().Conn().ChanSubscribe("_INBOX_acsbridge.forged.>", heard)
		if err != nil {
			t.Fatal(err)
		}
		client := login(t, server, c.user, c.password)
		for _, subject := range subjects {
			client.ask(c.ask, subject, c.body)
		}
		if c.user != "hangups" {
			// Its answers come in the order of its questions: once this one is
			// here, so are the others.
			if _, err := client.js.Stream(t.Context(), schemas.Stream); err != nil {
				t.Errorf("%s: %v", c.ask, err)
			}
		} else if _, err := client.js.Consumer(t.Context(), schemas.Stream, "hangups"); err != nil {
			t.Errorf("%s: %v", c.ask, err)
		}
		if len(heard) > 0 {
			t.Errorf("an answer to %s reached the inbox of the bridge", c.ask)
		}
		_ = sub.Unsubscribe()
		checkStream(t, server, map[string]int{"a": 5})
		if got := server.Messages(schemas.QuarantineStream); len(got) != 1 || len(bytes.TrimSpace(got[0].Data)) != 0 {
			t.Errorf("after %s there are %d messages in quarantine", c.ask, len(got))
		}
	}
	// The same with acknowledgements: what is published is stored, and no more.
	client := login(t, server, "acsbridge", "bridge_password")
	for _, subject := range subjects {
		client.ask("acs.contoso.CallConnected.5.own", subject, "{}")
	}
	server.Await(schemas.Stream, 5+len(subjects))
	if _, err := client.js.Stream(t.Context(), schemas.Stream); err != nil {
		t.Error(err)
	}
	for _, m := range server.Messages(schemas.Stream)[5:] {
		if m.Subject != "acs.contoso.CallConnected.5.own" {
			t.Errorf("an acknowledgement was stored on %s", m.Subject)
		}
	}
	if got := server.Messages(schemas.QuarantineStream); len(got) != 1 {
		t.Errorf("%d messages in quarantine", len(got))
	}
}
