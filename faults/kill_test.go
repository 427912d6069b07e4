package faults_test

import (
	"fmt"
	"testing"
	"time"
)

// killRounds of one scenario: many rounds are split among several, so that
// each can be repeated alone and the oracle's memory stays small.
const killRounds = 50

// TestKilledAtAnyInstant kills the bridge within 50 ms of an answer, or of its
// start, again and again.
func TestKilledAtAnyInstant(t *testing.T) {
	inParts(t, byForm(15, 300), func(t *testing.T, rounds int) {
		scenario{rounds: rounds, fault: killBridge}.run(t)
	})
}

// TestPowerCutAtAnyInstant is the same, and the kill takes along what was
// written to the journal and not synced.
func TestPowerCutAtAnyInstant(t *testing.T) {
	inParts(t, byForm(15, 300), func(t *testing.T, rounds int) {
		scenario{volatile: true, rounds: rounds, fault: killBridge}.run(t)
	})
}

// inParts splits many rounds among several scenarios.
func inParts(t *testing.T, rounds int, part func(t *testing.T, rounds int)) {
	for first := 0; first < rounds; first += killRounds {
		t.Run(fmt.Sprintf("from round %d", first), func(t *testing.T) { part(t, min(killRounds, rounds-first)) })
	}
}

func killBridge(w *world, round int) {
	node := w.nats.nodes[0]
	if round%3 == 2 { // with records that the stream does not have
		node.clients.SetTarget("")
		node.clients.Reset()
		w.answers(20, recoversWithin)
		w.pause(w.upTo(300 * time.Millisecond)) // the cursor is saved every 100 ms
	}
	w.pause(w.upTo(50 * time.Millisecond))
	w.bridge.kill()
	if round%4 == 3 { // and once more, before it is there again
		w.bridge.launch("")
		w.pause(w.upTo(50 * time.Millisecond))
		w.bridge.kill()
	}
	// Without a wait for the stream, what is answered is in the journal alone.
	w.bridge.start("--ack-wait=" + []string{"0s", "250ms"}[round%2])
	node.clients.SetTarget(node.address)
}
