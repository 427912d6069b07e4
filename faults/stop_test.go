package faults_test

import (
	"os"
	"strings"
	"testing"
	"time"
)

// stopsWithin bounds the end of a bridge: --shutdown-timeout, 20 s by default, and the
// time to close.
const stopsWithin = 25 * time.Second

// TestStop stops the bridge under load in several ways.
func TestStop(t *testing.T) {
	t.Run("SIGTERM", func(t *testing.T) {
		scenario{rounds: byForm(3, 20), fault: func(w *world, _ int) {
			w.pause(w.upTo(200 * time.Millisecond))
			w.bridge.terminate(stopsWithin)
			w.bridge.start()
		}}.run(t)
	})
	t.Run("while NATS is disconnected", func(t *testing.T) {
		scenario{rounds: byForm(2, 10), fault: func(w *world, _ int) {
			w.nats.nodes[0].stop(os.Kill)
			w.answers(200, recoversWithin)
			w.bridge.terminate(stopsWithin)
			w.bridge.start()
			w.nats.nodes[0].start()
		}}.run(t)
	})
	t.Run("SIGTERM twice", func(t *testing.T) {
		scenario{args: []string{"--shutdown-delay=10s"}, rounds: byForm(3, 20), fault: func(w *world, _ int) {
			w.bridge.process.signal(terminate)
			if _, err := w.bridge.process.awaitLine("a second signal ends at once", stopsWithin); err != nil {
				w.Fatal(err)
			}
			w.pause(w.upTo(100 * time.Millisecond))
			w.bridge.process.signal(terminate)
			if !w.bridge.process.awaitEnd(5 * time.Second) { // the delay alone is twice that
				w.Fatal("the bridge did not end with the second signal")
			}
			w.bridge.front.SetTarget("")
			w.bridge.start()
		}}.run(t)
	})
	t.Run("SIGTERM, then SIGKILL", func(t *testing.T) {
		scenario{args: []string{"--shutdown-delay=10s"}, rounds: byForm(3, 20), fault: func(w *world, _ int) {
			w.bridge.process.signal(terminate)
			w.pause(w.upTo(500 * time.Millisecond))
			w.bridge.kill()
			w.bridge.start()
		}}.run(t)
	})
}

// TestStop_replaced replaces a bridge by another one: for a while both publish to one
// stream, each from its own journal.
func TestStop_replaced(t *testing.T) {
	scenario{bridges: []string{"old", "new"}, rounds: byForm(2, 10), fault: func(w *world, round int) {
		leaving, staying := w.all[round%2], w.all[1-round%2]
		w.answers(200, recoversWithin)
		w.sender.aim(staying.target())
		if round%4 < 2 {
			leaving.terminate(stopsWithin)
		} else {
			leaving.kill()
		}
		w.answers(200, recoversWithin)
		leaving.start()
		w.sender.aim(w.all[0].target(), w.all[1].target())
	}}.run(t)
}

// TestStart_directoryInUse: a second bridge refuses the data directory of the first,
// which is not affected.
func TestStart_directoryInUse(t *testing.T) {
	scenario{rounds: 2, fault: func(w *world, _ int) {
		second := newBridge(w, "second", w.bridge.args...)
		second.dir = w.bridge.dir
		second.launch("")
		if !second.process.awaitEnd(listensWithin) {
			w.Fatal("a second bridge runs on the same data directory")
		}
		if code := second.process.cmd.ProcessState.ExitCode(); code != 1 {
			w.Errorf("the second bridge ended with %v, want status 1", second.process.cmd.ProcessState)
		}
		for _, text := range []string{"directory is in use by another acsbridge", w.bridge.dir, "--data-dir"} {
			if !strings.Contains(second.process.tail(), text) {
				w.Errorf("the second bridge does not log %q:\n%s", text, second.process.tail())
			}
		}
	}}.run(t)
}

// backlog is the number of records at a restart.
const backlog = 100_000

// TestStart_backlog kills a bridge whose journal has a hundred thousand records that the
// stream does not have. The start is within the bounds.
func TestStart_backlog(t *testing.T) {
	many := load{calls: 100, rate: 400, mix: mix{batch: 100, scattered: true, size: [2]int{0, 100}}}
	scenario{load: many, rounds: byForm(1, 3), drain: 2 * time.Minute, fault: func(w *world, _ int) {
		w.nats.nodes[0].stop(os.Kill)
		until(w, time.Minute, "the journal holds the backlog", func() bool {
			return w.bridge.metrics()["acsbridge_forwarder_lag_records"] >= backlog
		})
		w.bridge.kill()
		listening, ready := w.bridge.start()
		w.Logf("with %d records or more: listening after %v, ready after %v",
			backlog, listening.Round(time.Millisecond), ready.Round(time.Millisecond))
		w.sender.rate.Store(10)
		w.nats.nodes[0].start()
		begin, before := time.Now(), w.bridge.metrics()["acsbridge_forwarder_lag_records"]
		w.bridge.drained(2 * time.Minute)
		took := time.Since(begin)
		w.Logf("%.0f records drained in %v, %.0f a second, while more came", before, took.Round(time.Millisecond), before/took.Seconds())
		w.sender.rate.Store(int64(many.rate))
	}}.run(t)
}
