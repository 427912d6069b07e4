package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

const (
	rulesDir      = "../../deploy/prometheus"
	dashboardFile = "../../deploy/grafana/acsbridge.json"
	runbooks      = "https://github.com/acsbridge/acsbridge/blob/main/docs/operations.md#"
)

// alertRule is an alert of rules.yaml.
type alertRule struct {
	Alert       string
	Expr        string
	For         string
	Labels      struct{ Severity string }
	Annotations struct {
		Summary, Description string
		RunbookURL           string `yaml:"runbook_url"`
	}
}

// alertRules returns the alerts of deploy/prometheus/rules.yaml.
func alertRules(t *testing.T) (rules []alertRule) {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []alertRule
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(bridgetest.ReadFile(t, rulesDir+"/rules.yaml")))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	for _, group := range file.Groups {
		rules = append(rules, group.Rules...)
	}
	return rules
}

// dashboard is what the tests read of Grafana's format.
type dashboard struct {
	UID, Title string
	Templating struct {
		List []struct{ Name, Definition string }
	}
	Panels []struct {
		ID          int
		Type, Title string
		Datasource  struct{ UID string }
		GridPos     struct{ H, W, X, Y int }
		Targets     []struct {
			RefID, Expr, LegendFormat string
			Datasource                struct{ UID string }
		}
	}
}

func grafana(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(bridgetest.ReadFile(t, dashboardFile)), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestRules_runbooks checks that each alert leads to a section of the page for operators
// which names it, and that the page names no other.
func TestRules_runbooks(t *testing.T) {
	page := bridgetest.ReadFile(t, "../../docs/operations.md")
	sections := map[string]string{} // by anchor
	for _, section := range regexp.MustCompile(`(?m)^##+ `).Split(page, -1) {
		title, text, _ := strings.Cut(section, "\n")
		anchor := strings.ReplaceAll(strings.ToLower(title), " ", "-")
		sections[strings.ReplaceAll(anchor, "/", "")] = text
	}
	known := map[string]bool{}
	for _, r := range alertRules(t) {
		if known[r.Alert] {
			t.Errorf("there are two alerts %s", r.Alert)
		}
		known[r.Alert] = true
		anchor, ok := strings.CutPrefix(r.Annotations.RunbookURL, runbooks)
		if !ok || !strings.Contains(sections[anchor], "`"+r.Alert+"`") {
			t.Errorf("%s: %q is not a section of docs/operations.md that names it", r.Alert, r.Annotations.RunbookURL)
		}
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels.Severity) || r.Annotations.Summary == "" || r.Annotations.Description == "" {
			t.Errorf("%s lacks a severity, summary or description: %+v", r.Alert, r)
		}
	}
	for _, name := range regexp.MustCompile("`(Acsbridge[A-Za-z]+)`").FindAllStringSubmatch(page, -1) {
		if !known[name[1]] {
			t.Errorf("docs/operations.md names %s, which is not an alert", name[1])
		}
	}
}

// TestRules_tests has promtool run rules_test.yaml, which must fire each alert.
func TestRules_tests(t *testing.T) {
	tests := bridgetest.ReadFile(t, rulesDir+"/rules_test.yaml")
	for _, r := range alertRules(t) {
		if !strings.Contains(tests, `alertname="`+r.Alert+`"}', value: 1`) && !strings.Contains(tests, "- alertname: "+r.Alert+"\n") {
			t.Errorf("rules_test.yaml does not fire %s", r.Alert)
		}
	}
	promtool(t, "check", "rules", "rules.yaml")
	promtool(t, "test", "rules", "rules_test.yaml")
}

// promtool runs it in the directory of the rules; without it the test is skipped.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not here: it is in Debian's package prometheus")
	}
	command := exec.Command(path, args...)
	command.Dir = rulesDir
	if out, err := command.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestMonitoring_metrics checks that alerts and dashboard ask for metrics and labels that
// the bridge, deliver and package consume have.
func TestMonitoring_metrics(t *testing.T) {
	known := knownMetrics(t)
	for _, r := range alertRules(t) {
		checkQuery(t, known, r.Alert, r.Expr)
	}
	d := grafana(t)
	for _, v := range d.Templating.List {
		if v.Name != "datasource" {
			metric, label, _ := strings.Cut(strings.Trim(strings.TrimPrefix(v.Definition, "label_values"), "()"), ", ")
			checkQuery(t, known, "$"+v.Name, metric+"{"+label+`=""}`)
		}
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			checkQuery(t, known, "panel "+p.Title, target.Expr)
		}
	}
}

var (
	queryMetric = regexp.MustCompile(`\b(acsbridge_\w+)(\{[^}]*\})?`)
	queryLabel  = regexp.MustCompile(`(\w+)(?:=~|!~|!=|=)"`)
	grouping    = regexp.MustCompile(`\b(?:by|on|without|ignoring) \(([^)]*)\)`)
	histogram   = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// checkQuery reports names in a query that do not exist.
func checkQuery(t *testing.T, known map[string][]string, where, query string) {
	t.Helper()
	all := []string{"job", "instance", "le", "alertname"}
	found := queryMetric.FindAllStringSubmatch(query, -1)
	if len(found) == 0 {
		t.Errorf("%s asks for no metric: %s", where, query)
	}
	for _, m := range found {
		labels, ok := known[m[1]]
		if !ok {
			labels, ok = known[histogram.ReplaceAllString(m[1], "")]
		}
		if !ok {
			t.Errorf("%s asks for %s, which does not exist", where, m[1])
		}
		all = append(all, labels...)
		for _, label := range queryLabel.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(append(labels, all[:4]...), label[1]) {
				t.Errorf("%s asks for the label %s of %s, which has %q", where, label[1], m[1], labels)
			}
		}
	}
	for _, group := range grouping.FindAllStringSubmatch(query, -1) {
		for label := range strings.SplitSeq(group[1], ",") {
			if !slices.Contains(all, strings.TrimSpace(label)) {
				t.Errorf("%s groups by %s, which none of its metrics has: %s", where, label, query)
			}
		}
	}
}

// knownMetrics returns the labels of all metrics by name: those of a bridge as the page
// has them, which a test of package bridge holds to its registry, and those that deliver
// and package consume register.
func knownMetrics(t *testing.T) map[string][]string {
	t.Helper()
	known := map[string][]string{}
	row := regexp.MustCompile("(?m)^\\| `(acsbridge_\\w+)(?:\\{([^}]*)\\})?` \\|")
	for _, m := range row.FindAllStringSubmatch(bridgetest.ReadFile(t, "../../docs/operations.md"), -1) {
		known[m[1]] = strings.Split(m[2], ", ")
	}
	registry := prometheus.NewRegistry()
	newDeliverMetrics().register(registry)
	registerConsume(t, registry)
	for name, m := range bridgetest.Metrics(t, registry) {
		known[name] = m.Labels
	}
	return known
}

// registerConsume runs a service until it has registered its metrics, which stay.
func registerConsume(t *testing.T, registry *prometheus.Registry) {
	t.Helper()
	server := natstest.Start(t)
	js := server.JetStream()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{"acs.>"}, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	registered := &keep{Registerer: registry, count: make(chan struct{}, 100)}
	ended := make(chan error, 1)
	go func() {
		ended <- consume.Run(ctx, js.Conn(), consume.Service[struct{}]{Name: "monitoring", Registerer: registered, Logger: slog.New(slog.DiscardHandler),
			Handle: func(context.Context, *consume.Call[struct{}], *schemas.Message) error { return nil }})
	}()
	select {
	case <-registered.count:
	case err := <-ended:
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// keep keeps what is unregistered.
type keep struct {
	prometheus.Registerer
	count chan struct{}
}

func (k *keep) Register(c prometheus.Collector) error {
	defer func() { k.count <- struct{}{} }()
	return k.Registerer.Register(c)
}

func (k *keep) Unregister(prometheus.Collector) bool { return true }

// TestDashboard_panels checks what Grafana needs to show it, and has promtool parse the
// queries.
func TestDashboard_panels(t *testing.T) {
	d := grafana(t)
	if d.UID != "acsbridge" || d.Title == "" {
		t.Errorf("uid %q, title %q", d.UID, d.Title)
	}
	ids, cells, rows := map[int]bool{}, map[[2]int]string{}, []string{}
	rules := "groups:\n  - name: dashboard\n    rules:\n"
	for _, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 || p.Title == "" {
			t.Errorf("panel %q has the id %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %q covers %q", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		if len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("panel %q has %d queries of %q", p.Title, len(p.Targets), p.Datasource.UID)
		}
		for i, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" || target.RefID == "" {
				t.Errorf("panel %q: query %d of %q", p.Title, i, target.Datasource.UID)
			}
			rules += fmt.Sprintf("      - {record: 'panel:%d:%d', expr: %q}\n", p.ID, i, strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"))
		}
	}
	if want := []string{"Callbacks", "Refusals", "Journal", "Forwarder", "Keys and certificates", "Stream", "Services"}; !slices.Equal(rows, want) {
		t.Errorf("rows %q, want %q", rows, want)
	}
	file := filepath.Join(t.TempDir(), "queries.yaml")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}
