package faults_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// crashWithin bounds the time until a process has passed its crash point.
const crashWithin = 30 * time.Second

// bulky fills a segment of the journal, 64 MiB, in seconds.
var bulky = mix{forged: .01, twice: .01, size: [2]int{0, 500}, large: .5, largeSize: 200 << 10}

// crashPoint is a place in the bridge, and how to make a process come past it.
type crashPoint struct {
	name    string
	passes  int // the process dies in one of the first so many; zero means the first
	stop    bool
	load    load
	refuses bool // the stream takes only small messages
}

// crashPoints are all calls of failpoint.At. The steps of a callback come first,
// then those of upkeep, then those of a start.
var crashPoints = []crashPoint{
	{name: "before-append", passes: 50},
	{name: "after-fsync", passes: 50},
	{name: "before-publish", passes: 50},
	{name: "before-advance", passes: 50},
	{name: "cursor-saved", passes: 5},
	{name: "dead-letter-written", passes: 3, refuses: true},
	{name: "before-truncate", stop: true},
	{name: "after-truncate", stop: true},
	{name: "before-segment-list", load: load{rate: 400, mix: bulky}},
	{name: "after-segment-list", load: load{rate: 400, mix: bulky}},
	{name: "segment-created", load: load{rate: 400, mix: bulky}},
	{name: "log-opened"},
}

// TestKilledAtPoint kills the bridge where it has done one thing and not yet
// the next.
func TestKilledAtPoint(t *testing.T) {
	for _, point := range crashPoints {
		t.Run(point.name, func(t *testing.T) {
			s := scenario{load: point.load, rounds: byForm(1, 10), fault: point.crash}
			if point.refuses {
				s.prepare, s.deadFor = func(w *world) { w.createStream(jetstream.StreamConfig{MaxMsgSize: smallest}) }, "too_large"
			}
			s.run(t)
		})
	}
}

// crash starts a process that dies at the point, and another one after it.
func (p crashPoint) crash(w *world, round int) {
	w.Helper()
	w.bridge.kill()
	w.bridge.launch(fmt.Sprintf("%s:%d", p.name, 1+w.rng.IntN(max(p.passes, 1))))
	err := w.bridge.listening(listensWithin) // unless it dies first
	if p.stop && err == nil {
		w.answers(1, recoversWithin)
		w.bridge.process.signal(terminate)
	}
	if !w.bridge.process.awaitEnd(crashWithin) {
		w.Fatalf("the bridge never came past %s", p.name)
	}
	if code := w.bridge.process.cmd.ProcessState.ExitCode(); code != -1 {
		w.Fatalf("the bridge ended of itself (%v) and not at %s:\n%s", w.bridge.process.cmd.ProcessState, p.name, w.bridge.process.tail())
	}
	w.bridge.front.lead("")
	w.bridge.start()
}

// smallest is a limit that sends a part of the usual events to the dead letters.
const smallest = 2500

// TestNoCrashPointsInBuild: the binary that people get cannot be told to die,
// and the one that is tested here can.
func TestNoCrashPointsInBuild(t *testing.T) {
	needForm(t)
	usual := filepath.Join(t.TempDir(), "acsbridge")
	if err := build("-o", usual, "../cmd/acsbridge"); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"ACSBRIDGE_FAILPOINT", "before-append"} {
		for program, want := range map[string]bool{usual: false, binaries.acsbridge: true} {
			binary, err := os.ReadFile(program)
			if err != nil {
				t.Fatal(err)
			}
			if got := bytes.Contains(binary, []byte(text)); got != want {
				t.Errorf("%q in %s: %v, want %v", text, program, got, want)
			}
		}
	}
}
