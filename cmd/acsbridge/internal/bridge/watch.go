package bridge

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// watchInterval is how often the bridge looks for what goes wrong slowly. It says
// so within seconds; a look reads a few small files and asks NATS once, which
// takes about a millisecond.
const watchInterval = 5 * time.Second

// condition is one thing that is not well, as a look finds it. It is the same one
// as long as its key is.
type condition struct {
	key string
	note
	// state is what the warning depends on: it is repeated when that changes.
	// The text of the note may also hold figures that always change.
	state string
}

// watch looks at intervals for what goes wrong slowly, warns when something is
// new, and keeps it for /readyz until a look does not find it any more.
type watch struct {
	logger *slog.Logger
	looks  []func(context.Context) []condition

	mu    sync.Mutex
	found []condition
}

// makeWatch wires the looks. What the journal holds is read before anything of it
// is sent.
func (b *Bridge) makeWatch() error {
	b.compareSettings()
	b.watch = &watch{logger: b.logger, looks: []func(context.Context) []condition{
		b.expiries(), b.oldKeys, b.disk(), b.deadLetters(), b.quarantined(), b.journaled(),
	}}
	b.registry.MustRegister(noteCounter{b.notes})
	return nil
}

// gauge returns a gauge of the bridge's registry.
func (b *Bridge) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	b.registry.MustRegister(g)
	return g
}

// run looks until ctx ends.
func (w *watch) run(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.look(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// look looks once.
func (w *watch) look(ctx context.Context) {
	var found []condition
	present := make(map[string]string)
	for _, look := range w.looks {
		for _, c := range look(ctx) {
			found = append(found, c)
			present[c.key] = c.state
		}
	}
	w.mu.Lock()
	before := w.found
	w.found = found
	w.mu.Unlock()
	known := make(map[string]string)
	for _, c := range before {
		known[c.key] = c.state
		if _, ok := present[c.key]; !ok {
			w.logger.Info("over, and not in /readyz any more", "part", c.part, "note", c.text)
		}
	}
	for _, c := range found {
		if state, ok := known[c.key]; !ok || state != c.state {
			w.logger.Warn("not well, and in /readyz until it is over", "part", c.part, "note", c.text)
		}
	}
}

// notes returns what the last look found.
func (w *watch) notes() (list []note) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.found {
		list = append(list, c.note)
	}
	return list
}

// noteCounter is the metric that says how many notes /readyz has.
type noteCounter struct{ notes func() []note }

var notesMetric = prometheus.NewDesc("acsbridge_notes", "Lines with note in /readyz: what is not well although callbacks are taken, by part.", []string{"part"}, nil)

func (c noteCounter) Describe(descriptions chan<- *prometheus.Desc) { descriptions <- notesMetric }

func (c noteCounter) Collect(metrics chan<- prometheus.Metric) {
	counts := make(map[string]int)
	for _, n := range c.notes() {
		counts[n.part]++
	}
	for part, n := range counts {
		metrics <- prometheus.MustNewConstMetric(notesMetric, prometheus.GaugeValue, float64(n), part)
	}
}
