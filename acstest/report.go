package acstest

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxMismatches bounds the wrong answers that a report describes.
const maxMismatches = 20

// Report counts what a caller sent and the answers. Counts are of callbacks, with their
// final answers, if not noted otherwise.
type Report struct {
	Calls     int            `json:"calls"`     // played to their end
	CutCalls  int            `json:"cut_calls"` // ended early because the caller was stopped
	Callbacks int            `json:"callbacks"`
	Kinds     map[string]int `json:"kinds"`   // by [Callback.Kind]
	Answers   map[int]int    `json:"answers"` // by status; 0 means no answer
	Retries   map[int]int    `json:"retries"` // answers before another attempt, by status
	Bytes     int64          `json:"bytes"`   // of all bodies, retries too

	// Stored counts the events that must be in the stream, once each, of calls that
	// have ended. Uncertain ones got no 200 and may be there. No other event may be.
	Stored    int `json:"stored"`
	Uncertain int `json:"uncertain"`

	// StoredIDs are the message ids of the stored events, not sorted, with
	// [CallerOptions.KeepIDs].
	StoredIDs []string `json:"stored_ids,omitempty"`

	// Unexpected counts the callbacks with a wrong answer; Mismatches describes the
	// first of them.
	Unexpected int        `json:"unexpected"`
	Mismatches []Mismatch `json:"mismatches,omitempty"`

	Latency Latency       `json:"latency"`
	Elapsed time.Duration `json:"elapsed_ns"` // from the first callback to the last answer
}

// Latency is that of answers with status 200. Quantiles are at most 0.8 % too high; Max
// is exact.
type Latency struct {
	P50 time.Duration `json:"p50_ns"`
	P90 time.Duration `json:"p90_ns"`
	P99 time.Duration `json:"p99_ns"`
	Max time.Duration `json:"max_ns"`
}

// Mismatch is a callback with a wrong answer.
type Mismatch struct {
	Kind  string `json:"kind"`
	Type  string `json:"type"`
	Event string `json:"event"` // message id of the first event
	Want  int    `json:"want"`
	Got   int    `json:"got"` // 0 means no answer
	Error string `json:"error,omitempty"`
}

func (m Mismatch) String() string {
	got := fmt.Sprint(m.Got)
	if m.Got == 0 {
		got = "no answer (" + m.Error + ")"
	}
	return fmt.Sprintf("%s %s: got %s, want %d (event %s)", m.Kind, m.Type, got, m.Want, m.Event)
}

// Err returns nil when every callback got the right answer.
func (r *Report) Err() error {
	if r.Unexpected == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d callbacks got a wrong answer, first %v",
		r.Unexpected, r.Callbacks, r.Mismatches[0])
}

// String returns the report as text for people.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "calls      %d in %v", r.Calls, r.Elapsed.Round(time.Millisecond))
	if r.CutCalls > 0 {
		fmt.Fprintf(&b, ", %d more cut short", r.CutCalls)
	}
	fmt.Fprintf(&b, "\ncallbacks  %d (%s), %d bytes\n", r.Callbacks, counts(r.Kinds), r.Bytes)
	fmt.Fprintf(&b, "answers    %s\n", counts(r.Answers))
	if len(r.Retries) > 0 {
		fmt.Fprintf(&b, "retried    %s\n", counts(r.Retries))
	}
	fmt.Fprintf(&b, "events     %d must be stored", r.Stored)
	if r.Uncertain > 0 {
		fmt.Fprintf(&b, ", %d more may be", r.Uncertain)
	}
	fmt.Fprintf(&b, "\nlatency    p50 %v, p90 %v, p99 %v, max %v (answers 200)\n",
		rounded(r.Latency.P50), rounded(r.Latency.P90), rounded(r.Latency.P99), rounded(r.Latency.Max))
	switch r.Unexpected {
	case 0:
	case 1:
		b.WriteString("wrong      1 answer\n")
	default:
		fmt.Fprintf(&b, "wrong      %d answers\n", r.Unexpected)
	}
	for _, m := range r.Mismatches {
		fmt.Fprintf(&b, "           %v\n", m)
	}
	return b.String()
}

// WriteTo writes [Report.String].
func (r *Report) WriteTo(w io.Writer) (int64, error) {
	return bytes.NewBufferString(r.String()).WriteTo(w)
}

// counts returns a table of counts as one line, sorted by key. The key 0 means no answer.
func counts[K int | string](table map[K]int) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(table)) {
		name := fmt.Sprint(key)
		if name == "0" {
			name = "no answer"
		}
		parts = append(parts, fmt.Sprintf("%s: %d", name, table[key]))
	}
	return strings.Join(parts, ", ")
}

func rounded(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// ledger collects a report from the goroutines of many calls.
type ledger struct {
	keepIDs bool

	mu      sync.Mutex
	report  Report
	latency histogram
	first   time.Time // when the first callback began
}

func newLedger(keepIDs bool) ledger {
	return ledger{keepIDs: keepIDs, report: Report{
		Kinds: make(map[string]int), Answers: make(map[int]int), Retries: make(map[int]int),
	}}
}

// begin notes that a callback is being sent.
func (l *ledger) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first.IsZero() {
		l.first = time.Now()
	}
}

// attempt counts one POST.
func (l *ledger) attempt(d *Callback, a *Attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.report
	r.Bytes += int64(a.Bytes)
	r.Elapsed = time.Since(l.first)
	if a.Status == 200 {
		l.latency.add(a.Latency)
	}
	if !a.Final {
		r.Retries[a.Status]++
		return
	}
	r.Callbacks++
	r.Kinds[a.Kind]++
	r.Answers[a.Status]++
	if a.Expected || a.Abandoned {
		return
	}
	r.Unexpected++
	if len(r.Mismatches) < maxMismatches {
		m := Mismatch{Kind: a.Kind, Type: a.Type, Event: a.First.MsgID(), Want: d.Bearer.Want(), Got: a.Status}
		if a.Err != nil {
			m.Error = a.Err.Error()
		}
		r.Mismatches = append(r.Mismatches, m)
	}
}

// callDone counts the events of a call that has ended.
func (l *ledger) callDone(events callEvents, cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cut {
		l.report.CutCalls++
	} else {
		l.report.Calls++
	}
	for id, stored := range events {
		switch {
		case !stored:
			l.report.Uncertain++
		case l.keepIDs:
			l.report.StoredIDs = append(l.report.StoredIDs, id)
			fallthrough
		default:
			l.report.Stored++
		}
	}
}

// snapshot returns a copy of the report so far.
func (l *ledger) snapshot() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.report
	r.Kinds, r.Answers, r.Retries = maps.Clone(r.Kinds), maps.Clone(r.Answers), maps.Clone(r.Retries)
	r.StoredIDs, r.Mismatches = slices.Clone(r.StoredIDs), slices.Clone(r.Mismatches)
	r.Latency = Latency{
		P50: l.latency.quantile(0.50),
		P90: l.latency.quantile(0.90),
		P99: l.latency.quantile(0.99),
		Max: l.latency.max,
	}
	return r
}

// callEvents are the message ids of the events of one call, and whether each is
// certainly stored.
type callEvents map[string]bool

// note adds the events of a callback with a good token and its final attempt. An event
// with one answer 200 is stored, whatever the answer to a duplicate.
func (e callEvents) note(d *Callback, final Attempt) {
	if d.Bearer != BearerGood {
		return
	}
	for i := range d.Events {
		id := d.Events[i].MsgID()
		e[id] = e[id] || final.Status == 200
	}
}

// A histogram's buckets are at most 1/128 of their value wide, so a quantile
// is at most 0.8 % too high.
const (
	subBits    = 7
	subBuckets = 1 << subBits
	buckets    = (64 - subBits) * subBuckets
)

// histogram counts durations in 57 KiB however many there are: exactly below
// 256 ns, then with each power of two cut into 128 buckets.
type histogram struct {
	counts [buckets]int64
	total  int64
	max    time.Duration
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))]++
	h.total++
	h.max = max(h.max, d)
}

// quantile returns the smallest bound that q of all durations do not pass.
// Zero when there are none.
func (h *histogram) quantile(q float64) time.Duration {
	rank := int64(math.Ceil(q * float64(h.total)))
	var seen int64
	for i, n := range h.counts {
		if seen += n; n > 0 && seen >= rank {
			return min(upperBound(i), h.max)
		}
	}
	return 0
}

// bucket returns the index of v: its highest eight bits and how far they are
// shifted.
func bucket(v uint64) int {
	shift := max(bits.Len64(v)-subBits-1, 0)
	return shift<<subBits + int(v>>shift)
}

// upperBound returns the largest value of a bucket.
func upperBound(i int) time.Duration {
	if i < 2*subBuckets {
		return time.Duration(i)
	}
	shift := i>>subBits - 1
	top := uint64(i - shift<<subBits)
	return time.Duration((top+1)<<shift - 1)
}
