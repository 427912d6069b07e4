package bridge

import (
	"flag"
	"regexp"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
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
	known := registered(t, everyMetric(t))
	bridgetest.Reference(t, operationsPage, referenceStart, referenceEnd, bridgetest.MetricsTable(known, open...), *update)
	for _, page := range []string{"docs/operations.md", "docs/deployment.md"} {
		for _, name := range metricName.FindAllString(bridgetest.ReadFile(t, "../../../../"+page), -1) {
			if known[name] == nil && !ofServices.MatchString(name) {
				t.Errorf("%s names %s, which does not exist", page, name)
			}
		}
	}
}

var (
	metricName = regexp.MustCompile(`\bacsbridge_[a-z0-9_]*[a-z]\b`)
	ofServices = regexp.MustCompile(`^acsbridge_(consume|deliver)_`) // tests of their own look at them
)

// registered returns a bridge's own metrics by name.
func registered(t *testing.T, b *Bridge) map[string]*bridgetest.Metric {
	t.Helper()
	return bridgetest.Metrics(t, b.registry)
}

// open are labels whose values the reference leaves out: they are not known from the
// start, or the page has them elsewhere.
var open = []string{"resource", "key", "version", "goversion", "part", "profile", "code", "header", "type"}

// TestMetrics_existFromTheStart holds that every counter is there before anything has
// happened: an alert on an increase does not see a counter that is born with a 1.
func TestMetrics_existFromTheStart(t *testing.T) {
	metrics := registered(t, everyMetric(t))
	for name, m := range metrics {
		if strings.HasSuffix(name, "_total") && len(m.Family.GetMetric()) == 0 {
			t.Errorf("%s is not there", name)
		}
	}
	if got := len(metrics["acsbridge_published_total"].Family.GetMetric()); got != 8 {
		t.Errorf("%d series of records, want 4 outcomes of contoso and of none", got)
	}
}
