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

// crashWithin bounds the time until a process has reached its failpoint.
const crashWithin = 30 * time.Second

// bulky fills a segment of the journal, 16 MiB, in a second.
var bulky = mix{forged: .01, twice: .01, size: [2]int{0, 500}, large: .5, largeSize: 200 << 10}

// crashPoint is a failpoint, and how to make a process reach it.
type crashPoint struct {
	name    string
	passes  int // the process dies in one of the first so many; zero means the first
	stop    bool
	load    load
	refuses bool // the stream takes only small messages
}

// crashPoints are all calls of failpoint.At: of a callback, of maintenance, of a start.
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

// TestKill_atFailpoints kills the bridge between two steps.
func TestKill_atFailpoints(t *testing.T) {
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

// crash starts a process that dies at the failpoint, and another one after it.
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
		w.Fatalf("the bridge did not reach %s", p.name)
	}
	if code := w.bridge.process.cmd.ProcessState.ExitCode(); code != -1 {
		w.Fatalf("the bridge ended by itself (%v) and not at %s:\n%s", w.bridge.process.cmd.ProcessState, p.name, w.bridge.process.tail())
	}
	w.bridge.front.SetTarget("")
	w.bridge.start()
}

// smallest is a limit that makes some of the usual events dead letters.
const smallest = 2500

// TestFailpoints_build: only the binary of these tests has failpoints.
func TestFailpoints_build(t *testing.T) {
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
