package acstest_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
)

// TestCaller_retries: the same event with a new token, and not before Retry-After.
func TestCaller_retries(t *testing.T) {
	for name, test := range map[string]struct {
		retryAfter  string
		statuses    []int
		posts       int
		least, most time.Duration
		final       int
	}{
		"500, 429":    {"", []int{500, 429}, 3, 300 * time.Millisecond, 600 * time.Millisecond, 200},
		"silence":     {"", []int{0}, 2, 3100 * time.Millisecond, 3200 * time.Millisecond, 200},
		"Retry-After": {"4", []int{503}, 2, 4 * time.Second, 4 * time.Second, 200},
		"always":      {"", []int{503, 503, 503, 503, 503, 503, 503, 503}, 7, 5600 * time.Millisecond, 11200 * time.Millisecond, 503},
		"401":         {"1", []int{401}, 1, 0, 0, 401},
		"redirect":    {"1", []int{307}, 1, 0, 0, 307},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				header := http.Header{"Location": {"http://elsewhere.example/"}}
				if test.retryAfter != "" {
					header.Set("Retry-After", test.retryAfter)
				}
				b := failing(header, test.statuses...)
				start := time.Now()
				report := play(t, t.Context(), b, oneCall(t, oneStep), func(o *acstest.CallerOptions) { o.Timeout = 3 * time.Second })
				if took := time.Since(start); took < test.least || took > test.most {
					t.Errorf("took %v, want %v to %v", took, test.least, test.most)
				}
				if len(b.posts) != test.posts || report.Answers[test.final] != 1 || report.Callbacks != 1 {
					t.Errorf("%d posts, report %+v; want %d posts and a final %d", len(b.posts), report, test.posts, test.final)
				}
				tokens := make(map[string]bool)
				for _, p := range b.posts {
					tokens[p.header.Get("Authorization")] = true
					if string(p.body) != string(b.posts[0].body) || p.path != b.posts[0].path {
						t.Errorf("a retry sent another callback: %s", p.body)
					}
				}
				if len(tokens) != len(b.posts) {
					t.Errorf("%d tokens in %d posts, want a new one each", len(tokens), len(b.posts))
				}
			})
		})
	}
}

// TestCaller_cancelled: the end of the context starts no further callback, waits for
// the one in flight, and shortens the pause before a retry.
func TestCaller_cancelled(t *testing.T) {
	for name, test := range map[string]struct {
		at       time.Duration
		statuses []int
		ended    time.Duration
		want     acstest.Report
	}{
		"in a pause":    {2 * time.Second, nil, 2 * time.Second, acstest.Report{CutCalls: 1, Callbacks: 1, Stored: 1}},
		"in a request":  {time.Second, []int{0}, 10 * time.Second, acstest.Report{CutCalls: 1, Callbacks: 1, Uncertain: 1}},
		"before retry":  {time.Second, []int{503, 503}, time.Second, acstest.Report{CutCalls: 1, Callbacks: 1, Uncertain: 1}},
		"saved by last": {time.Second, []int{503}, time.Second, acstest.Report{CutCalls: 1, Callbacks: 1, Stored: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), test.at)
				defer cancel()
				start := time.Now()
				load := oneCall(t, "  - {event: CallConnected}\n  - {event: CallDisconnected, after: 5s}\n")
				load.Calls, load.Concurrency = 0, 1
				got := play(t, ctx, failing(http.Header{"Retry-After": {"8"}}, test.statuses...), load)
				if took := time.Since(start); took != test.ended {
					t.Errorf("ended after %v, want %v", took, test.ended)
				}
				if got.CutCalls != test.want.CutCalls || got.Callbacks != test.want.Callbacks ||
					got.Stored != test.want.Stored || got.Uncertain != test.want.Uncertain || got.Unexpected != 0 {
					t.Errorf("got %+v, want %+v", got, test.want)
				}
			})
		})
	}
}

// TestCaller_starts: how many calls start, and when. After a stall they start at the
// rate again, not all at once.
func TestCaller_starts(t *testing.T) {
	const slow, quick = "  - {event: CallConnected}\n  - {event: PlayStarted, after: 3s}\n", "  - {event: CallDisconnected}\n"
	for name, test := range map[string]struct {
		flows []string
		load  acstest.Load
		want  string
	}{
		"rate":        {[]string{quick}, acstest.Load{Calls: 3, Rate: 4}, "CallDisconnected 0s, CallDisconnected 250ms, CallDisconnected 500ms"},
		"no rate":     {[]string{quick}, acstest.Load{Calls: 2}, "CallDisconnected 0s, CallDisconnected 0s"},
		"concurrency": {[]string{slow}, acstest.Load{Calls: 2, Concurrency: 1}, "CallConnected 0s, PlayStarted 3s, CallConnected 3s, PlayStarted 6s"},
		"duration":    {[]string{quick}, acstest.Load{Duration: 1500 * time.Millisecond, Rate: 1}, "CallDisconnected 0s, CallDisconnected 1s"},
		"stall": {[]string{slow, quick, quick}, acstest.Load{Calls: 3, Rate: 1, Concurrency: 1},
			"CallConnected 0s, PlayStarted 3s, CallDisconnected 3s, CallDisconnected 4s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, start := &bridge{}, time.Now()
				for _, steps := range test.flows {
					test.load.Flows = append(test.load.Flows, parseFlow(t, steps))
				}
				play(t, t.Context(), b, test.load)
				if diff := cmp.Diff(test.want, strings.Join(arrivals(t, b.posts, start), ", ")); diff != "" {
					t.Errorf("arrivals (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// brokenSigner cannot sign.
type brokenSigner struct{}

func (brokenSigner) Sign(acstest.TokenSpec) (string, error) { return "", errors.New("the key is lost") }

// TestCaller_noAnswer: the error has the cause, but not the URL, whose query has a
// telephone number. A callback that cannot be signed is not sent again.
func TestCaller_noAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for cause, change := range map[string]func(*acstest.CallerOptions){
			"context deadline exceeded":        func(o *acstest.CallerOptions) { o.Attempts = 1 },
			"sign a callback: the key is lost": func(o *acstest.CallerOptions) { o.Signer = brokenSigner{} },
		} {
			b := failing(nil, 0)
			report := play(t, t.Context(), b, oneCall(t, oneStep), change)
			want := "1 of 1 callbacks got a wrong answer, first good CallConnected: got no answer (" + cause + "), want 200 (event calling/callConnections/"
			if err := report.Err(); err == nil || !strings.HasPrefix(err.Error(), want) || len(b.posts) > 1 || len(report.Retries) > 0 {
				t.Errorf("%d posts, got %v\nwant %s", len(b.posts), err, want)
			}
		}
	})
}

func TestNewCaller_badOptions(t *testing.T) {
	for name, o := range map[string]acstest.CallerOptions{
		"no target":         {Signer: brokenSigner{}},
		"other target":      {Target: "ftp://127.0.0.1/", Signer: brokenSigner{}},
		"no host":           {Target: "http:///callbacks", Signer: brokenSigner{}},
		"bad target":        {Target: "http://%zz", Signer: brokenSigner{}},
		"no signer":         {Target: target},
		"Event Grid target": {Target: target, Signer: brokenSigner{}, EventGrid: &acstest.EventGridOptions{Target: "bridge"}},
		"Event Grid schema": {Target: target, Signer: brokenSigner{}, EventGrid: &acstest.EventGridOptions{Target: gridTarget, Schema: "x"}},
	} {
		if _, err := acstest.NewCaller(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
