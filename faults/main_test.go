package faults_test

import (
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/internal/backoff"
)

var (
	form = flag.String("form", "", "run the faults: short or long; empty tests only the suite's own parts")
	seed = flag.Uint64("seed", 0, "of all random decisions; 0 picks one")
)

// binaries are built once, from this very source and from the module cache.
var binaries struct{ acsbridge, nats string }

// The suite keeps everything that was sent and answered. Its own garbage collections
// would be in the durations that it measures, so they are rare as long as there is
// memory.
const (
	gcPercent = 400
	gcMemory  = 2 << 30
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(gcMemory)
	if os.Getenv(attackerVariable) != "" {
		if err := runAttacker(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "attacker:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	if *seed == 0 {
		*seed = rand.Uint64()>>1 | 1
	}
	os.Exit(withBinaries(m))
}

// withBinaries builds the programs under test and runs the tests.
func withBinaries(m *testing.M) int {
	switch {
	case *form == "":
		return m.Run()
	case *form != "short" && *form != "long":
		fmt.Fprintf(os.Stderr, "-form=%s: must be short or long\n", *form)
		return 2
	case runtime.GOOS != "linux":
		fmt.Fprintln(os.Stderr, "the faults run on Linux alone: processes must be stopped, and die with the test")
		return 2
	}
	dir, err := os.MkdirTemp("", "faults-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries.acsbridge, binaries.nats = filepath.Join(dir, "acsbridge"), filepath.Join(dir, "nats-server")
	for _, args := range [][]string{
		{"-tags", "faults", "-o", binaries.acsbridge, "../cmd/acsbridge"},
		{"-o", binaries.nats, "github.com/nats-io/nats-server/v2"},
	} {
		if err := build(args...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	fmt.Printf("faults: form %s, seed %d (again with -seed %d)\n", *form, *seed, *seed)
	return m.Run()
}

func build(args ...string) error {
	text, err := exec.Command("go", append([]string{"build"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build %v: %w\n%s", args, err, text)
	}
	return nil
}

// needForm skips a fault without -form.
func needForm(t *testing.T) {
	t.Helper()
	if *form == "" {
		t.Skip("a fault: run with -form=short or -form=long")
	}
}

// byForm returns the value for the form of this run.
func byForm[T any](short, long T) T {
	if *form == "long" {
		return long
	}
	return short
}

// chance returns the random numbers of a test: the same for one seed, whatever other
// tests run.
func chance(t testing.TB) *rand.Rand {
	name := fnv.New64a()
	name.Write([]byte(t.Name()))
	return rand.New(rand.NewPCG(*seed, name.Sum64()))
}

// until waits for a condition, and fails the test when it takes too long.
func until(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	untilEvery(t, 5*time.Millisecond, within, what, ok)
}

// untilEvery is until with an interval.
func untilEvery(t testing.TB, interval, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
		<-tick.C
	}
}

// sleep waits and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool { return backoff.Wait(ctx, d) == nil }
