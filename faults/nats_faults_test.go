package faults_test

import (
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
)

// TestNATS_nodeKilled kills the stream's leader twice, and then a follower.
func TestNATS_nodeKilled(t *testing.T) {
	scenario{parallel: true, nodes: 3, rounds: byForm(3, 75), drain: 2 * time.Minute, fault: func(w *world, round int) {
		victim, followers := w.nats.leader()
		if round%3 == 2 {
			victim = followers[round%len(followers)]
		}
		w.pause(w.upTo(200 * time.Millisecond))
		victim.stop(os.Kill)
		w.answers(1, recoversWithin)
		w.pause(w.upTo(2 * time.Second))
		victim.start()
		w.nats.whole()
	}}.run(t)
}

// TestNATS_leaderFrozen stops the leader with SIGSTOP, and continues it. Connections to it
// are half open meanwhile.
func TestNATS_leaderFrozen(t *testing.T) {
	for _, frozen := range byForm([]time.Duration{5 * time.Second}, []time.Duration{5 * time.Second, 30 * time.Second, 120 * time.Second}) {
		t.Run(frozen.String(), func(t *testing.T) {
			scenario{parallel: true, nodes: 3, rounds: byForm(1, 3), drain: 2 * time.Minute, fault: func(w *world, _ int) {
				leader, _ := w.nats.leader()
				leader.process.signal(freeze)
				begin := time.Now()
				if frozen > aroundWithin {
					w.forwards(aroundWithin)
				}
				w.pause(frozen - time.Since(begin))
				leader.process.signal(thaw)
				w.nats.whole()
			}}.run(t)
		})
	}
}

// aroundWithin bounds the time until events reach the stream without its dead leader: the
// client's three pings (15 s), and an election.
const aroundWithin = 28 * time.Second

// TestNATS_partitioned holds one direction of the connections or both.
func TestNATS_partitioned(t *testing.T) {
	held := natstest.Conditions{Held: true}
	for _, way := range []struct {
		name        string
		there, back natstest.Conditions
	}{
		{"both ways", held, held},
		{"to the server", held, natstest.Conditions{}},
		{"from the server", natstest.Conditions{}, held},
	} {
		t.Run("bridge from NATS, "+way.name, func(t *testing.T) {
			scenario{parallel: true, rounds: byForm(1, 3), fault: func(w *world, _ int) {
				for _, l := range w.nats.clientLinks() {
					l.Shape(way.there, way.back)
				}
				w.pause(byForm(5*time.Second, 30*time.Second))
				w.clear()
				w.forwards(aroundWithin)
			}}.run(t)
		})
	}
	for _, way := range []struct {
		name      string
		into, out natstest.Conditions
	}{
		{"both ways", held, held},
		{"into it", held, natstest.Conditions{}},
		{"out of it", natstest.Conditions{}, held},
	} {
		if *form != "long" && way.name != "both ways" {
			continue
		}
		t.Run("leader from followers, "+way.name, func(t *testing.T) {
			scenario{parallel: true, nodes: 3, rounds: byForm(1, 3), drain: 2 * time.Minute, fault: func(w *world, _ int) {
				leader, _ := w.nats.leader()
				w.isolate(leader, way.into, way.out)
				w.pause(byForm(8*time.Second, 30*time.Second)) // an election takes some of it
				w.clear()
				w.nats.whole()
				w.forwards(aroundWithin)
			}}.run(t)
		})
	}
}

// shortWindow is a duplicate window that is shorter than an outage in a test.
const shortWindow = 4 * time.Second

// TestLookback_outageBeyondWindow cuts off NATS during acknowledgements, for longer than
// the duplicate window. Records that may be stored must be looked up before they are sent
// again, also by a bridge that was killed meanwhile.
func TestLookback_outageBeyondWindow(t *testing.T) {
	for name, during := range map[string]func(w *world){
		"alive": func(*world) {},
		"killed": func(w *world) {
			w.bridge.kill()
			w.bridge.start()
		},
	} {
		t.Run(name, func(t *testing.T) {
			scenario{
				parallel: true, rounds: byForm(1, 5), volatile: true,
				prepare: func(w *world) { w.createStream(jetstream.StreamConfig{Duplicates: shortWindow}) },
				fault: func(w *world, _ int) {
					node := w.nats.nodes[0]
					node.clients.Shape(natstest.Conditions{}, natstest.Conditions{Held: true})
					w.pause(time.Second) // stored, and not acknowledged
					node.clients.SetTarget("")
					node.clients.Reset()
					during(w)
					w.pause(2 * shortWindow)
					w.clear()
					node.clients.SetTarget(node.address)
					w.forwards(aroundWithin)
				},
			}.run(t)
		})
	}
}

// isolate sets the conditions of the bytes to a node, and of those from it. Either side
// may have connected, so both kinds of proxies carry both.
func (w *world) isolate(n *node, into, out natstest.Conditions) {
	toIt, fromIt := w.nats.routeLinks(n)
	for _, l := range toIt {
		l.Shape(into, out)
	}
	for _, l := range fromIt {
		l.Shape(out, into)
	}
}

// TestNATS_badNetwork has latency, jitter, low bandwidth and resets.
func TestNATS_badNetwork(t *testing.T) {
	lasts := byForm(3*time.Second, 30*time.Second)
	for _, way := range []struct {
		name string
		is   natstest.Conditions
	}{
		{"latency", natstest.Conditions{Latency: 200 * time.Millisecond}},
		{"jitter", natstest.Conditions{Jitter: time.Second}},
		{"latency beyond the wait for an answer", natstest.Conditions{Latency: 2 * time.Second}},
		{"low bandwidth", natstest.Conditions{Rate: 50 << 10}},
		{"a byte a second", natstest.Conditions{Rate: 1}},
	} {
		t.Run(way.name, func(t *testing.T) {
			scenario{parallel: true, rounds: byForm(1, 3), drain: 2 * time.Minute, fault: func(w *world, _ int) {
				for _, l := range w.nats.clientLinks() {
					l.Shape(way.is, way.is)
				}
				w.pause(lasts)
				w.clear()
				w.forwards(aroundWithin)
			}}.run(t)
		})
	}
	t.Run("reset in the middle of an acknowledgement", func(t *testing.T) {
		scenario{parallel: true, rounds: byForm(20, 200), fault: func(w *world, _ int) {
			for _, l := range w.nats.clientLinks() {
				l.ResetAfter(1 + w.rng.IntN(5000))
			}
			w.forwards(aroundWithin)
		}}.run(t)
	})
	t.Run("reset in the middle of an answer", func(t *testing.T) {
		scenario{parallel: true, rounds: byForm(20, 200), fault: func(w *world, _ int) {
			w.bridge.front.ResetAfter(1 + w.rng.IntN(500))
			w.answers(20, recoversWithin)
		}}.run(t)
	})
}

// TestNATS_rollingRestart restarts every node of the cluster.
func TestNATS_rollingRestart(t *testing.T) {
	scenario{parallel: true, nodes: 3, rounds: byForm(1, 3), fault: func(w *world, _ int) {
		for _, n := range w.nats.nodes {
			n.stop(terminate)
			w.answers(1, recoversWithin)
			n.start()
			w.nats.whole()
		}
	}}.run(t)
}

// forwards waits until a hundred more events are in the stream.
func (w *world) forwards(within time.Duration) {
	w.Helper()
	stored := func() float64 {
		return sum(w.bridge.metrics(), "acsbridge_published_total{", `outcome="stored"`)
	}
	want := stored() + 100
	until(w, within, "events reach the stream", func() bool { return stored() >= want })
}
