package bridgetest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Metric is one as it is registered.
type Metric struct {
	Name, Help string
	Labels     []string // of a series, in order, with those of the registry first
	Family     *dto.MetricFamily
}

// Metrics returns the metrics of a registry whose names begin with acsbridge_, by name.
func Metrics(t testing.TB, registry *prometheus.Registry) map[string]*Metric {
	t.Helper()
	metrics := map[string]*Metric{}
	descriptions := make(chan *prometheus.Desc)
	go func() {
		// Described, not only gathered: a vector without values shows nothing yet.
		registry.Describe(descriptions)
		close(descriptions)
	}()
	for d := range descriptions {
		if m := description.FindStringSubmatch(d.String()); m != nil {
			labels := append(labelName.FindAllString(constLabel.ReplaceAllString(m[3], "$1 "), -1), labelName.FindAllString(m[4], -1)...)
			metrics[m[1]] = &Metric{Name: m[1], Help: m[2], Labels: labels}
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if m := metrics[f.GetName()]; m != nil {
			m.Family = f
		}
	}
	return metrics
}

var (
	description = regexp.MustCompile(`^Desc\{fqName: "(acsbridge_\w+)", help: "(.*?)", (?:unit: "", )?constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)
	constLabel  = regexp.MustCompile(`(\w+)="[^"]*"`)
	labelName   = regexp.MustCompile(`\w+`)
)

// MetricsTable is the reference of metrics for a page, sorted by name. It leaves out the
// values of the labels in open.
func MetricsTable(metrics map[string]*Metric, open ...string) string {
	var b strings.Builder
	b.WriteString("\n| metric | meaning |\n|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		m := metrics[name]
		title, meaning := name, m.Help
		if len(m.Labels) > 0 {
			title += "{" + strings.Join(m.Labels, ", ") + "}"
		}
		for _, label := range m.Labels {
			values := m.values(label)
			inHelp := !slices.ContainsFunc(values, func(value string) bool { return !strings.Contains(m.Help, value) })
			if !inHelp && !slices.Contains(open, label) {
				meaning += fmt.Sprintf(" `%s`: %s.", label, strings.Join(values, ", "))
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", title, meaning)
	}
	return b.String() + "\n"
}

// values returns the values that a label has from the start, sorted.
func (m *Metric) values(label string) []string {
	found := map[string]bool{}
	for _, series := range m.Family.GetMetric() {
		for _, pair := range series.GetLabel() {
			if pair.GetName() == label && pair.GetValue() != "" {
				found[pair.GetValue()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
