package publish

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/schemas"
)

// metrics of the publish room. Labels come from configuration and closed sets.
type metrics struct {
	byType      *prometheus.CounterVec        // type
	events      map[string]prometheus.Counter // byType's, so that an event needs one look-up
	published   *prometheus.CounterVec        // resource, outcome
	deadLetters *prometheus.CounterVec        // reason
	failures    prometheus.Counter
	lookback    prometheus.Counter
	conflicts   prometheus.Counter
	truncated   *prometheus.CounterVec // header
	badTimes    prometheus.Counter
	durable     prometheus.Histogram
	acked       prometheus.Histogram
	exemplars   bool // durations have the trace of their record
}

// seconds are the buckets of both durations: from a fast fsync to the answer's
// own limit of 5 s, and on to outages.
var seconds = []float64{.0002, .0005, .001, .002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 30, 300}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: seconds})
	}
	m := &metrics{
		events:      make(map[string]prometheus.Counter),
		published:   counters("acsbridge_published_total", "Records that left the bridge, by resource and outcome; the stream had a duplicate already.", "resource", "outcome"),
		deadLetters: counters("acsbridge_dead_letters_total", "Records that went to a dead-letter file, by reason.", "reason"),
		failures:    counter("acsbridge_forwarder_failures_total", "Failures after which forwarding began again at the first record without an acknowledgement."),
		lookback:    counter("acsbridge_lookback_messages_total", "Messages read from the end of the stream after an outage, to find records that it has already."),
		conflicts:   counter("acsbridge_conflicts_total", "Events that had the id of another one in the stream and went to quarantine."),
		truncated:   counters("acsbridge_truncated_headers_total", "Headers of messages that were cut, or left out, at their bound.", "header"),
		badTimes:    counter("acsbridge_unreadable_times_total", "Events whose time is not a date and time. Their messages have no ce-time."),
		durable:     histogram("acsbridge_durable_duration_seconds", "From the arrival of a callback until its events were durable."),
		acked:       histogram("acsbridge_ack_duration_seconds", "From the arrival of a callback until the stream acknowledged an event of it."),
	}
	byType := counters("acsbridge_events_total", "Events made durable, repeated ones included, by type: those of the catalogue (acsbridge events), and other.", "type")
	for _, t := range schemas.Types() {
		m.events[t.Name] = byType.WithLabelValues(t.Name)
	}
	m.events[typeOther] = byType.WithLabelValues(typeOther)
	m.byType = byType
	for _, name := range cuttable {
		m.truncated.WithLabelValues(name)
	}
	return m
}

// typeOther is the type of events that the catalogue lacks: types are an open set, and
// a label is not.
const typeOther = "other"

// Outcomes of acsbridge_published_total.
const (
	outcomeStored      = "stored"
	outcomeDuplicate   = "duplicate"
	outcomeQuarantined = "quarantined"
	outcomeDeadLetter  = "dead_letter"
)

// register adds the metrics, and the gauges that are read when scraped. All
// counters exist from the start, so that an alert sees the first event.
func (m *metrics) register(reg prometheus.Registerer, p *Publisher) {
	if reg == nil {
		return
	}
	for _, resource := range p.opts.Resources {
		for _, outcome := range []string{outcomeStored, outcomeDuplicate, outcomeQuarantined, outcomeDeadLetter} {
			m.published.WithLabelValues(resource, outcome)
		}
	}
	for _, reason := range []string{reasonCorrupt, reasonTooLarge, reasonBadSubject, reasonQuarantine} {
		m.deadLetters.WithLabelValues(reason)
	}
	reg.MustRegister(m.byType, m.published, m.deadLetters, m.failures, m.lookback, m.conflicts, m.truncated, m.badTimes, m.durable, m.acked)
	gauge := func(name, help string, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("acsbridge_nats_connected", "1 while NATS is connected.", func() float64 { connected, _ := p.link.State(); return flag(connected) })
	if p.journal == nil {
		return
	}
	gauge("acsbridge_journal_bytes", "Bytes of records in the journal, acknowledged ones included until it is truncated.", func() float64 { return float64(p.journal.Stats().Bytes) })
	gauge("acsbridge_journal_max_bytes", "Bytes of records and dead letters that the journal holds at most (--journal-max-bytes).", func() float64 { return float64(p.opts.Journal.MaxBytes) })
	gauge("acsbridge_journal_records", "Records in the journal, acknowledged ones included until it is truncated.", func() float64 { return float64(p.journal.Stats().Records) })
	gauge("acsbridge_journal_failing", "1 after a failed append.", func() float64 { return flag(p.journal.Stats().Failing) })
	gauge("acsbridge_journal_oldest_age_seconds", "Age of the oldest record that the stream has not acknowledged.", func() float64 { return p.forwarder.oldest().Seconds() })
	gauge("acsbridge_forwarder_lag_records", "Records that the stream has not acknowledged.", func() float64 { return float64(p.forwarder.lag()) })
	gauge("acsbridge_quarantine_waiting_records", "Callbacks and conflicts that the quarantine stream has not acknowledged.", func() float64 { return float64(p.quarantine.lag()) })
	gauge("acsbridge_forwarder_sending", "1 while the stream takes records, 0 from a failure to the next record that it takes.", func() float64 { return flag(p.Status().Sending) })
}

// incomplete counts what the headers of records lack of their callback. Events
// has those that the records are of; none for a callback in quarantine.
func (m *metrics) incomplete(records []*record, events []schemas.Inbound) {
	for i, r := range records {
		timed := i >= len(events) || events[i].Time == ""
		for _, h := range r.headers {
			switch h.Name {
			case schemas.HeaderTruncated:
				for name := range strings.SplitSeq(h.Value, ",") {
					m.truncated.WithLabelValues(name).Inc()
				}
			case schemas.HeaderEventTime:
				timed = true
			}
		}
		if !timed {
			m.badTimes.Inc()
		}
	}
}

// countEvents counts the events of a callback that was made durable.
func (m *metrics) countEvents(events []schemas.Inbound) {
	for i := range events {
		counter := m.events[schemas.ShortType(events[i].Type)]
		if counter == nil {
			counter = m.events[typeOther]
		}
		counter.Inc()
	}
}

// stored counts a record that the stream has.
func (m *metrics) stored(r *record, duplicate bool) {
	outcome := outcomeStored
	switch {
	case r.stream == schemas.QuarantineStream:
		outcome = outcomeQuarantined
	case duplicate:
		outcome = outcomeDuplicate
	}
	m.published.WithLabelValues(r.resource(), outcome).Inc()
	m.observe(m.acked, r.receivedAt, r)
}

// observe observes the time since a record's callback arrived.
func (m *metrics) observe(h prometheus.Histogram, since time.Time, r *record) {
	if m.exemplars {
		if id, ok := r.traceID(); ok {
			h.(prometheus.ExemplarObserver).ObserveWithExemplar(secondsSince(since), prometheus.Labels{"trace_id": id})
			return
		}
	}
	h.Observe(secondsSince(since))
}

// secondsSince is not below zero: a record of an earlier start has the wall clock
// alone, which may have been set back, and the sum of a histogram must not fall.
func secondsSince(t time.Time) float64 { return max(0, time.Since(t).Seconds()) }

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
