package publish_test

import (
	"context"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// freePort returns a port of loopback that nothing listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// hubAndLeaf starts two servers with JetStream domains of their own, where the
// second is a leaf node of the first.
func hubAndLeaf(t *testing.T) (hub, leaf *natstest.Server) {
	t.Helper()
	port := freePort(t)
	hub = natstest.Start(t, func(o *natsserver.Options) {
		o.ServerName, o.JetStreamDomain = "hub", "hub"
		o.LeafNode.Host, o.LeafNode.Port = "127.0.0.1", port
	})
	leaf = natstest.Start(t, func(o *natsserver.Options) {
		o.ServerName, o.JetStreamDomain = "leaf", "leaf"
		remote := &url.URL{Scheme: "nats-leaf", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
		o.LeafNode.Remotes = []*natsserver.RemoteLeafOpts{{URLs: []*url.URL{remote}}}
		o.LeafNode.ReconnectInterval = 50 * time.Millisecond
	})
	return hub, leaf
}

// Hub and leaf have a stream of one name and subjects. What the other one
// acknowledges is not in the stream that was asked for, whether that is there or not.
func TestForwarder_streamOfAnotherDomain(t *testing.T) {
	withAndWithoutJournal(t, func(t *testing.T, dir string) {
		hub, leaf := hubAndLeaf(t)
		natstest.CreateStream(t, hub.JetStream(), asConfigured())
		natstest.CreateStream(t, leaf.JetStream(), asConfigured())
		b := startAs(t, natsconn.Config{URL: hub.URL(), Domain: "leaf"}, publish.Options{Dir: dir})
		natstest.Until(t, func() bool { return b.Status().Sending })
		b.publish("a", 1, 3)
		b.drained()
		checkStream(t, leaf, map[string]int{"a": 3})
		natstest.Until(t, func() bool { return b.says("takes acs.> as well as ACS of domain leaf") })

		leaf.Stop()
		err := b.Publish(context.Background(), claims(t), delivery(), []schemas.Inbound{event("a", 4)})
		if dir == "" {
			if err == nil {
				t.Error("answered as stored, which another stream did")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		hub.Await(schemas.Stream, 4) // it was sent, and answered
		natstest.Until(t, func() bool { return b.says("look at stream ACS") })
		if s := b.Status(); s.Waiting != 1 || !b.says("stream ACS of domain hub takes acs.> as well as") {
			t.Errorf("%d wait, notes %v", s.Waiting, s.Notes)
		}
		leaf.Restart()
		b.drained()
		checkStream(t, leaf, map[string]int{"a": 4})
	})
}

// Another stream in the same domain cannot take the same subjects, but one of
// another name behind a leaf node can, and refuses what names ours.
func TestForwarder_refusalOfAnotherStream(t *testing.T) {
	hub, leaf := hubAndLeaf(t)
	other := asConfigured()
	other.Name, other.MaxMsgSize = "OTHER", 10 // it refuses for good what ours takes
	natstest.CreateStream(t, hub.JetStream(), other)
	natstest.CreateStream(t, leaf.JetStream(), asConfigured())
	dir := t.TempDir()
	b := startAs(t, natsconn.Config{URL: hub.URL(), Domain: "leaf"}, publish.Options{Dir: dir})
	b.publish("a", 1, 5)
	b.drained()
	checkStream(t, leaf, map[string]int{"a": 5})
	if names, err := filepath.Glob(filepath.Join(dir, "dead-letters*")); err != nil || len(names) > 0 {
		t.Errorf("%v, %v", names, err)
	}
	natstest.Until(t, func() bool { return b.says("stream OTHER takes acs.> as well") })
	if err := hub.JetStream().DeleteStream(t.Context(), "OTHER"); err != nil {
		t.Fatal(err)
	}
	b.stop()
	b = startAs(t, natsconn.Config{URL: hub.URL(), Domain: "leaf"}, publish.Options{Dir: dir})
	b.publish("a", 6, 6)
	b.drained()
	if b.says("as well") {
		t.Errorf("the other stream is gone: %v", b.Status().Notes)
	}
}

// A refusal counts again once the other stream is gone, also when there is nothing
// that this one acknowledges.
func TestForwarder_refusalAfterAnotherStream(t *testing.T) {
	hub, leaf := hubAndLeaf(t)
	natstest.CreateStream(t, hub.JetStream(), asConfigured())
	small := asConfigured()
	small.MaxMsgSize = 10
	natstest.CreateStream(t, leaf.JetStream(), small)
	dir := t.TempDir()
	b := startAs(t, natsconn.Config{URL: hub.URL(), Domain: "leaf"}, publish.Options{Dir: dir})
	// Known before there is a record, which could otherwise be refused first.
	natstest.Until(t, func() bool { return b.says("takes acs.> as well") })
	b.publish("a", 1, 1)
	natstest.Until(t, func() bool { return b.says("stream ACS of domain hub takes acs.> as well") })
	if err := hub.JetStream().DeleteStream(t.Context(), schemas.Stream); err != nil {
		t.Fatal(err)
	}
	b.drained()
	if n := deadLetters(t, dir, "too_large"); n == 0 {
		t.Error("no dead letter")
	}
}

// Until the stream has said where it is, nothing is sent; what is missing is said.
func TestForwarder_withoutStreamInfo(t *testing.T) {
	withAndWithoutJournal(t, func(t *testing.T, dir string) {
		server := natstest.Start(t)
		natstest.CreateStream(t, server.JetStream(), asConfigured())
		rights := []string{"acs.>", "acs-quarantine.>", "$JS.API.DIRECT.>"}
		url := grant(server, rights)
		var log bridgetest.Log
		b := start(t, url, publish.Options{Dir: dir, Logger: log.Logger()})
		err := b.Publish(context.Background(), claims(t), delivery(), []schemas.Inbound{event("a", 1)})
		if (err == nil) != (dir != "") {
			t.Errorf("got %v", err)
		}
		natstest.Until(t, func() bool { return b.says(`Permissions Violation for Publish to "$JS.API.STREAM.INFO.ACS"`) })
		if n := len(server.Messages(schemas.Stream)); n != 0 {
			t.Errorf("%d messages were sent", n)
		}
		if !await(&log, "level=WARN", "stream=ACS", "STREAM.INFO", "Rights in NATS") {
			t.Errorf("the log does not say what is missing:\n%s", log.String())
		}
		rights = append(rights, "$JS.API.STREAM.INFO.>")
		grant(server, rights)
		if dir != "" {
			b.drained()
			checkStream(t, server, map[string]int{"a": 1})
		}
		natstest.Until(t, func() bool { return b.Status().Sending && !b.says("STREAM.INFO.ACS\"") })
	})
}
