package acstest_test

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestLoad_expect: a bridge without faults gives the outcome that Expect counts. It
// checks tokens as RFC 7519 asks.
func TestLoad_expect(t *testing.T) {
	flows, err := acstest.Flows()
	if err != nil {
		t.Fatal(err)
	}
	load := acstest.Load{
		Flows: flows, Calls: 2 * len(flows), Speed: math.Inf(1), Seed: 3,
		Chaos: acstest.Chaos{Duplicate: 0.2, Reorder: 0.2, Batch: 0.2, Hostile: 0.6}, EventGrid: true,
	}
	want, err := load.Expect()
	if err != nil {
		t.Fatal(err)
	}
	issuer := newIssuer(t)
	stored := make(map[string]bool)
	b := &bridge{}
	b.answer = func(p post) *http.Response {
		token, ok := strings.CutPrefix(p.header.Get("Authorization"), "Bearer ")
		audience, longest := acstest.DemoAudience, 10*time.Minute
		if p.path == "/eventgrid" {
			audience, longest = acstest.DemoApplication, 24*time.Hour
		}
		parsed, err := parse(t, issuer, token, audience)
		if !ok || err != nil {
			return status(http.StatusUnauthorized)
		}
		if end, err := parsed.Claims.GetExpirationTime(); err != nil || time.Until(end.Time) > longest {
			return status(http.StatusUnauthorized)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, e := range decode(t, p.body) {
			stored[(&schemas.Inbound{ID: e.ID, Source: e.Source}).MsgID()] = true
		}
		return status(http.StatusOK)
	}
	report := play(t, t.Context(), b, load, withGrid(acstest.EventGridCloudEvents), func(o *acstest.CallerOptions) { o.Signer, o.KeepIDs = issuer, true })
	got := acstest.Expectation{Callbacks: report.Callbacks, Kinds: report.Kinds, Answers: report.Answers, Stored: report.Stored}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outcome (-expected +got):\n%s", diff)
	}
	if err := report.Err(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(stored)), slices.Sorted(slices.Values(report.StoredIDs))); diff != "" {
		t.Errorf("events (-stored +reported):\n%s", diff)
	}
	if len(report.Kinds) < 10 {
		t.Errorf("kinds %v, want all ten", report.Kinds)
	}
}

// TestLoad_seed: one seed gives one outcome, whatever the timing.
func TestLoad_seed(t *testing.T) {
	outcome := func(seed uint64, concurrency int) []string {
		var mu sync.Mutex
		calls := make([]string, 12)
		load := acstest.Load{Calls: 12, Speed: math.Inf(1), Chaos: acstest.EvenChaos(0.3), Seed: seed, Concurrency: concurrency}
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
	first := outcome(7, 0)
	if diff := cmp.Diff(first, outcome(7, 1)); diff != "" {
		t.Errorf("the same seed, another outcome (-first +second):\n%s", diff)
	}
	if slices.Equal(first, outcome(8, 0)) {
		t.Error("another seed, the same outcome")
	}
}

const fourSteps = `
  - {event: CallConnected, after: 1s}
  - {event: PlayStarted, after: 2s}
  - {event: PlayCompleted, after: 3s, leg: other}
  - {event: CallDisconnected, after: 4s}
`

// TestChaos_kinds has one kind of chaos at a time, for every callback.
func TestChaos_kinds(t *testing.T) {
	for name, test := range map[string]struct {
		chaos acstest.Chaos
		want  []string // types of each post, + within a body, and its arrival
	}{
		"none":    {acstest.Chaos{}, []string{"CallConnected 1s", "PlayStarted 3s", "PlayCompleted 6s", "CallDisconnected 10s"}},
		"reorder": {acstest.Chaos{Reorder: 1}, []string{"PlayStarted 1s", "CallConnected 3s", "CallDisconnected 6s", "PlayCompleted 10s"}},
		"batch":   {acstest.Chaos{Batch: 1}, []string{"CallConnected+PlayStarted 3s", "PlayCompleted 6s", "CallDisconnected 10s"}},
		"hostile": {acstest.Chaos{Hostile: 1}, []string{
			"CallConnected 1s", "CallConnected 1s", "PlayStarted 3s", "PlayStarted 3s",
			"PlayCompleted 6s", "PlayCompleted 6s", "CallDisconnected 10s", "CallDisconnected 10s",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, load, start := &bridge{}, oneCall(t, fourSteps), time.Now()
				load.Chaos = test.chaos
				play(t, t.Context(), b, load)
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

// TestChaos_time: a delay is at most 800 ms, and a duplicate comes with the events and the
// URL of the first callback, without a pause.
func TestChaos_time(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, load, start := &bridge{}, oneCall(t, fourSteps), time.Now()
		load.Chaos, load.Speed = acstest.Chaos{Delay: 1}, 10
		play(t, t.Context(), b, load)
		if late := time.Since(start) - time.Second; late <= 0 || late > 800*time.Millisecond {
			t.Errorf("%v late, want more than 0 and at most 800ms", late)
		}
		b, start = &bridge{}, time.Now()
		load.Chaos, load.Speed = acstest.Chaos{Duplicate: 1}, 0
		report := play(t, t.Context(), b, load)
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("took %v, want 10s", took)
		}
		seen := make(map[string]int)
		for _, p := range b.posts {
			seen[p.path+string(p.body)]++
		}
		if len(b.posts) != 8 || len(seen) != 4 || report.Kinds["good"] != 4 || report.Kinds["duplicate"] != 4 || report.Stored != 4 {
			t.Errorf("%d posts of %d callbacks, report %+v; want 4 good, 4 duplicates, 4 stored", len(b.posts), len(seen), report)
		}
	})
}

func TestLoad_bad(t *testing.T) {
	nan := math.NaN()
	for name, load := range map[string]acstest.Load{
		"calls -1": {Calls: -1}, "duration": {Duration: -1}, "concurrency -1": {Concurrency: -1},
		"rate -1": {Rate: -1}, "rate NaN": {Rate: nan}, "rate +Inf": {Rate: math.Inf(1)}, "speed -1": {Speed: -1}, "speed NaN": {Speed: nan},
		"duplicate": {Chaos: acstest.Chaos{Duplicate: 1.1}}, "reorder": {Chaos: acstest.Chaos{Reorder: -0.1}},
		"delay ": {Chaos: acstest.Chaos{Delay: nan}}, "batch": {Chaos: acstest.Chaos{Batch: 2}}, "hostile": {Chaos: acstest.Chaos{Hostile: 2}},
	} {
		word, _, _ := strings.Cut(name, " ")
		if err := newCaller(t, &bridge{}).Run(t.Context(), load); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: error %v, want one about %s", name, err, word)
		}
		if _, err := load.Expect(); err == nil {
			t.Errorf("%s: Expect took it", name)
		}
	}
	for name, load := range map[string]acstest.Load{"no end": {}, "the end is a time": {Calls: 1, Duration: time.Second}} {
		if _, err := load.Expect(); err == nil {
			t.Errorf("%s: Expect counted it", name)
		}
	}
}
