package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/bridge"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/replay"
)

// connectWithin is how long NATS is waited for.
const connectWithin = 3 * time.Second

// nats examines the connection, and then the streams.
func (c *checker) nats(ctx context.Context) {
	config := c.s.NATS()
	if c.s.EmbeddedNATS() {
		running := false
		c.in("nats", func() { running = c.embedded() })
		if !running {
			return
		}
		config = natsconn.Config{URL: "nats://" + c.s.NatsListen}
		if c.running != nil {
			config.URL = c.running.NatsURL
		}
	}
	var link *natsconn.Link
	var js jetstream.JetStream
	var found *publish.Examination
	c.in("nats", func() {
		link, js = c.connect(ctx, Fail, config)
		if link != nil {
			for _, text := range bridge.Expiries(c.s, link, nil) {
				c.problem(Warn, text)
			}
		}
		if js == nil {
			return
		}
		var err error
		if found, err = publish.Examine(ctx, link, c.s.Publish()); err != nil {
			c.fail("try again", "the examination was interrupted: %v", err)
			return
		}
		c.server(js, found)
	})
	if link != nil {
		defer link.Close()
	}
	if found == nil {
		return
	}
	for i, area := range []string{"stream", "quarantine"} {
		c.in(area, func() { c.stream(&found.Streams[i]) })
	}
	if events := &found.Streams[0]; !events.Missing && events.InfoErr == nil {
		c.in("consumers", func() { c.consumers(ctx, js, events.Name) })
	}
	c.in("console", func() { c.console(ctx) })
}

// embedded examines the address of the embedded server, and reports whether one runs.
func (c *checker) embedded() bool {
	listener, err := net.Listen("tcp", c.s.NatsListen)
	if err == nil {
		err = listener.Close()
	}
	switch {
	case c.locked:
		c.ok("the embedded server of the bridge that runs")
		return true
	case err != nil:
		c.fail("if that is your NATS server, name it with --nats-url, else choose another --nats-listen", "the embedded server cannot listen: %v", err)
	default:
		c.ok("an embedded server on %s; its streams can be looked at while the bridge runs", c.s.NatsListen)
	}
	return false
}

// connect logs in. The client of JetStream is nil when the connection failed, which is a
// finding of a level.
func (c *checker) connect(ctx context.Context, level Level, config natsconn.Config) (*natsconn.Link, jetstream.JetStream) {
	link, err := natsconn.Connect(config, nil)
	if err != nil {
		c.add(level, err.Error(), "correct the login: a file or the context is not usable")
		return nil, nil
	}
	within, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	js, err := link.JetStream(within)
	if err != nil {
		_, cause := link.State()
		found, remedy, _ := strings.Cut(cmp.Or(cause, err).Error(), "; ")
		c.add(level, "no connection: "+found, cmp.Or(remedy, "check --nats-url and the network"))
	}
	return link, js
}

// console reads with the login of the console, when that has one of its own.
func (c *checker) console(ctx context.Context) {
	config, setting := c.s.ConsoleNATS()
	if setting == "" {
		return
	}
	began := time.Now()
	link, js := c.connect(ctx, Warn, config)
	if link == nil {
		return
	}
	defer link.Close()
	if js == nil {
		return
	}
	reader := &replay.Reader{JetStream: link.JetStream, Stream: c.s.Stream, Prefix: c.s.SubjectPrefix}
	within, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	_, err := reader.Info(within)
	if err == nil {
		for _, err = range reader.Read(within, replay.Selection{Limit: 1}) {
		}
	}
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		c.ok("the login in %s works; there is no stream %s to read yet", setting, c.s.Stream)
	case err != nil:
		missing := link.Violation(began, func(string) bool { return true })
		c.problem(Warn, fmt.Sprintf("the login in %s cannot read the stream: %v", setting, natsconn.WithRemedy(cmp.Or(missing, err))))
	default:
		c.ok("the login in %s may read stream %s", setting, c.s.Stream)
	}
}

// server names the server and what limits it has.
func (c *checker) server(js jetstream.JetStream, found *publish.Examination) {
	nc := js.Conn()
	c.ok("connected to %s: nats-server %s, max_payload %s", nc.ConnectedServerName(), nc.ConnectedServerVersion(), mib(nc.MaxPayload()))
	if domain := cmp.Or(c.s.NatsDomain, found.Streams[0].Domain); domain != "" {
		c.ok("JetStream domain %s", domain)
	}
	for _, text := range found.Limits {
		c.problem(Warn, text)
	}
	events := &found.Streams[0]
	if c.s.StreamReplicas > 1 && events.Missing && nc.ConnectedClusterName() == "" {
		c.fail("set --stream-replicas 1, or build a cluster", "--stream-replicas %d, and this NATS is one server", c.s.StreamReplicas)
	}
	if found.AccountErr != nil {
		c.ok("limits of the account not known: this login may not ask ($JS.API.INFO)")
		return
	}
	a := found.Account
	if most := a.Limits.MaxStore; most > 0 {
		c.ok("the account stores %s of %s", mib(int64(a.Store)), mib(most))
	} else {
		c.ok("the account stores %s, without a limit", mib(int64(a.Store)))
	}
	missing, bytes := 0, int64(0)
	for i, size := range []int64{int64(c.s.StreamMaxBytes), publish.QuarantineMaxBytes} {
		if found.Streams[i].Missing {
			missing, bytes = missing+1, bytes+size
		}
	}
	switch most := a.Limits; {
	case most.MaxStreams > 0 && a.Streams+missing > most.MaxStreams:
		c.fail("raise its limit, or let the operator make the streams", "the account may have %s and has %d; %d more are to be made", view.Plural(most.MaxStreams, "stream"), a.Streams, missing)
	case most.MaxStore > 0 && missing > 0 && bytes > most.MaxStore-int64(a.ReservedStore):
		c.fail("raise its limit, or lower --stream-max-bytes", "the streams to be made may take %s, and the account has %s left", mib(bytes), mib(most.MaxStore-int64(a.ReservedStore)))
	case most.MaxBytesRequired && missing > 0 && c.s.StreamMaxBytes == 0:
		c.fail("set --stream-max-bytes", "the account wants a bound for each stream")
	}
}

// stream examines a stream and the rights to it.
func (c *checker) stream(e *publish.StreamExamination) {
	if e.PublishErr != nil {
		c.problem(Fail, "a publish is refused: "+e.PublishErr.Error())
	}
	switch {
	case e.InfoErr != nil:
		c.problem(Fail, "stream "+e.Name+" cannot be looked at: "+e.InfoErr.Error())
		return
	case e.Missing && e.CreateErr != nil:
		c.problem(Fail, fmt.Sprintf("stream %s does not exist, and serve cannot make it: %v, or let the operator make the stream", e.Name, e.CreateErr))
		return
	case e.Missing:
		c.ok("stream %s does not exist; serve makes it", e.Name)
		return
	case e.PublishErr == nil:
		c.ok("stream %s may be looked at and published to", e.Name)
	}
	for _, text := range e.Others {
		c.problem(Warn, text)
	}
	for _, text := range e.Direct {
		c.problem(Warn, text)
	}
	for _, d := range e.Differences {
		level, remedy := Warn, "change the setting, or start serve once with --stream-update"
		if d.Unusable {
			level = Fail
		}
		if d.Fixed {
			remedy = "no update of a stream changes it: make the stream anew"
		}
		c.add(level, d.Text, remedy+" (docs/operations.md, The stream differs)")
	}
	if e.UpdateErr != nil {
		c.problem(Warn, "--stream-update would be refused: "+e.UpdateErr.Error())
	}
	c.replicas(e)
	c.size(e)
}

// replicas names the servers that have the stream.
func (c *checker) replicas(e *publish.StreamExamination) {
	if e.Cluster == nil || e.Config.Replicas <= 1 {
		if c.s.EmbeddedNATS() {
			c.ok("one replica; the bridge keeps what its server may not have synced")
		} else {
			c.ok("one replica; its sync_interval is not known to clients: set it to always, or have three replicas")
		}
		return
	}
	if e.Cluster.Leader == "" {
		c.fail("bring back the servers of the cluster", "stream %s has no leader: nothing is stored", e.Name)
	}
	names := []string{e.Cluster.Leader + " (leader)"}
	for _, peer := range e.Cluster.Replicas {
		names = append(names, peer.Name)
		switch {
		case peer.Offline:
			c.warn("bring that server back", "replica %s of stream %s is offline", peer.Name, e.Name)
		case !peer.Current:
			c.warn("wait, or look at that server", "replica %s of stream %s is %s behind", peer.Name, e.Name, view.Plural(peer.Lag, "operation"))
		}
	}
	c.ok("%d replicas: %s", e.Config.Replicas, strings.Join(names, ", "))
}

// size is what the stream takes of memory and disk.
func (c *checker) size(e *publish.StreamExamination) {
	bound := "not bounded by size, and the free disk of its servers is not known here"
	if e.Config.MaxBytes > 0 {
		bound = mib(e.Config.MaxBytes) + " at most"
	}
	memory := int64(e.State.NumSubjects) * memorySubject
	c.ok("%s, %s: %s, %s", view.Plural(e.State.Msgs, "message"), view.Plural(e.State.NumSubjects, "subject"), mib(int64(e.State.Bytes)), bound)
	limit, setting, known := bridge.MemoryLimit()
	if known && c.s.EmbeddedNATS() && baseMemory+memory > limit {
		c.warn("raise it, or keep less: --stream-max-age, --stream-max-bytes", "the subjects take about %s of the server's memory, and %s is %s", mib(memory), setting, mib(limit))
		return
	}
	c.ok("about %s of memory in each of its servers, whose size is not known here", mib(memory))
}
