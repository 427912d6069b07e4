package main

import (
	"regexp"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
)

// TestDeliver_metricsPage checks that the page for operators has every metric of deliver.
func TestDeliver_metricsPage(t *testing.T) {
	registry := prometheus.NewRegistry()
	newDeliverMetrics().register(registry)
	metrics := bridgetest.Metrics(t, registry)
	bridgetest.Reference(t, "../../docs/operations.md", "<!-- metrics of deliver: written by go test ./cmd/acsbridge -run Deliver_metricsPage -update -->\n",
		"<!-- end of metrics of deliver -->\n", bridgetest.MetricsTable(metrics), *update)
	for _, page := range []string{"../../docs/operations.md", "../../docs/consuming.md"} {
		for _, name := range regexp.MustCompile(`\bacsbridge_deliver_[a-z_]*[a-z]\b`).FindAllString(bridgetest.ReadFile(t, page), -1) {
			if metrics[name] == nil {
				t.Errorf("%s names %s, which does not exist", page, name)
			}
		}
	}
}
