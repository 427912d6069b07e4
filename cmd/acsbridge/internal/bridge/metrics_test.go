package bridge

import (
	"flag"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

var update = flag.Bool("update", false, "rewrite the reference of docs/operations.md")

// The page has the reference of all metrics between two marks.
const (
	operationsPage = "../../../../docs/operations.md"
	referenceStart = "<!-- metrics: written by go test ./cmd/acsbridge/internal/bridge -update -->\n"
	referenceEnd   = "<!-- end of metrics -->\n"
)

// everyMetric returns a bridge that has all the metrics there are.
func everyMetric(t *testing.T) *Bridge {
	t.Helper()
	cert, key := bridgetest.PairFiles(t)
	return idleBridge(t, onLoopback(t, gridArgs("--tls-cert="+cert, "--tls-key="+key, "--resource=contoso="+testGUID,
		"--callback-key=new="+bridgetest.WriteFile(t, "callback", testSecret), "--eventgrid-key=new="+bridgetest.WriteFile(t, "grid", otherSecret))...))
}

// TestMetrics_page checks that the page for operators has every metric as the
// bridge registers it.
func TestMetrics_page(t *testing.T) {
	bridgetest.Reference(t, operationsPage, referenceStart, referenceEnd, metricsReference(t), *update)
	known := registered(t, everyMetric(t))
	for _, page := range []string{"docs/operations.md", "docs/deployment.md"} {
		for _, name := range metricName.FindAllString(bridgetest.ReadFile(t, "../../../../"+page), -1) {
			if known[name] == nil {
				t.Errorf("%s names %s, which does not exist", page, name)
			}
		}
	}
}

// metric is one as it is registered.
type metric struct {
	name, help string
	labels     []string // of a series, in order, with those of the registry first
	family     *dto.MetricFamily
}

// registered returns a bridge's own metrics by name.
func registered(t *testing.T, b *Bridge) map[string]*metric {
	t.Helper()
	metrics := map[string]*metric{}
	descriptions := make(chan *prometheus.Desc)
	go func() {
		// Described, not only gathered: a vector without values shows nothing yet.
		b.registry.Describe(descriptions)
		close(descriptions)
	}()
	for d := range descriptions {
		if m := description.FindStringSubmatch(d.String()); m != nil {
			labels := append(labelName.FindAllString(constLabel.ReplaceAllString(m[3], "$1 "), -1), labelName.FindAllString(m[4], -1)...)
			metrics[m[1]] = &metric{name: m[1], help: m[2], labels: labels}
		}
	}
	families, err := b.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if m := metrics[f.GetName()]; m != nil {
			m.family = f
		}
	}
	return metrics
}

var (
	description = regexp.MustCompile(`^Desc\{fqName: "(acsbridge_\w+)", help: "(.*?)", (?:unit: "", )?constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)
	constLabel  = regexp.MustCompile(`(\w+)="[^"]*"`)
	labelName   = regexp.MustCompile(`\w+`)
	metricName  = regexp.MustCompile(`\bacsbridge_[a-z0-9_]*[a-z]\b`)
)

// open are labels whose values the reference leaves out: they are not known from the
// start, or the page has them elsewhere.
var open = []string{"resource", "key", "version", "goversion", "part", "profile", "code", "header", "type"}

// metricsReference is one table, sorted by name.
func metricsReference(t *testing.T) string {
	var b strings.Builder
	b.WriteString("\n| metric | meaning |\n|---|---|\n")
	metrics := registered(t, everyMetric(t))
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		m := metrics[name]
		title, meaning := name, m.help
		if len(m.labels) > 0 {
			title += "{" + strings.Join(m.labels, ", ") + "}"
		}
		for _, label := range m.labels {
			values := m.values(label)
			inHelp := !slices.ContainsFunc(values, func(value string) bool { return !strings.Contains(m.help, value) })
			if !inHelp && !slices.Contains(open, label) {
				meaning += fmt.Sprintf(" `%s`: %s.", label, strings.Join(values, ", "))
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", title, meaning)
	}
	return b.String() + "\n"
}

// values returns the values that a label has from the start, sorted.
func (m *metric) values(label string) []string {
	found := map[string]bool{}
	for _, series := range m.family.GetMetric() {
		for _, pair := range series.GetLabel() {
			if pair.GetName() == label && pair.GetValue() != "" {
				found[pair.GetValue()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// TestMetrics_existFromTheStart holds that every counter is there before anything has
// happened: an alert on an increase does not see a counter that is born with a 1.
func TestMetrics_existFromTheStart(t *testing.T) {
	metrics := registered(t, everyMetric(t))
	for name, m := range metrics {
		if strings.HasSuffix(name, "_total") && len(m.family.GetMetric()) == 0 {
			t.Errorf("%s is not there", name)
		}
	}
	if got := len(metrics["acsbridge_published_total"].family.GetMetric()); got != 8 {
		t.Errorf("%d series of records, want 4 outcomes of contoso and of none", got)
	}
}
