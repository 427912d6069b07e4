package bridge

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// watchInterval is how often the bridge checks for slow failures. A check
// reads a few small files and asks NATS once, which takes about a millisecond.
const watchInterval = 5 * time.Second

// condition is one problem that a check finds. It stays the same problem as long as
// its key is the same.
type condition struct {
	key string
	note
	// The warning is repeated when state changes. The text of the note may have
	// figures that always change.
	state string
}

// watch runs checks at intervals, warns of each new problem, and keeps it for /readyz
// until a check does not find it any more.
type watch struct {
	logger *slog.Logger
	checks []func(context.Context) []condition
	alive  func() // called after each round of checks; nil without a watchdog

	mu    sync.Mutex
	found []condition
}

// makeWatch makes the checks. The journal is read before any of its records is sent.
func (b *Bridge) makeWatch() error {
	b.compareSettings()
	b.watch = &watch{logger: b.logger, alive: b.watchdog(), checks: []func(context.Context) []condition{
		b.expiries(), b.oldKeys, b.disk(), b.deadLetters(), b.quarantined(), b.streamUsage(), b.journaled(),
	}}
	b.registry.MustRegister(noteCounter{b.notes}, readiness{b})
	return nil
}

// gauge returns a gauge of the bridge's registry.
func (b *Bridge) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	b.registry.MustRegister(g)
	return g
}

// run checks until ctx ends.
func (w *watch) run(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		if w.alive != nil {
			w.alive()
		}
		select {
		case <-tick.C:
			w.check(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// check runs every check once.
func (w *watch) check(ctx context.Context) {
	var found []condition
	present := make(map[string]string)
	for _, check := range w.checks {
		for _, c := range check(ctx) {
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
			w.logger.Info("problem is over, /readyz shows it no longer", "part", c.part, "note", c.text)
		}
	}
	for _, c := range found {
		if state, ok := known[c.key]; !ok || state != c.state {
			w.logger.Warn("problem found, /readyz shows it until it is over", "part", c.part, "note", c.text)
		}
	}
}

// notes returns what the last checks found.
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

// readiness is the metric that says what of /readyz is ok.
type readiness struct{ bridge *Bridge }

var readyMetric = prometheus.NewDesc("acsbridge_ready", "1 while a part of /readyz is ok, 0 while it is missing and callbacks get 503: process, keys, storage.", []string{"part"}, nil)

func (r readiness) Describe(descriptions chan<- *prometheus.Desc) { descriptions <- readyMetric }

func (r readiness) Collect(metrics chan<- prometheus.Metric) {
	for _, part := range r.bridge.readyParts() {
		value := 0.0
		name, _, ok := part()
		if ok {
			value = 1
		}
		metrics <- prometheus.MustNewConstMetric(readyMetric, prometheus.GaugeValue, value, name)
	}
}
