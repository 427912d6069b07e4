package publish_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acsbridge/acsbridge/internal/fakenats"
	"github.com/acsbridge/acsbridge/schemas"
)

var (
	simSeeds = flag.Uint64("sim.seeds", defaultSeeds, "how many seeds the simulation runs")
	simFrom  = flag.Uint64("sim.from", 1, "the first seed of the simulation")
	simSeed  = flag.Uint64("sim.seed", 0, "run this seed alone, and print what happened in it")
)

// TestSimulation plays a plan for each seed: calls whose events are published,
// and faults of the stream, the connection and the bridge itself. In the end
// all faults are over, and the streams must hold what was promised: each event
// that was answered, once, as it was sent, the events of a call in their order,
// and nothing that was not sent.
//
// The bridge is real: publisher, journal on a disk, NATS client. Only the
// server is a model, and time is synctest's. The plan is a function of the
// seed; the pauses before attempts and the order of what happens in the same
// instant are not, so a seed that fails rarely is repeated with -count:
//
//	go test ./publish -run Simulation -sim.seed=N -count=100
//
// The bridge was broken on purpose to see the simulation fail. It does, within
// its thousand seeds, when
//
//   - the journal is truncated before the stream has a record;
//   - Publish answers although the append has failed;
//   - the message id is left out, or headers of the message before are left in;
//   - there is no lookback before records older than half the window are sent,
//     or too late a part of the stream, or one batch of it alone, or not what
//     was stored since, or everything is taken for known;
//   - that is done only for records older than two windows;
//   - it keeps the ids of records from the one on that is sent first, and not from
//     the oldest pending one (one seed in 700);
//   - the cursor moves behind records that are not acknowledged, in memory or
//     in its file, past a refusal, or past an answer that never comes;
//   - a missing answer does not end the sender;
//   - the events of a call do not wait for one another, or are released too early;
//   - the client buffers publishes while it is disconnected (one seed in 500);
//   - acknowledged records are not kept, or not sent again, for a server that
//     loses power.
//
// It cannot see a missing fsync: what a crash leaves here is what was written.
// Nor does it fail when only time is lost: a break that is noticed by the
// missing answer alone, a cursor that is not read at start.
func TestSimulation(t *testing.T) {
	claims(t) // makes them outside of any bubble
	emptyPools()
	if *simSeed != 0 {
		simulate(t, *simSeed, *simSeed+1)
		return
	}
	end := *simFrom + *simSeeds
	for seed := *simFrom; seed < end; seed += seedsPerBubble {
		next := min(seed+seedsPerBubble, end)
		t.Run(fmt.Sprintf("seeds=%d-%d", seed, next-1), func(t *testing.T) { simulate(t, seed, next) })
	}
}

// seedsPerBubble is how many seeds follow one another in one bubble. Emptying
// the pools between bubbles takes as long as a seed.
const seedsPerBubble = 10

// simulate plays the seeds from first to before end, until one fails.
func simulate(t *testing.T, first, end uint64) {
	space := workspace(t)
	defer emptyPools()
	synctest.Test(t, func(t *testing.T) {
		for seed := first; seed < end && !t.Failed(); seed++ {
			w := newWorld(t, newPlan(seed), filepath.Join(space, fmt.Sprint(seed)))
			w.play()
			w.finish()
			w.check()
			if t.Failed() || *simSeed != 0 {
				t.Logf("seed %d, again with: go test ./publish -run Simulation -sim.seed=%d\n%s\n%s", seed, seed, w.plan, w.history.faults())
			}
		}
	})
}

// emptyPools empties every sync.Pool: nats.go keeps timers in one, and a timer
// of one bubble must not be used in another, or outside. What is in a pool
// survives one collection, not two. This is also why bubbles do not run at the
// same time.
func emptyPools() {
	runtime.GC()
	runtime.GC()
}

// workspace returns a directory that ends with the test, in memory where the
// system has such a file system.
func workspace(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "acsbridge-simulation-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// play runs the plan: every call has a sender of its own.
func (w *world) play() {
	w.open()
	for i := range w.plan.calls {
		dice := rand.New(rand.NewPCG(w.plan.seed, uint64(i)))
		w.senders.Go(func() { w.send(&w.plan.calls[i], dice) })
	}
	w.inject()
	w.senders.Wait()
}

// How long the repaired bridge may take to bring everything to the stream: the
// longest pause, an acknowledgement that does not come, and some.
const drainWithin = 30 * time.Second

// finish lets the repaired bridge finish, twice: what it does when it is started
// once more, after the stream has forgotten every id, must change nothing.
func (w *world) finish() {
	w.drain()
	w.stop()
	time.Sleep(lateness) // what the server received and has not acted on
	stored := len(w.server.Messages(schemas.Stream))
	time.Sleep(w.plan.window)
	w.open()
	w.drain()
	w.stop()
	w.closers.Wait()
	w.server.Close()
	if n := len(w.server.Messages(schemas.Stream)); n != stored {
		w.t.Errorf("the stream had %d messages, and %d after another start", stored, n)
	}
	for _, subject := range w.server.Unknown() {
		w.t.Errorf("the model does not know %s", subject)
	}
}

func (w *world) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), drainWithin)
	defer cancel()
	b := w.bridge()
	left := b.Drain(ctx)
	for left != 0 && ctx.Err() == nil { // it does not wait for a quarantine that is not taken
		time.Sleep(100 * time.Millisecond)
		left = b.Drain(ctx)
	}
	if left != 0 {
		w.t.Errorf("%d records left, %v after all faults were over: %v", left, drainWithin, b.Status().Notes)
	}
}

// fate is what the present faults do to a request.
func (w *world) fate(fakenats.Request) fakenats.Fate {
	var fate fakenats.Fate
	for _, f := range w.plan.faults {
		if f.active.Load() && w.plan.dice.Float64() < f.share {
			f.touch(&fate, w.plan.dice)
		}
	}
	return fate
}
