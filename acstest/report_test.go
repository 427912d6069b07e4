package acstest_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// reportText is the text of the report of TestReport_counts.
const reportText = `calls      1 in 1s
callbacks  9 (duplicate: 2, expired: 1, forged: 1, good: 4, unknown-kid: 1), 42 bytes
answers    200: 4, 400: 1, 401: 3, 503: 1
retried    503: 1
events     3 must be stored, 1 more may be
latency    p50 0s, p90 0s, p99 0s, max 0s (answers 200)
wrong      4 answers
           duplicate CallConnected: got 401, want 200 (event 0)
           forged CallDisconnected: got 200, want 401 (event 1)
           good PlayFailed: got 401, want 200 (event 2)
           good PlayCanceled: got 400, want 200 (event 3)
`

// TestReport_counts has one callback of each outcome.
func TestReport_counts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		load := oneCall(t, `
  - {event: CallConnected, repeat: 1}             # 200, duplicate 401, which is wrong
  - {event: PlayStarted, bearer: expired}         # 401, right
  - {event: PlayCompleted}                        # 503 and then 200
  - {event: CallDisconnected, bearer: forged}     # 200, which is wrong
  - {event: PlayFailed}                           # 401, which is wrong
  - {event: PlayCanceled, repeat: 1}              # 400; the duplicate 200
  - {event: CallDisconnected, bearer: unknown-kid} # 503, right as well
`)
		b := failing(http.Header{"Retry-After": {"1"}}, 200, 401, 401, 503, 200, 200, 401, 400, 200, 503)
		got := play(t, t.Context(), b, load, func(o *acstest.CallerOptions) { o.KeepIDs = true })

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
				{Kind: "duplicate", Type: "CallConnected", Event: posted[1], Want: 200, Got: 401},
				{Kind: "forged", Type: "CallDisconnected", Event: posted[5], Want: 401, Got: 200},
				{Kind: "good", Type: "PlayFailed", Event: posted[6], Want: 200, Got: 401},
				{Kind: "good", Type: "PlayCanceled", Event: posted[7], Want: 200, Got: 400},
			},
			Elapsed: time.Second,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("report (-want +got):\n%s", diff)
		}

		got.Bytes = 42
		for i := range got.Mismatches {
			got.Mismatches[i].Event = strconv.Itoa(i)
		}
		var out bytes.Buffer
		if n, err := got.WriteTo(&out); err != nil || n != int64(len(reportText)) {
			t.Errorf("WriteTo wrote %d bytes, error %v, want %d", n, err, len(reportText))
		}
		if diff := cmp.Diff(reportText, out.String()); diff != "" {
			t.Errorf("text (-want +got):\n%s", diff)
		}
		wantErr := "4 of 9 callbacks got a wrong answer, first duplicate CallConnected: got 401, want 200 (event 0)"
		if err := got.Err(); err == nil || err.Error() != wantErr {
			t.Errorf("got  %v\nwant %s", err, wantErr)
		}
	})
}

// TestReport_json checks the names of the JSON form.
func TestReport_json(t *testing.T) {
	text, err := json.Marshal(acstest.Report{
		StoredIDs: []string{"x"}, Mismatches: []acstest.Mismatch{{Error: "x"}},
		Answers: map[int]int{200: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"calls":0,"cut_calls":0,"callbacks":0,"kinds":null,"answers":{"200":1},"retries":null,"bytes":0,` +
		`"stored":0,"uncertain":0,"stored_ids":["x"],"unexpected":0,` +
		`"mismatches":[{"kind":"","type":"","event":"","want":0,"got":0,"error":"x"}],` +
		`"latency":{"p50_ns":0,"p90_ns":0,"p99_ns":0,"max_ns":0},"elapsed_ns":0}`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}

// TestReport_latency: quantiles of 1 ms to 1000 ms are right to 0.8 %, and answers other
// than 200 do not count.
func TestReport_latency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		b := &bridge{answer: func(post) *http.Response {
			if n++; n > 1000 {
				<-time.After(6 * time.Second)
				return status(http.StatusBadRequest)
			}
			<-time.After(time.Duration(n) * time.Millisecond)
			return status(http.StatusOK)
		}}
		load := oneCall(t, oneStep)
		load.Calls, load.Concurrency = 1001, 1
		l := play(t, t.Context(), b, load).Latency
		for want, got := range map[time.Duration]time.Duration{500 * time.Millisecond: l.P50, 900 * time.Millisecond: l.P90, 990 * time.Millisecond: l.P99} {
			if got < want || float64(got) > 1.008*float64(want) {
				t.Errorf("%v, want %v or at most 0.8 %% more", got, want)
			}
		}
		if l.Max != time.Second {
			t.Errorf("max %v, want 1s", l.Max)
		}
	})
}
