package consume

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one service. Labels come from closed sets; the service is a constant one.
type metrics struct {
	handled  *prometheus.CounterVec // outcome
	skipped  *prometheus.CounterVec // reason
	dead     *prometheus.CounterVec // reason
	removed  *prometheus.CounterVec // slot
	lost     prometheus.Counter
	owned    prometheus.Gauge
	parked   *prometheus.GaugeVec // slot
	lag      *prometheus.GaugeVec // slot
	taken    prometheus.Counter
	duration prometheus.Histogram
}

// Outcomes of acsbridge_consume_handled_total.
const (
	outcomeDone   = "done"
	outcomeFailed = "failed"
	outcomeDead   = "dead"
)

// Reasons of acsbridge_consume_skipped_total.
const (
	skippedDuplicate = "duplicate" // the message id was handled
	skippedType      = "type"      // a CallDisconnected that the service did not ask for
	skippedReplay    = "replay"
	skippedExpired   = "expired"   // an incoming call that does not ring any more
	skippedOver      = "over"      // the call has ended
	skippedSatisfied = "satisfied" // a timeout whose event came before it
	skippedLost      = "lost"      // parked for longer than the stream keeps events
)

func newMetrics(service string) *metrics {
	labels := prometheus.Labels{"service": service}
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "acsbridge_consume_" + name, Help: help, ConstLabels: labels}
	}
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Name: "acsbridge_consume_" + name, Help: help, ConstLabels: labels}
	}
	m := &metrics{
		handled: prometheus.NewCounterVec(counter("handled_total",
			"Attempts at events, by outcome: done, failed (tried again), dead (a dead letter)."), []string{"outcome"}),
		skipped: prometheus.NewCounterVec(counter("skipped_total",
			"Events that the handler did not get, by reason. Alert on lost: they were parked for longer than the stream keeps events."), []string{"reason"}),
		dead: prometheus.NewCounterVec(counter("dead_letters_total",
			"Events that went to the dead-letter stream, by reason."), []string{"reason"}),
		removed: prometheus.NewCounterVec(counter("removed_messages_total",
			"Messages, of any slot and type, that the stream removed before the service had read a slot so far, by that slot."), []string{"slot"}),
		lost: prometheus.NewCounter(counter("dead_letters_lost_total",
			"Events that were given up after the stream had removed them, so that there is no dead letter.")),
		owned: prometheus.NewGauge(gauge("slots", "Slots that this replica owns, of the service's 16.")),
		parked: prometheus.NewGaugeVec(gauge("parked_calls",
			"Calls that wait after a failure, by slot."), []string{"slot"}),
		lag: prometheus.NewGaugeVec(gauge("lag",
			"Events that the consumer of a slot has not delivered."), []string{"slot"}),
		taken: prometheus.NewCounter(counter("slots_taken_total", "How often this replica took a slot.")),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "acsbridge_consume_handle_duration_seconds", Help: "How long handlers take.", ConstLabels: labels,
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
	}
	for _, outcome := range []string{outcomeDone, outcomeFailed, outcomeDead} {
		m.handled.WithLabelValues(outcome)
	}
	for _, reason := range []string{skippedDuplicate, skippedType, skippedReplay, skippedExpired, skippedOver, skippedSatisfied, skippedLost} {
		m.skipped.WithLabelValues(reason)
	}
	for _, reason := range []string{reasonPermanent, reasonAttempts, reasonAge, reasonQueueFull, reasonTooManyParked} {
		m.dead.WithLabelValues(reason)
	}
	for i := range slots { // so that the first loss is an increase
		m.removed.WithLabelValues(slots[i : i+1])
	}
	return m
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.handled, m.skipped, m.dead, m.removed, m.lost, m.owned, m.parked, m.lag, m.taken, m.duration}
}

// count notes an outcome that was stored.
func (m *metrics) count(o *outcome) {
	switch {
	case o.unburied != nil && !o.buried: // counted when it is a dead letter
	case o.buried:
		m.handled.WithLabelValues(outcomeDead).Inc()
	case o.err != nil:
		m.handled.WithLabelValues(outcomeFailed).Inc()
	case o.skipped != "":
		m.skipped.WithLabelValues(o.skipped).Inc()
	default:
		m.handled.WithLabelValues(outcomeDone).Inc()
	}
}
