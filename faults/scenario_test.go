package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

const (
	// recoversWithin bounds the time from the end of a fault to an answer 200.
	recoversWithin = 10 * time.Second
	// drainsWithin bounds the time from the end of the load to an empty journal.
	drainsWithin = 60 * time.Second
	// warmUp is how many answers 200 come before the first fault.
	warmUp = 100
)

// scenario is a fault and its environment. It causes the fault for some rounds under
// load, waits until all records are forwarded, and checks everything that was sent.
type scenario struct {
	nodes   int           // of NATS; zero means one
	bridges []string      // names; none means one, "bridge"
	args    []string      // of the bridges, in addition to the usual ones
	load    load          // zero values mean 200 calls, 500 or 1000 callbacks a second, the usual mix
	rounds  int           // zero means one
	drain   time.Duration // until the journal is empty; zero means a minute
	// volatile makes each death of a bridge a power cut.
	volatile bool
	// parallel runs it at the same time as others: it waits most of its time.
	parallel bool
	deadFor  string                // reason for which events may be dead letters
	dir      func(w *world) string // of a bridge's data; nil means the disk of the tests
	embedded bool                  // NATS is embedded

	prepare func(w *world)            // before the bridges start; may be nil
	fault   func(w *world, round int) // causes the fault and ends it
	after   func(w *world)            // after the checks; may be nil
}

// world is the environment of a scenario.
type world struct {
	*testing.T
	rng    *rand.Rand
	issuer *acstest.Issuer
	nats   *cluster
	bridge *bridge   // the first one
	all    []*bridge // and all
	sender *sender
	canary string
	base   footprint // of the first bridge at rest, before the load

	extra   [][]*callback  // sent by the fault itself, call by call
	others  answers        // to requests that are not in calls
	damaged map[string]int // records that were damaged on the disk, by message id
	calls   [][]*callback  // everything that was sent, in the end
}

// canaries counts the canaries, which differ.
var canaries atomic.Uint64

func (s scenario) run(t *testing.T) {
	needForm(t)
	t.Helper()
	if s.parallel {
		t.Parallel()
	}
	w := s.arrange(t)
	defer w.explain()
	w.sender.run()
	w.answers(warmUp, recoversWithin)
	for round := range max(s.rounds, 1) {
		s.fault(w, round)
		begin := time.Now()
		w.answers(1, recoversWithin)
		if t.Failed() {
			t.Fatalf("after round %d", round)
		}
		if took := time.Since(begin); took > time.Second {
			t.Logf("round %d: answered 200 again after %v", round, took.Round(time.Millisecond))
		}
	}
	w.finish(s)
}

// arrange starts everything but the load.
func (s *scenario) arrange(t *testing.T) *world {
	t.Helper()
	s.complete()
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := issuer.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { issuer.Close() })
	w := &world{T: t, rng: chance(t), issuer: issuer, damaged: make(map[string]int)}
	w.canary = fmt.Sprintf("canary-%016x-%d", w.rng.Uint64(), canaries.Add(1))
	args := s.connect(w)
	if s.prepare != nil {
		s.prepare(w)
	}
	var targets []target
	for _, name := range s.bridges {
		b := newBridge(t, name, slices.Concat([]string{
			"--resource=" + acstest.DemoResource + "=" + acstest.DemoAudience,
			"--issuer=" + issuer.Name(), "--oidc-config-url=" + issuer.MetadataURL(),
		}, args, s.args)...)
		b.volatile = s.volatile
		if s.dir != nil {
			b.dir = s.dir(w)
		}
		if s.embedded {
			b.nats = w.nats.nodes[0]
		}
		b.start()
		w.all = append(w.all, b)
		targets = append(targets, b.target())
	}
	w.bridge = w.all[0]
	w.nats.leader()
	w.nats.whole()
	w.base = w.bridge.footprint()
	w.sender = newSender(t, newPurse(t, issuer), s.load, w.rng.Uint64(), w.canary)
	w.sender.aim(targets...)
	return w
}

// connect starts NATS and returns the settings of the bridges for it.
func (s *scenario) connect(w *world) (args []string) {
	if s.embedded {
		w.nats = &cluster{t: w, nodes: []*node{{t: w, name: "acsbridge", clients: natstest.NewProxy(w, "")}}}
		return []string{"--nats-listen=127.0.0.1:0"}
	}
	w.nats = newCluster(w, s.nodes)
	return []string{"--nats-url=" + w.nats.url(), fmt.Sprintf("--stream-replicas=%d", s.nodes)}
}

// complete fills in the defaults.
func (s *scenario) complete() {
	s.nodes = max(s.nodes, 1)
	if len(s.bridges) == 0 {
		s.bridges = []string{"bridge"}
	}
	if s.load.calls == 0 {
		s.load.calls = 200
	}
	if s.load.rate == 0 {
		s.load.rate = byForm(500, 1000)
	}
	if s.load.mix == (mix{}) {
		s.load.mix = usual
	}
	if s.drain == 0 {
		s.drain = drainsWithin
	}
}

// answers waits for so many answers 200 more.
func (w *world) answers(more int64, within time.Duration) {
	w.Helper()
	want := w.sender.oks.Load() + more
	until(w, within, fmt.Sprintf("%d more answers 200", more), func() bool { return w.sender.oks.Load() >= want })
}

func (w *world) pause(d time.Duration) { sleep(w.Context(), d) }

// upTo returns a random duration.
func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.rng.Int64N(int64(d))) }

// finish ends all faults, waits until the journals are empty, and checks.
func (w *world) finish(s scenario) {
	w.Helper()
	w.clear()
	w.calls = append(w.sender.halt(), w.extra...)
	begin := time.Now()
	for _, b := range w.all {
		b.drained(s.drain)
	}
	drained := time.Since(begin)
	w.nats.whole()
	found := evidence{
		calls:   w.calls,
		stream:  append(w.nats.messages(schemas.Stream), w.nats.messages(schemas.QuarantineStream)...),
		claims:  claims{acstest.DemoResource, w.issuer.Name(), acstest.DemoAudience},
		canary:  w.canary,
		deadFor: s.deadFor,
		others:  w.others.counts(),
		damaged: w.damaged,
	}
	for _, b := range w.all {
		found.dead = append(found.dead, b.deadLetters()...)
	}
	w.Logf("%s; %d stored; drained in %v", tally(w.calls), len(found.stream), drained.Round(time.Millisecond))
	for i, v := range violations(found) {
		if i == maxShown {
			w.Errorf("and more")
			break
		}
		w.Errorf("%s", v)
	}
	if len(w.all) == 1 {
		w.checkFootprint()
		w.counters(found)
	}
	if s.after != nil {
		s.after(w)
	}
	if w.Failed() {
		w.Logf("again with: go test ./faults -v -form=%s -seed %d -run '^%s$'", *form, *seed, w.Name())
	}
}

// explain logs the state of all processes after a failure.
func (w *world) explain() {
	w.Helper()
	if !w.Failed() {
		return
	}
	for _, b := range w.all {
		ready, _ := b.ask("/readyz")
		w.Logf("/readyz of %s: %s", b.name, ready)
		for name, value := range b.metrics() {
			if strings.HasPrefix(name, "acsbridge_forwarder_") || strings.HasPrefix(name, "acsbridge_journal_") {
				w.Logf("%s %v", name, value)
			}
		}
		w.Logf("the end of its log:\n%s", b.process.tail())
	}
	for _, n := range w.nats.nodes {
		if n.process != nil {
			w.Logf("the end of the log of %s:\n%s", n.name, n.process.tail())
		}
	}
}

// maxShown bounds the violations that are printed in full.
const maxShown = 10

// createStream makes the event stream before a bridge does, with other settings.
func (w *world) createStream(config jetstream.StreamConfig) {
	w.Helper()
	config.Name, config.Subjects, config.Replicas = schemas.Stream, []string{schemas.SubjectPrefix + ".>"}, len(w.nats.nodes)
	config.AllowDirect = true
	ctx, cancel := context.WithTimeout(w.Context(), natsStarts)
	defer cancel()
	if _, err := w.nats.connect().CreateStream(ctx, config); err != nil {
		w.Fatal(err)
	}
}

// clear clears the conditions of every proxy.
func (w *world) clear() {
	for _, b := range w.all {
		b.front.Clear()
	}
	for _, n := range w.nats.nodes {
		n.clients.Clear()
		for _, l := range n.routes {
			l.Clear()
		}
	}
}
