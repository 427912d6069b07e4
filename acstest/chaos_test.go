package acstest_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
)

// course plays a load and returns what each call sent, in its order.
func course(t *testing.T, load acstest.Load) []string {
	t.Helper()
	var mu sync.Mutex
	calls := make([]string, load.Calls)
	play(t, t.Context(), &bridge{}, load, func(o *acstest.CallerOptions) {
		o.Attempts = 1
		o.Observe = func(a acstest.Attempt) {
			mu.Lock()
			defer mu.Unlock()
			calls[a.Call] += fmt.Sprintf("%s %s %d, ", a.Kind, a.Type, a.Events)
		}
	})
	return calls
}

func TestChaosFollowsItsSeed(t *testing.T) {
	load := acstest.Load{Calls: 12, Speed: math.Inf(1), Chaos: acstest.EvenChaos(0.3), Seed: 7}
	first := course(t, load)
	load.Concurrency = 1
	if diff := cmp.Diff(first, course(t, load)); diff != "" {
		t.Errorf("the same seed, another course (-first +second):\n%s", diff)
	}
	load.Seed = 8
	if slices.Equal(first, course(t, load)) {
		t.Error("another seed, the same course")
	}
}

// TestChaosShares: of many callbacks, the share that meets a trouble is the
// one asked for. The seed is fixed, so the counts are too.
func TestChaosShares(t *testing.T) {
	const calls = 600 // 100 of each flow
	calm, err := acstest.Load{Calls: calls}.Expect()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		chaos acstest.Chaos
		hit   func(acstest.Expectation) int
	}{
		"duplicate": {
			acstest.Chaos{Duplicate: 0.2},
			func(e acstest.Expectation) int { return e.Kinds["duplicate"] },
		},
		"hostile": {
			acstest.Chaos{Hostile: 0.2},
			func(e acstest.Expectation) int { return e.Answers[401] },
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := acstest.Load{Calls: calls, Chaos: test.chaos, Seed: 1}.Expect()
			if err != nil {
				t.Fatal(err)
			}
			share := float64(test.hit(got)) / float64(calm.Callbacks)
			if math.Abs(share-0.2) > 0.02 {
				t.Errorf("share %.3f, want about 0.2", share)
			}
			if got.Callbacks != calm.Callbacks+test.hit(got) || got.Stored != calm.Stored {
				t.Errorf("got %+v, want the callbacks of %+v and those added", got, calm)
			}
		})
	}
}

// TestChaosHostileKinds: every bad bearer has its turn.
func TestChaosHostileKinds(t *testing.T) {
	got, err := acstest.Load{Calls: 60, Chaos: acstest.Chaos{Hostile: 1}}.Expect()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []acstest.Bearer{
		acstest.BearerExpired, acstest.BearerForged, acstest.BearerWrongAudience, acstest.BearerUnknownKid,
		acstest.BearerAlgNone, acstest.BearerAlgHMAC, acstest.BearerDayLong, acstest.BearerMissing,
	} {
		if got.Kinds[string(b)] == 0 {
			t.Errorf("no %s among %v", b, got.Kinds)
		}
	}
}

const fourSteps = `
  - {event: CallConnected, after: 1s}
  - {event: PlayStarted, after: 2s}
  - {event: PlayCompleted, after: 3s, leg: other}
  - {event: CallDisconnected, after: 4s}
`

// TestChaosAlways looks at each trouble alone, with a share of one.
func TestChaosAlways(t *testing.T) {
	for name, test := range map[string]struct {
		chaos acstest.Chaos
		want  []string // types of each post, + within a body, and its arrival
	}{
		"none": {acstest.Chaos{}, []string{
			"CallConnected 1s", "PlayStarted 3s", "PlayCompleted 6s", "CallDisconnected 10s",
		}},
		"reorder": {acstest.Chaos{Reorder: 1}, []string{
			"PlayStarted 1s", "CallConnected 3s", "CallDisconnected 6s", "PlayCompleted 10s",
		}},
		"batch": {acstest.Chaos{Batch: 1}, []string{
			"CallConnected+PlayStarted 3s", "PlayCompleted 6s", "CallDisconnected 10s",
		}},
		"hostile": {acstest.Chaos{Hostile: 1}, []string{
			"CallConnected 1s", "CallConnected 1s", "PlayStarted 3s", "PlayStarted 3s",
			"PlayCompleted 6s", "PlayCompleted 6s", "CallDisconnected 10s", "CallDisconnected 10s",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &bridge{}
				start := time.Now()
				flows := []*acstest.Flow{parseFlow(t, fourSteps)}
				play(t, t.Context(), b, acstest.Load{Flows: flows, Calls: 1, Chaos: test.chaos})
				if diff := cmp.Diff(test.want, arrivals(t, b.posts, start)); diff != "" {
					t.Errorf("arrivals (-want +got):\n%s", diff)
				}
				ids := make(map[string]bool)
				for _, p := range b.posts {
					for _, e := range decode(t, p.body) {
						if ids[e.ID] {
							t.Errorf("the id %s came twice", e.ID)
						}
						ids[e.ID] = true
					}
				}
			})
		})
	}
}

// TestChaosDelay: callbacks come late, by no more than the bound.
func TestChaosDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		flows := []*acstest.Flow{parseFlow(t, fourSteps)}
		chaos := acstest.Chaos{Delay: 1, MaxDelay: time.Minute}
		play(t, t.Context(), &bridge{}, acstest.Load{Flows: flows, Calls: 1, Chaos: chaos, Speed: 10})
		late := time.Since(start) - time.Second
		if late <= 0 || late > 4*6*time.Second {
			t.Errorf("%v late, want more than none and at most 24s", late)
		}
	})
}

// TestChaosDuplicate: a copy has the events and the URL of the first delivery
// and comes after it.
func TestChaosDuplicate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bridge{}
		start := time.Now()
		flows := []*acstest.Flow{parseFlow(t, fourSteps)}
		load := acstest.Load{Flows: flows, Calls: 1, Chaos: acstest.Chaos{Duplicate: 1}}
		report := play(t, t.Context(), b, load)
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("took %v, want 10s: a copy has no pause of its own", took)
		}
		bodies := make(map[string][]string)
		for _, p := range b.posts {
			bodies[string(p.body)] = append(bodies[string(p.body)], p.path)
		}
		if len(b.posts) != 8 || len(bodies) != 4 {
			t.Fatalf("%d posts of %d bodies, want 8 of 4", len(b.posts), len(bodies))
		}
		for body, paths := range bodies {
			if len(paths) != 2 || paths[0] != paths[1] {
				t.Errorf("%s went to %v, want twice to one path", body, paths)
			}
		}
		if report.Kinds["good"] != 4 || report.Kinds["duplicate"] != 4 || report.Stored != 4 {
			t.Errorf("report %+v, want 4 good, 4 duplicates, 4 stored", report)
		}
	})
}

func TestLoadIsRefused(t *testing.T) {
	nan := math.NaN()
	for name, load := range map[string]acstest.Load{
		"calls -1":       {Calls: -1},
		"duration":       {Duration: -1},
		"rate -1":        {Rate: -1},
		"rate NaN":       {Rate: nan},
		"rate +Inf":      {Rate: math.Inf(1)},
		"concurrency -1": {Concurrency: -1},
		"speed -1":       {Speed: -1},
		"speed NaN":      {Speed: nan},
		"duplicate":      {Chaos: acstest.Chaos{Duplicate: 1.1}},
		"reorder":        {Chaos: acstest.Chaos{Reorder: -0.1}},
		"delay ":         {Chaos: acstest.Chaos{Delay: nan}},
		"batch":          {Chaos: acstest.Chaos{Batch: 2}},
		"hostile":        {Chaos: acstest.Chaos{Hostile: 2}},
		"longest delay":  {Chaos: acstest.Chaos{MaxDelay: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			caller, err := acstest.NewCaller(acstest.CallerOptions{Target: target, Signer: newIssuer(t), Transport: &bridge{}})
			if err != nil {
				t.Fatal(err)
			}
			word, _, _ := strings.Cut(name, " ")
			if err := caller.Run(t.Context(), load); err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("error %v, want one about %s", err, word)
			}
			if _, err := load.Expect(); err == nil {
				t.Error("Expect took it")
			}
		})
	}
	if _, err := (acstest.Load{}).Expect(); err == nil {
		t.Error("Expect counted a load without an end")
	}
	if _, err := (acstest.Load{Calls: 1, Duration: time.Second}).Expect(); err == nil {
		t.Error("Expect counted a load that a clock ends")
	}
}
