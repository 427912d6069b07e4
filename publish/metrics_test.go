package publish_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/publish/journal"
	"github.com/acsbridge/acsbridge/schemas"
)

// scrape returns the value of every gauge and counter, and the count of every
// histogram, by name and label values.
func scrape(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			switch f.GetType() {
			case dto.MetricType_GAUGE:
				values[name] = m.GetGauge().GetValue()
			case dto.MetricType_COUNTER:
				values[name] = m.GetCounter().GetValue()
			case dto.MetricType_HISTOGRAM:
				values[name] = float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return values
}

func expect(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for name, w := range want {
		if g, ok := got[name]; !ok || g != w {
			t.Errorf("%s: got %v, want %v", name, g, w)
		}
	}
}

func TestMetrics_gaugesDuringAnOutage(t *testing.T) {
	server := natstest.Start(t)
	server.Stop()
	reg := prometheus.NewRegistry()
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir(), Registerer: reg})
	hourOld := delivery()
	hourOld.ReceivedAt = time.Now().Add(-time.Hour)
	if err := b.Publish(context.Background(), claims(t), hourOld, []schemas.Inbound{event("a", 1), event("a", 2)}); err != nil {
		t.Fatal(err)
	}
	outage := scrape(t, reg)
	expect(t, outage, map[string]float64{
		"acsbridge_nats_connected": 0, "acsbridge_forwarder_sending": 0, "acsbridge_journal_failing": 0,
		"acsbridge_journal_records": 2, "acsbridge_forwarder_lag_records": 2,
		"acsbridge_durable_duration_seconds": 1, "acsbridge_ack_duration_seconds": 0,
		"acsbridge_events_total PlayCompleted": 2, "acsbridge_events_total other": 0,
		"acsbridge_journal_max_bytes": journal.DefaultMaxBytes,
	})
	if n := outage["acsbridge_journal_bytes"]; n < 500 || n > 5000 {
		t.Errorf("two records take %v bytes", n)
	}
	if age := outage["acsbridge_journal_oldest_age_seconds"]; age < 3600 || age > 3700 {
		t.Errorf("oldest record: %v s", age)
	}

	server.Restart()
	b.drained()
	natstest.Until(t, func() bool { return b.Status().Sending })
	expect(t, scrape(t, reg), map[string]float64{
		"acsbridge_nats_connected": 1, "acsbridge_forwarder_sending": 1,
		"acsbridge_journal_oldest_age_seconds": 0, "acsbridge_forwarder_lag_records": 0,
		"acsbridge_ack_duration_seconds": 2, "acsbridge_published_total stored contoso": 2,
	})

	before := scrape(t, reg)["acsbridge_forwarder_failures_total"]
	server.Stop()
	b.publish("a", 3, 3)
	natstest.Until(t, func() bool { return scrape(t, reg)["acsbridge_forwarder_failures_total"] > before })
}

// TestCounters_existFromTheStart holds that an alert on an increase sees the first
// event: a counter that is born with a 1 has not increased.
func TestCounters_existFromTheStart(t *testing.T) {
	reg := prometheus.NewRegistry()
	start(t, natstest.Start(t).URL(), publish.Options{Dir: t.TempDir(), Registerer: reg, Resources: []string{"contoso", "_"}})
	want := map[string]float64{"acsbridge_conflicts_total": 0, "acsbridge_lookback_messages_total": 0}
	for _, reason := range []string{"corrupt", "too_large", "bad_subject", "quarantine"} {
		want["acsbridge_dead_letters_total "+reason] = 0
	}
	for _, outcome := range []string{"stored", "duplicate", "quarantined", "dead_letter"} {
		want["acsbridge_published_total "+outcome+" contoso"], want["acsbridge_published_total "+outcome+" _"] = 0, 0
	}
	got := scrape(t, reg)
	expect(t, got, want)
	if _, ok := got["acsbridge_forwarder_failures_total"]; !ok {
		t.Error("no series of failures")
	}
}

// TestDurations_areNotBelowZero has the clock set back after a callback came: the sum
// of a histogram that falls looks like a restart.
func TestDurations_areNotBelowZero(t *testing.T) {
	reg := prometheus.NewRegistry()
	b := start(t, natstest.Start(t).URL(), publish.Options{Dir: t.TempDir(), Registerer: reg})
	ahead := delivery()
	ahead.ReceivedAt = time.Now().Add(time.Hour)
	if err := b.Publish(context.Background(), claims(t), ahead, []schemas.Inbound{event("a", 1)}); err != nil {
		t.Fatal(err)
	}
	b.drained()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if h := m.GetHistogram(); h.GetSampleCount() > 0 {
				seen++
				if h.GetSampleSum() < 0 {
					t.Errorf("%s sums up to %v", f.GetName(), h.GetSampleSum())
				}
			}
		}
	}
	if seen != 2 {
		t.Errorf("%d durations were observed, want 2", seen)
	}
}

// TestMetrics_eventsOfUnknownTypes holds that a sender cannot add to the labels.
func TestMetrics_eventsOfUnknownTypes(t *testing.T) {
	reg := prometheus.NewRegistry()
	b := start(t, natstest.Start(t).URL(), publish.Options{Dir: t.TempDir(), Registerer: reg})
	unknown := event("a", 1)
	unknown.Type = "Microsoft.Communication.NewThing"
	if err := b.Publish(t.Context(), claims(t), delivery(), []schemas.Inbound{unknown}); err != nil {
		t.Fatal(err)
	}
	got := scrape(t, reg)
	expect(t, got, map[string]float64{"acsbridge_events_total other": 1, "acsbridge_events_total PlayCompleted": 0})
	if strings.Contains(fmt.Sprint(got), "NewThing") {
		t.Error("an unknown type is a label")
	}
}

func TestMetrics_withoutAJournal(t *testing.T) {
	server := natstest.Start(t)
	reg := prometheus.NewRegistry()
	b := start(t, server.URL(), publish.Options{Registerer: reg})
	server.Await(schemas.QuarantineStream, 0)
	b.publish("a", 1, 2)
	b.quarantine("one")
	got := scrape(t, reg)
	for name := range got {
		if strings.HasPrefix(name, "acsbridge_journal") || strings.HasPrefix(name, "acsbridge_forwarder_lag") {
			t.Errorf("unexpected %s", name)
		}
	}
	expect(t, got, map[string]float64{
		"acsbridge_nats_connected": 1, "acsbridge_durable_duration_seconds": 3, "acsbridge_ack_duration_seconds": 3,
		"acsbridge_published_total stored contoso": 2, "acsbridge_published_total quarantined contoso": 1,
	})
}
