package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// natsStarts bounds the start of a node; one that was killed reads its streams.
const natsStarts = 20 * time.Second

// node is a nats-server process with its store. It picks its ports at each start, and the
// proxies in front of it follow.
type node struct {
	t       testing.TB
	name    string
	dir     string
	config  string
	process *process
	address string                     // where clients connect without a proxy
	clients *natstest.Proxy            // from the bridges
	routes  map[string]*natstest.Proxy // from the other nodes, by their names
}

// cluster is one node, or three that replicate.
type cluster struct {
	t     testing.TB
	nodes []*node
}

// newCluster starts n nodes, with proxies between any two of them and in front of each.
func newCluster(t testing.TB, n int) *cluster {
	t.Helper()
	c := &cluster{t: t}
	for i := range n {
		name := fmt.Sprintf("n%d", i+1)
		c.nodes = append(c.nodes, &node{t: t, name: name, dir: t.TempDir(), clients: natstest.NewProxy(t, ""), routes: make(map[string]*natstest.Proxy)})
	}
	for _, to := range c.nodes {
		for _, from := range c.nodes {
			if to != from {
				to.routes[from.name] = natstest.NewProxy(t, "")
			}
		}
	}
	for _, node := range c.nodes {
		node.config = c.configuration(node)
	}
	for _, node := range c.nodes {
		node.start()
	}
	c.together()
	return c
}

// together waits until the nodes can have a stream with all its replicas.
func (c *cluster) together() {
	c.t.Helper()
	js := c.connect()
	until(c.t, time.Minute, "JetStream creates a stream", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "PROBE", Subjects: []string{"probe"}, Replicas: len(c.nodes)})
		return err == nil
	})
	until(c.t, time.Minute, "JetStream deletes a stream", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		err := js.DeleteStream(ctx, "PROBE")
		return err == nil || errors.Is(err, jetstream.ErrStreamNotFound)
	})
}

// configuration writes the file of one node. Nodes advertise a proxy without a target, so
// that they use only the proxies of their routes.
func (c *cluster) configuration(n *node) string {
	c.t.Helper()
	text := fmt.Sprintf(`server_name: %s
listen: "127.0.0.1:-1"
ports_file_dir: %q
max_payload: 1MB
ping_interval: "2s"
ping_max: 2
jetstream { store_dir: %q, max_memory_store: 64MB, max_file_store: 8GB, sync_interval: %s }
`, n.name, n.dir, filepath.Join(n.dir, "store"), c.syncInterval())
	if len(c.nodes) > 1 {
		var routes []string
		for _, other := range c.nodes {
			if other != n {
				routes = append(routes, fmt.Sprintf("%q", "nats-route://"+other.routes[n.name].Addr()))
			}
		}
		text += fmt.Sprintf("cluster { name: faults, listen: \"127.0.0.1:-1\", no_advertise: true, advertise: %q, routes: [%s] }\n",
			natstest.NewProxy(c.t, "").Addr(), strings.Join(routes, ", "))
	}
	path := filepath.Join(n.dir, "nats.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// syncInterval is the recommended one for replicas, and the default for a single node,
// which loses nothing in a kill.
func (c *cluster) syncInterval() string {
	if len(c.nodes) > 1 {
		return "always"
	}
	return `"2m"`
}

// start starts the node on its store.
func (n *node) start() {
	n.t.Helper()
	n.process = start(n.t, n.name, nil, binaries.nats, "-c", n.config)
	file := filepath.Join(n.dir, fmt.Sprintf("%s_%d.ports", filepath.Base(binaries.nats), n.process.cmd.Process.Pid))
	var ports struct{ Nats, Cluster []string }
	until(n.t, natsStarts, n.name+" has written its ports", func() bool {
		text, err := os.ReadFile(file)
		return err == nil && json.Unmarshal(text, &ports) == nil && len(ports.Nats) > 0
	})
	n.address = host(n.t, ports.Nats[0])
	n.clients.SetTarget(n.address)
	for _, l := range n.routes {
		l.SetTarget(host(n.t, ports.Cluster[0]))
	}
}

func host(t testing.TB, text string) string {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// stop ends the node with a signal.
func (n *node) stop(s os.Signal) {
	n.t.Helper()
	n.process.signal(s)
	if !n.process.awaitEnd(natsStarts) {
		n.t.Fatalf("%s did not end after %v", n.name, s)
	}
	n.clients.SetTarget("")
	for _, l := range n.routes {
		l.SetTarget("")
	}
}

// url is where bridges connect: the proxies in front of all nodes.
func (c *cluster) url() string {
	var urls []string
	for _, n := range c.nodes {
		urls = append(urls, "nats://"+n.clients.Addr())
	}
	return strings.Join(urls, ",")
}

// clientLinks are the proxies between bridges and nodes.
func (c *cluster) clientLinks() (links []*natstest.Proxy) {
	for _, n := range c.nodes {
		links = append(links, n.clients)
	}
	return links
}

// routeLinks are the proxies of a node's routes, into it and out of it.
func (c *cluster) routeLinks(n *node) (into, out []*natstest.Proxy) {
	for _, other := range c.nodes {
		if other != n {
			into = append(into, n.routes[other.name])
			out = append(out, other.routes[n.name])
		}
	}
	return into, out
}

// connect returns a client of every running node, without proxies.
func (c *cluster) connect() jetstream.JetStream {
	c.t.Helper()
	var urls []string
	for _, n := range c.nodes {
		urls = append(urls, "nats://"+n.address)
	}
	nc, err := nats.Connect(strings.Join(urls, ","), nats.Timeout(5*time.Second),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		c.t.Fatal(err)
	}
	return js
}

// leader waits until the event stream has a leader, and returns it and the other nodes.
func (c *cluster) leader() (leader *node, followers []*node) {
	c.t.Helper()
	js := c.connect()
	until(c.t, time.Minute, "the stream has a leader", func() bool {
		info, err := streamInfo(js)
		if err != nil {
			return false
		}
		leader, followers = nil, nil
		for _, n := range c.nodes {
			if info.Cluster == nil || info.Cluster.Leader == n.name {
				leader = n
			} else {
				followers = append(followers, n)
			}
		}
		return leader != nil
	})
	return leader, followers
}

// keepsUp bounds the lag of a replica: under load the slower one always has some.
const keepsUp = 1000

// whole waits until every replica of the stream is online and keeps up.
func (c *cluster) whole() {
	c.t.Helper()
	js := c.connect()
	until(c.t, time.Minute, "every replica of the stream keeps up", func() bool {
		info, err := streamInfo(js)
		if err != nil || info.Cluster == nil {
			return err == nil && len(c.nodes) == 1
		}
		current := 0
		for _, replica := range info.Cluster.Replicas {
			if !replica.Offline && replica.Lag < keepsUp {
				current++
			}
		}
		return info.Cluster.Leader != "" && current == len(c.nodes)-1
	})
}

func streamInfo(js jetstream.JetStream) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	stream, err := js.Stream(ctx, schemas.Stream)
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}

// readWithin bounds the reading of a whole stream.
const readWithin = 5 * time.Minute

// messages returns everything in a stream, nothing when it does not exist. A stream from
// which messages were removed fails the test, since the oracle would report them as lost.
func (c *cluster) messages(name string) []*message {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readWithin)
	defer cancel()
	stream := c.stream(name)
	if stream == nil {
		return nil
	}
	state := stream.CachedInfo().State
	if state.Msgs == 0 {
		return nil
	}
	if state.Msgs != state.LastSeq {
		c.t.Fatalf("stream %s has %d messages, its last one is number %d", name, state.Msgs, state.LastSeq)
	}
	var consumer jetstream.Consumer
	until(c.t, time.Minute, "stream "+name+" can be read", func() bool {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		var err error
		consumer, err = stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
		return err == nil
	})
	reader, err := consumer.Messages()
	if err != nil {
		c.t.Fatal(err)
	}
	defer reader.Stop()
	list := make([]*message, 0, state.Msgs)
	for uint64(len(list)) < state.Msgs {
		m, err := reader.Next(jetstream.NextContext(ctx))
		if err != nil {
			c.t.Fatalf("read stream %s after %d of %d: %v", name, len(list), state.Msgs, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			c.t.Fatal(err)
		}
		list = append(list, &message{
			stream: name, sequence: meta.Sequence.Stream, time: meta.Timestamp,
			subject: m.Subject(), header: m.Headers(), data: m.Data(),
		})
	}
	return list
}

// stream returns a stream, nil when it does not exist. A cluster that has just recovered
// may not answer, so the request is repeated.
func (c *cluster) stream(name string) (stream jetstream.Stream) {
	c.t.Helper()
	js := c.connect()
	until(c.t, time.Minute, "JetStream answers about stream "+name, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		var err error
		stream, err = js.Stream(ctx, name)
		return err == nil || errors.Is(err, jetstream.ErrStreamNotFound)
	})
	return stream
}

// store changes the store directory of the node from its next start on.
func (n *node) store(dir string) {
	n.t.Helper()
	n.edit(func(text string) string {
		return strings.Replace(text, filepath.Join(n.dir, "store"), filepath.Join(dir, "store"), 1)
	})
}

// edit changes the node's configuration file.
func (n *node) edit(change func(text string) string) {
	n.t.Helper()
	text, err := os.ReadFile(n.config)
	if err != nil {
		n.t.Fatal(err)
	}
	changed := change(string(text))
	if changed == string(text) {
		n.t.Fatalf("%s does not have the text to change", n.config)
	}
	if err := os.WriteFile(n.config, []byte(changed), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// reload makes the running node read its configuration again.
func (n *node) reload() {
	n.t.Helper()
	n.process.signal(syscall.SIGHUP)
	if _, err := n.process.awaitLine("Reloaded server configuration", natsStarts); err != nil {
		n.t.Fatal(err)
	}
}
