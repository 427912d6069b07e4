package faults_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// replicaWindow is a duplicate window that is longer than a node's restart, and shorter
// than an outage in a test.
const replicaWindow = 15 * time.Second

// TestLookback_damagedReplica flips bits of messages of a follower while it does not run.
// That follower answers the lookback of the bridge after an outage: a damaged message is
// not a missing one. In the end the follower gets a new copy from the leader.
func TestLookback_damagedReplica(t *testing.T) {
	if *form != "long" {
		t.Skip("takes two minutes: run with -form=long")
	}
	scenario{
		parallel: true, nodes: 3, rounds: 3, drain: 2 * time.Minute,
		prepare: func(w *world) { w.createStream(jetstream.StreamConfig{Duplicates: replicaWindow}) },
		fault: func(w *world, round int) {
			_, followers := w.nats.leader()
			victim := followers[round%len(followers)]
			w.pause(time.Second)
			victim.stop(os.Kill)
			victim.flipBits(w)
			victim.start()
			w.nats.whole()
			for _, l := range w.nats.clientLinks() {
				l.Shape(natstest.Conditions{}, natstest.Conditions{Held: true})
			}
			w.pause(time.Second) // stored, and not acknowledged
			for _, n := range w.nats.nodes {
				n.clients.SetTarget("")
				n.clients.Reset()
			}
			w.pause(replicaWindow + 5*time.Second)
			w.clear()
			victim.clients.SetTarget(victim.address)
			w.forwards(aroundWithin)
			for _, n := range w.nats.nodes {
				n.clients.SetTarget(n.address)
			}
			victim.stop(os.Kill)
			victim.forget()
			victim.start()
			w.nats.whole()
		},
	}.run(t)
}

// streamDir is where a node keeps its copy of the event stream.
func (n *node) streamDir() string {
	return filepath.Join(n.dir, "store", "jetstream", "$G", "streams", schemas.Stream)
}

// flipBits damages some of the newest messages that the node holds of the event
// stream, each in one bit.
func (n *node) flipBits(w *world) {
	w.Helper()
	files, err := filepath.Glob(filepath.Join(n.streamDir(), "msgs", "*.blk"))
	if err != nil || len(files) == 0 {
		w.Fatalf("%s holds no messages of %s: %v", n.name, schemas.Stream, err)
	}
	list := recordsIn(w, files)
	list = list[max(len(list)-1000, 0):max(len(list)-untouched, 0)]
	if len(list) < 2*damages {
		w.Fatalf("only %d messages can be damaged", len(list))
	}
	for _, i := range w.rng.Perm(len(list))[:damages] {
		if err := flip(list[i].file, int64(list[i].at+w.rng.IntN(100)), byte(1)<<w.rng.IntN(8)); err != nil {
			w.Fatal(err)
		}
	}
}

// forget removes the node's copy of the event stream.
func (n *node) forget() {
	n.t.Helper()
	if err := os.RemoveAll(n.streamDir()); err != nil {
		n.t.Fatal(err)
	}
}
