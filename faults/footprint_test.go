package faults_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/schemas"
)

// footprint are the resources of a bridge.
type footprint struct{ goroutines, files, memory float64 }

func (f footprint) String() string {
	return fmt.Sprintf("%.0f goroutines, %.0f files, %.0f MiB", f.goroutines, f.files, f.memory/(1<<20))
}

func (b *bridge) footprint() footprint {
	m := b.metrics()
	return footprint{m["go_goroutines"], m["process_open_fds"], m["process_resident_memory_bytes"]}
}

const (
	// footprintWithin is how long a bridge has to return to its footprint.
	footprintWithin = 30 * time.Second
	// slack is allowed above the footprint before the load, in addition to a tenth: some
	// connections are being opened or closed.
	slack = 4
	// maxMemory bounds the memory after any fault. It is not relative to the memory before
	// the load: Go returns memory after minutes, and the journal caches up to 32 MiB of
	// records.
	maxMemory = 256 << 20
)

// checkFootprint checks that the bridge returns to its footprint before the load (O8).
func (w *world) checkFootprint() {
	w.Helper()
	var now footprint
	deadline := time.Now().Add(footprintWithin)
	for {
		now = w.bridge.footprint()
		if now.goroutines <= w.base.goroutines*1.1+slack && now.files <= w.base.files*1.1+slack {
			break
		}
		if time.Now().After(deadline) {
			w.Errorf("O8: the bridge does not return to its footprint: %v before the load, %v after it", w.base, now)
			return
		}
		w.pause(100 * time.Millisecond)
	}
	bound := float64(maxMemory)
	if w.bridge.nats != nil {
		bound *= 2 // a NATS server with its caches is in the process
	}
	if now.memory > bound {
		w.Errorf("O8: the bridge has %v", now)
	}
	w.Logf("footprint: %v before the load, %v after it", w.base, now)
}

// counters compares the bridge's metrics with the evidence (O9), if the bridge was not
// restarted.
func (w *world) counters(found evidence) {
	w.Helper()
	if w.bridge.starts > 1 {
		return
	}
	for _, difference := range differences(w.bridge.metrics(), found) {
		w.Errorf("O9: %s", difference)
	}
}

// differences returns where a bridge's metrics are not those of the evidence.
func differences(figures map[string]float64, found evidence) (list []string) {
	answered, repeats := make(map[int]float64), 0.0
	for _, c := range slices.Concat(found.calls...) {
		for _, a := range c.attempts {
			answered[a.status]++
		}
		repeats += float64((len(c.attempts) - 1) * len(c.events))
	}
	unmatched := 0.0
	for status, n := range found.others {
		answered[status] += float64(n)
	}
	for _, status := range []int{http.StatusOK, http.StatusUnauthorized, http.StatusNotFound, http.StatusServiceUnavailable} {
		counted := sum(figures, "acsbridge_requests_total{", fmt.Sprintf(`code="%d"`, status))
		if counted < answered[status] {
			list = append(list, fmt.Sprintf("%v answers %d came, the bridge counts %v", answered[status], status, counted))
		}
		unmatched += max(counted-answered[status], 0)
	}
	if unmatched > answered[0] {
		list = append(list, fmt.Sprintf("the bridge counts %v answers more than came, and only %v attempts had none", unmatched, answered[0]))
	}
	events := 0.0
	for _, m := range found.stream {
		if m.stream == schemas.Stream {
			events++
		}
	}
	// A repeated event can count as stored when neither its answer nor that of the first
	// copy arrived: the bridge does not know which of the two is the duplicate.
	stored := sum(figures, "acsbridge_published_total{", `outcome="stored"`)
	if stored < events || stored > events+repeats {
		list = append(list, fmt.Sprintf("the stream holds %v events and %v were repeated, the bridge counts %v", events, repeats, stored))
	}
	return list
}

// sum adds the values of a metric with a label.
func sum(figures map[string]float64, metric, label string) (total float64) {
	for name, value := range figures {
		if strings.HasPrefix(name, metric) && strings.Contains(name, label) {
			total += value
		}
	}
	return total
}

// TestDifferences: metrics that do not match the evidence, except where the bridge cannot
// know.
func TestDifferences(t *testing.T) {
	call := []*callback{
		{kind: good, events: make([]event, 2), attempts: []attempt{{}, {status: http.StatusOK}}},
		{kind: good, events: make([]event, 1), attempts: []attempt{{status: http.StatusServiceUnavailable}, {status: http.StatusOK}}},
		{kind: forged, events: make([]event, 1), attempts: []attempt{{status: http.StatusUnauthorized}}},
	}
	found := evidence{calls: [][]*callback{call}, stream: []*message{
		{stream: schemas.Stream}, {stream: schemas.Stream}, {stream: schemas.Stream}, {stream: schemas.QuarantineStream},
	}}
	const (
		answers = `acsbridge_requests_total{code="`
		stored  = `acsbridge_published_total{outcome="stored",resource="demo"}`
	)
	figures := func(ok, refused, busy, events float64) map[string]float64 {
		return map[string]float64{
			answers + `200",route="callbacks"}`: ok, answers + `401",route="callbacks"}`: refused,
			answers + `503",route="callbacks"}`: busy, stored: events,
			`acsbridge_published_total{outcome="duplicate",resource="demo"}`: 9,
		}
	}
	for name, test := range map[string]struct {
		figures map[string]float64
		want    int
	}{
		"exact":                      {figures(2, 1, 1, 3), 0},
		"an answer was lost":         {figures(3, 1, 1, 3), 0},
		"more answers than attempts": {figures(4, 1, 1, 3), 1},
		"an answer too few":          {figures(1, 1, 1, 3), 1},
		"a refusal too few":          {figures(2, 0, 1, 3), 1},
		"an event too few":           {figures(2, 1, 1, 2), 1},
		"its own repetitions":        {figures(2, 1, 1, 6), 0},
		"events too many":            {figures(2, 1, 1, 7), 1},
		"none":                       {nil, 4},
	} {
		if got := differences(test.figures, found); len(got) != test.want {
			t.Errorf("%s: %d differences, want %d: %q", name, len(got), test.want, got)
		}
	}
}
