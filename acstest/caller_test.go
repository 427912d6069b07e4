package acstest_test

import (
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/acsbridge/acsbridge/acstest"
)

// TestOrderWithinACall: over real sockets, with many calls at a time, the next
// event of a call leaves after the answer to the one before. Connections are
// used again, and nothing is left behind.
func TestOrderWithinACall(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	const calls, concurrency = 40, 8
	var connections atomic.Int64
	closed := make(chan struct{}, 4*calls)
	busy := make(map[string]chan struct{}) // by call: a place for one request
	b := &bridge{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer r.Body.Close()
		if _, err := b.RoundTrip(r); err != nil {
			t.Error(err)
		}
		b.mu.Lock()
		place, ok := busy[r.URL.Path]
		if !ok {
			place = make(chan struct{}, 1)
			busy[r.URL.Path] = place
		}
		b.mu.Unlock()
		select {
		case place <- struct{}{}:
			<-place
		default:
			t.Error("two callbacks of one leg at a time")
		}
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			connections.Add(1)
		case http.StateClosed:
			closed <- struct{}{}
		}
	}
	server.Start()
	defer server.Close()

	flows := []*acstest.Flow{parseFlow(t, `
  - {event: CallConnected}
  - {event: PlayStarted}
  - {event: PlayCompleted}
  - {event: CallDisconnected}
`)}
	report := play(t, t.Context(), nil, acstest.Load{Flows: flows, Calls: calls, Concurrency: concurrency},
		func(o *acstest.CallerOptions) { o.Target = server.URL + "/callbacks" })

	byCall := make(map[string][]post)
	for _, p := range b.posts {
		byCall[p.path] = append(byCall[p.path], p)
	}
	if len(byCall) != calls || report.Calls != calls || report.Answers[200] != 4*calls {
		t.Errorf("%d calls arrived, report %+v, want %d calls", len(byCall), report, calls)
	}
	for path, posts := range byCall {
		if got, want := strings.Join(types(t, posts), " "), "CallConnected PlayStarted PlayCompleted CallDisconnected"; got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	// The transport may dial once too often when a connection comes free while
	// it dials; without reuse there would be one connection a callback.
	if n := connections.Load(); n > calls {
		t.Errorf("%d connections for %d callbacks, want at most %d", n, 4*calls, calls)
	}
	for n := range connections.Load() {
		select {
		case <-closed:
		case <-time.After(10 * time.Second):
			t.Fatalf("a closed caller keeps %d connections", connections.Load()-n)
		}
	}
}

// failing answers each callback with the statuses in turn, then with 200; 0 is
// silence.
func failing(header http.Header, statuses ...int) *bridge {
	var n atomic.Int64
	return &bridge{answer: func(post) *http.Response {
		i := int(n.Add(1)) - 1
		if i >= len(statuses) {
			return status(http.StatusOK)
		}
		if statuses[i] == 0 {
			return nil
		}
		response := status(statuses[i])
		response.Header = header
		return response
	}}
}

const oneStep = "  - {event: CallConnected}\n"

// TestRetry: what may fare better later is sent again, the same event with a
// new token, and not before the bridge asked for it.
func TestRetry(t *testing.T) {
	for name, test := range map[string]struct {
		retryAfter  string
		statuses    []int
		posts       int
		least, most time.Duration
		final       int
	}{
		"503 twice":        {"", []int{503, 503}, 3, 300 * time.Millisecond, 600 * time.Millisecond, 200},
		"500, 429":         {"", []int{500, 429}, 3, 300 * time.Millisecond, 600 * time.Millisecond, 200},
		"silence":          {"", []int{0}, 2, 3100 * time.Millisecond, 3200 * time.Millisecond, 200},
		"Retry-After":      {"4", []int{503}, 2, 4 * time.Second, 4 * time.Second, 200},
		"Retry-After date": {"Sat, 01 Jan 2000 00:00:07 GMT", []int{503}, 2, 7 * time.Second, 7 * time.Second, 200},
		"long Retry-After": {"3600", []int{503}, 2, 10 * time.Second, 10 * time.Second, 200},
		"odd Retry-After":  {"soon", []int{503}, 2, 100 * time.Millisecond, 200 * time.Millisecond, 200},
		"for ever":         {"", []int{503, 503, 503, 503, 503, 503, 503, 503}, 7, 5600 * time.Millisecond, 11200 * time.Millisecond, 503},
		"401":              {"1", []int{401}, 1, 0, 0, 401},
		"400":              {"1", []int{400}, 1, 0, 0, 400},
		"redirect":         {"1", []int{307}, 1, 0, 0, 307},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				header := http.Header{"Location": {"http://elsewhere.example/"}}
				if test.retryAfter != "" {
					header.Set("Retry-After", test.retryAfter)
				}
				b := failing(header, test.statuses...)
				start := time.Now()
				flows := []*acstest.Flow{parseFlow(t, oneStep)}
				report := play(t, t.Context(), b, acstest.Load{Flows: flows, Calls: 1},
					func(o *acstest.CallerOptions) { o.Timeout = 3 * time.Second })

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

// TestCancel: the end of the context starts no callback any more, lets the one
// on its way arrive, and shortens the pause before a retry.
func TestCancel(t *testing.T) {
	steps := "  - {event: CallConnected}\n  - {event: CallDisconnected, after: 5s}\n"
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
				b := failing(http.Header{"Retry-After": {"8"}}, test.statuses...)
				start := time.Now()
				got := play(t, ctx, b, acstest.Load{Flows: []*acstest.Flow{parseFlow(t, steps)}, Concurrency: 1})
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

// TestRunBounds: how many calls start, and when.
func TestRunBounds(t *testing.T) {
	slow := "  - {event: CallConnected}\n  - {event: CallDisconnected, after: 3s}\n"
	for name, test := range map[string]struct {
		load   acstest.Load
		starts []time.Duration
		ended  time.Duration
	}{
		"rate":        {acstest.Load{Calls: 3, Rate: 4}, []time.Duration{0, 250 * time.Millisecond, 500 * time.Millisecond}, 3500 * time.Millisecond},
		"no rate":     {acstest.Load{Calls: 3}, []time.Duration{0, 0, 0}, 3 * time.Second},
		"concurrency": {acstest.Load{Calls: 3, Concurrency: 2}, []time.Duration{0, 0, 3 * time.Second}, 6 * time.Second},
		"duration":    {acstest.Load{Duration: 2500 * time.Millisecond, Rate: 1}, []time.Duration{0, time.Second, 2 * time.Second}, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &bridge{}
				start := time.Now()
				test.load.Flows = []*acstest.Flow{parseFlow(t, slow)}
				play(t, t.Context(), b, test.load)
				if took := time.Since(start); took != test.ended {
					t.Errorf("ended after %v, want %v", took, test.ended)
				}
				var starts []time.Duration
				for i, name := range types(t, b.posts) {
					if name == "CallConnected" {
						starts = append(starts, b.posts[i].at.Sub(start))
					}
				}
				if len(starts) != len(test.starts) {
					t.Fatalf("calls started at %v, want %v", starts, test.starts)
				}
				for i := range starts {
					if starts[i] != test.starts[i] {
						t.Errorf("calls started at %v, want %v", starts, test.starts)
					}
				}
			})
		})
	}
}

// TestNoCatchingUp: after a stall, calls start at the rate again, not at once.
func TestNoCatchingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bridge{}
		start := time.Now()
		slow := parseFlow(t, "  - {event: CallConnected}\n  - {event: PlayStarted, after: 3s}\n")
		quick := parseFlow(t, "  - {event: CallDisconnected}\n")
		flows := []*acstest.Flow{slow, quick, quick}
		play(t, t.Context(), b, acstest.Load{Flows: flows, Calls: 3, Rate: 1, Concurrency: 1})
		want := []string{"CallConnected 0s", "PlayStarted 3s", "CallDisconnected 3s", "CallDisconnected 4s"}
		if diff := cmp.Diff(want, arrivals(t, b.posts, start)); diff != "" {
			t.Errorf("arrivals (-want +got):\n%s", diff)
		}
	})
}

// TestSilentBridge: an error names what failed, and not the URL, whose query
// has a telephone number.
func TestSilentBridge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flows := []*acstest.Flow{parseFlow(t, oneStep)}
		report := play(t, t.Context(), failing(nil, 0), acstest.Load{Flows: flows, Calls: 1},
			func(o *acstest.CallerOptions) { o.Attempts = 1 })
		want := "1 of 1 callbacks were not answered as they must be, first good CallConnected: got no answer (context deadline exceeded), want 200"
		if err := report.Err(); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	})
}

// brokenSigner cannot sign.
type brokenSigner struct{}

func (brokenSigner) Sign(acstest.TokenSpec) (string, error) { return "", errors.New("the key is lost") }

// TestCannotSign: a fault of our own is not repeated and shows as no answer.
func TestCannotSign(t *testing.T) {
	b := &bridge{}
	flows := []*acstest.Flow{parseFlow(t, oneStep)}
	report := play(t, t.Context(), b, acstest.Load{Flows: flows, Calls: 1, Speed: math.Inf(1)},
		func(o *acstest.CallerOptions) { o.Signer = brokenSigner{} })
	if len(b.posts) != 0 || len(report.Retries) != 0 {
		t.Errorf("%d posts, report %+v, want none", len(b.posts), report)
	}
	want := "1 of 1 callbacks were not answered as they must be, first good CallConnected: got no answer (sign a callback: the key is lost), want 200"
	if err := report.Err(); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestCallerIsRefused(t *testing.T) {
	for name, o := range map[string]acstest.CallerOptions{
		"no target":    {Signer: brokenSigner{}},
		"other target": {Target: "ftp://127.0.0.1/", Signer: brokenSigner{}},
		"no host":      {Target: "http:///callbacks", Signer: brokenSigner{}},
		"bad target":   {Target: "http://%zz", Signer: brokenSigner{}},
		"no signer":    {Target: target},
	} {
		if _, err := acstest.NewCaller(o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestTargetKeepsItsQuery: an application may have put a secret there.
func TestTargetKeepsItsQuery(t *testing.T) {
	b := &bridge{}
	flows := []*acstest.Flow{parseFlow(t, oneStep)}
	play(t, t.Context(), b, acstest.Load{Flows: flows, Calls: 1},
		func(o *acstest.CallerOptions) { o.Target = "http://bridge.example/a/?code=x" })
	if got := b.posts[0].query; !strings.HasPrefix(got, "code=x&callerId=%2B1") {
		t.Errorf("query %q", got)
	}
	if got := b.posts[0].path; !strings.HasPrefix(got, "/a/") || strings.Contains(got, "//") {
		t.Errorf("path %q", got)
	}
}
