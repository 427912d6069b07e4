package bridge

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// TestPagesNameEveryMetric checks that the pages for operators name every
// metric that a bridge registers, and none that it does not.
func TestPagesNameEveryMetric(t *testing.T) {
	want := registeredMetrics(t)
	for _, page := range []string{"docs/operations.md", "CHANGELOG.md"} {
		got := distinct(metricName.FindAllString(readRoot(t, page), -1))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("metrics of %s (-registered +named):\n%s", page, diff)
		}
	}
}

// metricName matches a whole name; acsbridge_journal_* is a family of them.
var metricName = regexp.MustCompile(`\bacsbridge_[a-z0-9_]*[a-z]\b`)

// registeredMetrics returns the names of a bridge's own metrics, sorted.
func registeredMetrics(t *testing.T) []string {
	t.Helper()
	cert, key := writePair(t)
	b := idleBridge(t, onLoopback(t, "--tls-cert="+cert, "--tls-key="+key, "--resource=contoso="+testGUID))
	// Described, not gathered: a vector without values shows nothing yet.
	descriptions := make(chan *prometheus.Desc)
	go func() {
		b.registry.Describe(descriptions)
		close(descriptions)
	}()
	var names []string
	for d := range descriptions {
		names = append(names, metricName.FindAllString(d.String(), 1)...)
	}
	return distinct(names)
}

// TestCountersExistFromTheStart holds that every counter that the page names is
// there before anything has happened: an alert on an increase does not see a counter
// that is born with a 1.
func TestCountersExistFromTheStart(t *testing.T) {
	b := idleBridge(t, onLoopback(t, append(gridArgs(), "--resource=contoso="+testGUID,
		"--callback-key=new="+writeFile(t, "callback", testSecret), "--eventgrid-key=new="+writeFile(t, "grid", otherSecret))...))
	families, err := b.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]int{}
	for _, f := range families {
		there[f.GetName()] = len(f.GetMetric())
	}
	for _, name := range regexp.MustCompile("(?m)^\\| `(acsbridge_\\w+)`").FindAllStringSubmatch(readRoot(t, "docs/operations.md"), -1) {
		// What expires has a time only where there is such a thing.
		if there[name[1]] == 0 && !strings.Contains(name[1], "_credential_") && !strings.HasPrefix(name[1], "acsbridge_tls_") {
			t.Errorf("%s is not there", name[1])
		}
	}
	if got := there["acsbridge_published_total"]; got != 8 {
		t.Errorf("%d series of records, want 4 outcomes of contoso and of none", got)
	}
}

// distinct returns the names sorted, each once.
func distinct(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
