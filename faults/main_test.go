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
	seed = flag.Uint64("seed", 0, "of everything that is left to chance; 0 picks one")
)

// binaries are built once, from this very source and from the module cache.
var binaries struct{ acsbridge, nats string }

// Collections of the suite's own garbage, of which it keeps all that was sent and
// answered, would show in the times of the answers that it measures. So they are
// seldom, as long as there is memory.
const (
	gcPercent = 400
	gcMemory  = 2 << 30
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(gcMemory)
	if os.Getenv(strangersVariable) != "" {
		if err := playStrangers(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "strangers:", err)
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

// withBinaries builds what the faults are brought upon and runs the tests.
func withBinaries(m *testing.M) int {
	switch {
	case *form == "":
		return m.Run()
	case *form != "short" && *form != "long":
		fmt.Fprintf(os.Stderr, "-form=%s: there are short and long\n", *form)
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

// needForm skips a fault unless the faults were asked for.
func needForm(t *testing.T) {
	t.Helper()
	if *form == "" {
		t.Skip("a fault: run with -form=short or -form=long")
	}
}

// byForm returns what suits the form of this run.
func byForm[T any](short, long T) T {
	if *form == "long" {
		return long
	}
	return short
}

// chance returns the test's own source of chance: the same one for one seed,
// whichever other tests run.
func chance(t testing.TB) *rand.Rand {
	name := fnv.New64a()
	name.Write([]byte(t.Name()))
	return rand.New(rand.NewPCG(*seed, name.Sum64()))
}

// until waits for what other processes bring about, and fails the test when
// they do not in time.
func until(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	untilEvery(t, 5*time.Millisecond, within, what, ok)
}

// untilEvery asks as often as it is told.
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
