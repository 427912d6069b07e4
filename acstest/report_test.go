package acstest_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// reportText is the report of TestReport for people, but for the bytes.
const reportText = `calls      1 in 1s
callbacks  9 (duplicate: 2, expired: 1, forged: 1, good: 4, unknown-kid: 1), 42 bytes
answers    200: 4, 400: 1, 401: 3, 503: 1
retried    503: 1
events     3 must be stored, 1 more may be
latency    p50 0s, p90 0s, p99 0s, max 0s (answers 200)
wrong      4 answers
           duplicate CallConnected: got 401, want 200
           forged CallDisconnected: got 200, want 401
           good PlayFailed: got 401, want 200
           good PlayCanceled: got 400, want 200
`

// TestReport plays one call whose every callback has another fate.
func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flow := parseFlow(t, `
  - {event: CallConnected, repeat: 1}             # 200, duplicate 401, which is wrong
  - {event: PlayStarted, bearer: expired}         # 401, as it must
  - {event: PlayCompleted}                        # 503 and then 200
  - {event: CallDisconnected, bearer: forged}     # 200, which is wrong
  - {event: PlayFailed}                           # 401, which is wrong
  - {event: PlayCanceled, repeat: 1}              # 400; the duplicate 200 after all
  - {event: CallDisconnected, bearer: unknown-kid} # 503, as good as 401
`)
		b := failing(http.Header{"Retry-After": {"1"}}, 200, 401, 401, 503, 200, 200, 401, 400, 200, 503)
		got := play(t, t.Context(), b, acstest.Load{Flows: []*acstest.Flow{flow}, Calls: 1},
			func(o *acstest.CallerOptions) { o.KeepIDs = true })

		size := int64(0)
		var posted []string
		for _, p := range b.posts {
			size += int64(len(p.body))
			e := decode(t, p.body)[0]
			posted = append(posted, (&schemas.Inbound{ID: e.ID, Source: e.Source}).MsgID())
		}
		slices.Sort(got.StoredIDs)
		want := acstest.Report{
			Calls:      1,
			Callbacks:  9,
			Kinds:      map[string]int{"good": 4, "duplicate": 2, "expired": 1, "forged": 1, "unknown-kid": 1},
			Answers:    map[int]int{200: 4, 401: 3, 400: 1, 503: 1},
			Retries:    map[int]int{503: 1},
			Bytes:      size,
			Stored:     3,
			Uncertain:  1,
			StoredIDs:  slices.Sorted(slices.Values([]string{posted[0], posted[3], posted[7]})),
			Unexpected: 4,
			Mismatches: []acstest.Mismatch{
				{Kind: "duplicate", Type: "CallConnected", Want: 200, Got: 401},
				{Kind: "forged", Type: "CallDisconnected", Want: 401, Got: 200},
				{Kind: "good", Type: "PlayFailed", Want: 200, Got: 401},
				{Kind: "good", Type: "PlayCanceled", Want: 200, Got: 400},
			},
			Elapsed: time.Second,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("report (-want +got):\n%s", diff)
		}

		got.Bytes = 42
		var out bytes.Buffer
		if n, err := got.WriteTo(&out); err != nil || n != int64(len(reportText)) {
			t.Errorf("WriteTo wrote %d bytes, error %v, want %d", n, err, len(reportText))
		}
		if diff := cmp.Diff(reportText, out.String()); diff != "" {
			t.Errorf("text (-want +got):\n%s", diff)
		}
		wantErr := "4 of 9 callbacks were not answered as they must be, first duplicate CallConnected: got 401, want 200"
		if err := got.Err(); err == nil || err.Error() != wantErr {
			t.Errorf("got  %v\nwant %s", err, wantErr)
		}
	})
}

// TestReportIsBounded: however many answers are wrong, twenty are described.
func TestReportIsBounded(t *testing.T) {
	b := &bridge{answer: func(post) *http.Response { return status(http.StatusTeapot) }}
	flows := []*acstest.Flow{parseFlow(t, oneStep)}
	got := play(t, t.Context(), b, acstest.Load{Flows: flows, Calls: 25})
	if got.Unexpected != 25 || len(got.Mismatches) != 20 || got.StoredIDs != nil {
		t.Errorf("%d wrong, %d described, ids %v; want 25, 20, none", got.Unexpected, len(got.Mismatches), got.StoredIDs)
	}
}

// TestReportForMachines pins the names of the JSON form.
func TestReportForMachines(t *testing.T) {
	text, err := json.Marshal(acstest.Report{
		StoredIDs: []string{"x"}, Mismatches: []acstest.Mismatch{{Error: "x"}},
		Answers: map[int]int{200: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"calls":0,"cut_calls":0,"callbacks":0,"kinds":null,"answers":{"200":1},"retries":null,"bytes":0,` +
		`"stored":0,"uncertain":0,"stored_ids":["x"],"unexpected":0,` +
		`"mismatches":[{"kind":"","type":"","want":0,"got":0,"error":"x"}],` +
		`"latency":{"p50_ns":0,"p90_ns":0,"p99_ns":0,"max_ns":0},"elapsed_ns":0}`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}

// TestExpectation: what Expect says beforehand is what a bridge without a
// fault makes of the load. It judges the tokens as RFC 7519 asks.
func TestExpectation(t *testing.T) {
	flows, err := acstest.Flows()
	if err != nil {
		t.Fatal(err)
	}
	load := acstest.Load{
		Flows: flows, Calls: 2 * len(flows), Speed: math.Inf(1), Seed: 3,
		Chaos: acstest.Chaos{Duplicate: 0.2, Reorder: 0.2, Batch: 0.2, Hostile: 0.6},
	}
	want, err := load.Expect()
	if err != nil {
		t.Fatal(err)
	}
	issuer := newIssuer(t)
	stored := make(map[string]bool)
	b := &bridge{}
	b.answer = func(p post) *http.Response {
		if !trusted(issuer, p.header.Get("Authorization")) {
			return status(http.StatusUnauthorized)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, e := range decode(t, p.body) {
			stored[(&schemas.Inbound{ID: e.ID, Source: e.Source}).MsgID()] = true
		}
		return status(http.StatusOK)
	}
	report := play(t, t.Context(), b, load, func(o *acstest.CallerOptions) {
		o.Signer, o.KeepIDs = issuer, true
	})
	got := acstest.Expectation{
		Callbacks: report.Callbacks, Kinds: report.Kinds, Answers: report.Answers, Stored: report.Stored,
	}
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
		t.Errorf("kinds %v, want all ten to have their turn", report.Kinds)
	}
}

// TestLatency: quantiles of 1 ms to 1000 ms are right to 0.8 %, and answers
// other than 200 do not count.
func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		b := &bridge{answer: func(post) *http.Response {
			n++
			<-time.After(time.Duration(n) * time.Millisecond)
			return status(http.StatusOK)
		}}
		flows := []*acstest.Flow{parseFlow(t, oneStep)}
		issuer := newIssuer(t)
		caller, err := acstest.NewCaller(acstest.CallerOptions{Target: target, Signer: issuer, Transport: b})
		if err != nil {
			t.Fatal(err)
		}
		if err := caller.Run(t.Context(), acstest.Load{Flows: flows, Calls: 1000, Concurrency: 1}); err != nil {
			t.Fatal(err)
		}
		b.answer = func(post) *http.Response {
			<-time.After(6 * time.Second)
			return status(http.StatusBadRequest)
		}
		if err := caller.Run(t.Context(), acstest.Load{Flows: flows, Calls: 1}); err != nil {
			t.Fatal(err)
		}
		l := caller.Report().Latency
		for _, q := range []struct {
			name      string
			got, want time.Duration
		}{
			{"p50", l.P50, 500 * time.Millisecond},
			{"p90", l.P90, 900 * time.Millisecond},
			{"p99", l.P99, 990 * time.Millisecond},
		} {
			if q.got < q.want || float64(q.got) > 1.008*float64(q.want) {
				t.Errorf("%s %v, want %v or at most 0.8 %% more", q.name, q.got, q.want)
			}
		}
		if l.Max != time.Second {
			t.Errorf("max %v, want 1s", l.Max)
		}
	})
}

// TestLatencyOfFew: a quantile is one of the answers, the upper one in doubt.
func TestLatencyOfFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		b := &bridge{answer: func(post) *http.Response {
			n++
			<-time.After(time.Duration(n) * 100 * time.Nanosecond) // below 256 ns exact
			return status(http.StatusOK)
		}}
		flows := []*acstest.Flow{parseFlow(t, oneStep)}
		got := play(t, t.Context(), b, acstest.Load{Flows: flows, Calls: 3, Concurrency: 1}).Latency
		want := acstest.Latency{P50: 200, P90: 300, P99: 300, Max: 300}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("latency (-want +got):\n%s", diff)
		}
	})
}

// TestReportIsACopy: what a caller counts later does not reach a report that
// somebody holds.
func TestReportIsACopy(t *testing.T) {
	caller, err := acstest.NewCaller(acstest.CallerOptions{
		Target: target, Signer: newIssuer(t), Transport: &bridge{}, KeepIDs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	load := acstest.Load{Flows: []*acstest.Flow{parseFlow(t, oneStep)}, Calls: 1}
	if err := caller.Run(t.Context(), load); err != nil {
		t.Fatal(err)
	}
	held := caller.Report()
	id := held.StoredIDs[0]
	caller.Report().StoredIDs[0] = "spoilt"
	before, err := json.Marshal(held)
	if err != nil {
		t.Fatal(err)
	}
	call := acstest.NewCall()
	event, err := call.NewEvent("PlayStarted")
	if err != nil {
		t.Fatal(err)
	}
	if a := caller.Send(t.Context(), call.Deliver(event)); a.Status != 200 || !a.Expected || a.Type != "PlayStarted" {
		t.Errorf("attempt %+v", a)
	}
	after, err := json.Marshal(held)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(before), string(after)); diff != "" {
		t.Errorf("the report changed (-before +after):\n%s", diff)
	}
	if now := caller.Report(); now.Callbacks != 2 || len(now.StoredIDs) != 2 || now.StoredIDs[0] != id {
		t.Errorf("report %+v, want both callbacks", now)
	}
}
