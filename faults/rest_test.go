package faults_test

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/schemas"
)

// footprint is what a bridge takes of its machine.
type footprint struct{ goroutines, files, memory float64 }

func (f footprint) String() string {
	return fmt.Sprintf("%.0f goroutines, %.0f files, %.0f MiB", f.goroutines, f.files, f.memory/(1<<20))
}

func (b *bridge) footprint() footprint {
	m := b.metrics()
	return footprint{m["go_goroutines"], m["process_open_fds"], m["process_resident_memory_bytes"]}
}

const (
	// restsWithin is how long a bridge has to return to its footprint.
	restsWithin = 30 * time.Second
	// slack is what the footprint may be above that before the load, in
	// addition to a tenth: a connection or two are being opened or closed.
	slack = 4
	// maxMemory bounds what a bridge takes after any fault. It is no tenth
	// above what it took before the load: Go gives memory back in minutes, and
	// the records that the journal keeps at hand (32 MiB at most) and the
	// requests of the load belong to the work.
	maxMemory = 256 << 20
)

// rest checks that the bridge, left alone, comes back to what it took before
// the load (O8).
func (w *world) rest() {
	w.Helper()
	var now footprint
	deadline := time.Now().Add(restsWithin)
	for {
		now = w.bridge.footprint()
		if now.goroutines <= w.base.goroutines*1.1+slack && now.files <= w.base.files*1.1+slack {
			break
		}
		if time.Now().After(deadline) {
			w.Errorf("O8: the bridge does not come to rest: %v before the load, %v after it", w.base, now)
			return
		}
		w.pause(100 * time.Millisecond)
	}
	if now.memory > maxMemory {
		w.Errorf("O8: the bridge takes %v", now)
	}
	w.Logf("at rest: %v before the load, %v after it", w.base, now)
}

// counters compares the bridge's own figures with what the sender and the
// stream know (O9). A process that was killed took its figures along, so only
// one that has lived through everything can be asked.
func (w *world) counters(found evidence) {
	w.Helper()
	if w.bridge.starts > 1 {
		return
	}
	answered, unanswered := make(map[int]float64), 0.0
	for _, c := range slices.Concat(found.calls...) {
		for _, a := range c.attempts {
			if a.status == 0 {
				unanswered++
			} else {
				answered[a.status]++
			}
		}
	}
	figures := w.bridge.metrics()
	var drift float64
	for _, status := range []int{http.StatusOK, http.StatusUnauthorized, http.StatusNotFound, http.StatusServiceUnavailable} {
		counted := sum(figures, "acsbridge_requests_total{", fmt.Sprintf(`code="%d"`, status))
		if counted < answered[status] {
			w.Errorf("O9: %v answers %d came, the bridge counts %v", answered[status], status, counted)
		}
		drift += math.Abs(counted - answered[status])
	}
	if drift > unanswered {
		w.Errorf("O9: the bridge counts %v answers more than came, and only %v attempts were without one", drift, unanswered)
	}
	events := 0.0
	for _, m := range found.stream {
		if m.stream == schemas.Stream {
			events++
		}
	}
	if counted := sum(figures, "acsbridge_published_total{", `outcome="stored"`); counted != events {
		w.Errorf("O9: the stream holds %v events, the bridge counts %v", events, counted)
	}
}

// sum adds up the figures of a metric that have a label.
func sum(figures map[string]float64, metric, label string) (total float64) {
	for name, value := range figures {
		if strings.HasPrefix(name, metric) && strings.Contains(name, label) {
			total += value
		}
	}
	return total
}
