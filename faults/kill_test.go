package faults_test

import (
	"fmt"
	"testing"
	"time"
)

// killRounds bounds the rounds of one scenario, so that each can be repeated alone and
// needs little memory.
const killRounds = 50

// TestKill_atAnyInstant kills the bridge within 50 ms of an answer, or of its start.
func TestKill_atAnyInstant(t *testing.T) {
	inParts(t, byForm(15, 300), func(t *testing.T, rounds int) {
		scenario{rounds: rounds, fault: killBridge}.run(t)
	})
}

// TestKill_withUnsyncedWrites also loses what was written to the journal and not synced.
func TestKill_withUnsyncedWrites(t *testing.T) {
	inParts(t, byForm(15, 300), func(t *testing.T, rounds int) {
		scenario{volatile: true, rounds: rounds, fault: killBridge}.run(t)
	})
}

func inParts(t *testing.T, rounds int, part func(t *testing.T, rounds int)) {
	for first := 0; first < rounds; first += killRounds {
		t.Run(fmt.Sprintf("from round %d", first), func(t *testing.T) { part(t, min(killRounds, rounds-first)) })
	}
}

func killBridge(w *world, round int) {
	node := w.nats.nodes[0]
	if round%3 == 2 { // with records that are not in the stream
		node.clients.SetTarget("")
		node.clients.Reset()
		w.answers(20, recoversWithin)
		w.pause(w.upTo(300 * time.Millisecond)) // the cursor is saved every 100 ms
	}
	w.pause(w.upTo(50 * time.Millisecond))
	w.bridge.kill()
	if round%4 == 3 { // again while it starts
		w.bridge.launch("")
		w.pause(w.upTo(50 * time.Millisecond))
		w.bridge.kill()
	}
	// Without a wait for the stream, only the journal has what was answered.
	w.bridge.start("--ack-wait=" + []string{"0s", "250ms"}[round%2])
	node.clients.SetTarget(node.address)
}
