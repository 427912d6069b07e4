package consume_test

import (
	"flag"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
)

var update = flag.Bool("update", false, "rewrite the metrics of docs/operations.md")

// TestMetrics_page checks that the page for operators has every metric of a service, and
// that every counter exists from the start.
func TestMetrics_page(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(consume.Collectors("ivr")...)
	metrics := bridgetest.Metrics(t, registry)
	bridgetest.Reference(t, "../docs/operations.md", "<!-- metrics of services: written by go test ./consume -run Metrics_page -update -->\n",
		"<!-- end of metrics of services -->\n", bridgetest.MetricsTable(metrics, "service", "slot"), *update)
	for _, page := range []string{"../docs/operations.md", "../docs/consuming.md"} {
		for _, name := range regexp.MustCompile(`\bacsbridge_consume_[a-z_]*[a-z]\b`).FindAllString(bridgetest.ReadFile(t, page), -1) {
			if metrics[name] == nil {
				t.Errorf("%s names %s, which does not exist", page, name)
			}
		}
	}
	for name, m := range metrics {
		if strings.HasSuffix(name, "_total") && len(m.Family.GetMetric()) == 0 && strings.Join(m.Labels, " ") != "service slot" {
			t.Errorf("%s is not there from the start", name)
		}
	}
}
