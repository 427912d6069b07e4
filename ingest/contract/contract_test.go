package contract_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/ingest/contract"
	"github.com/acsbridge/acsbridge/internal/fixtures"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

// store keeps what it is given, and answers err.
type store struct {
	events      []schemas.Event
	quarantined int
	err         error
}

func (s *store) Publish(_ context.Context, _ *verify.Claims, _ *publish.Delivery, events []schemas.Event) error {
	s.events = append(s.events, events...)
	return s.err
}

func (s *store) Quarantine(context.Context, *verify.Claims, *publish.Delivery, string, string, []byte) error {
	s.quarantined++
	return s.err
}

// report returns a reporter in front of a store.
func report(t testing.TB, s *store) (ingest.Publisher, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	r, err := contract.Report(s, registry)
	if err != nil {
		t.Fatal(err)
	}
	return r, registry
}

func event(name, raw string) schemas.Event {
	return schemas.Event{ID: "1", Source: "s", Type: schemas.TypePrefix + name, Raw: []byte(raw)}
}

// TestExamplesConform has every type pass without a mark.
func TestExamplesConform(t *testing.T) {
	s := &store{}
	r, registry := report(t, s)
	for _, known := range schemas.Types() {
		if err := r.Publish(t.Context(), nil, nil, []schemas.Event{event(known.Name, string(known.Describe().Example))}); err != nil {
			t.Fatal(err)
		}
		if got := s.events[len(s.events)-1].Deviation; got != "" {
			t.Errorf("%s deviates: %s", known.Name, got)
		}
	}
	if got, want := testutil.CollectAndCount(registry, "acsbridge_contract_total"), 2*(len(schemas.Types())+1); got != want {
		t.Errorf("%d series, want %d: both outcomes of all types and of others, from the start", got, want)
	}
}

// TestDeviations: where an event deviates is said in names of ours alone.
func TestDeviations(t *testing.T) {
	around := func(eventType, data string) string {
		return `{"id":"1","source":"s","specversion":"1.0","type":"Microsoft.Communication.` + eventType + `","data":` + data + `}`
	}
	s := &store{}
	r, _ := report(t, s)
	for _, test := range []struct{ eventType, raw, want string }{
		{"PlayFailed", around("PlayFailed", `{"new":1,"resultInformation":{"new":1}}`), ""},
		{"PlayFailed", around("PlayFailed", `{"failedPlaySourceIndex":"0"}`), "/data/failedPlaySourceIndex type"},
		{"PlayFailed", around("PlayFailed", `{"failedPlaySourceIndex":1.0}`), ""},
		{"PlayFailed", around("PlayFailed", `{"failedPlaySourceIndex":1.5,"resultInformation":{"code":"x"}}`), "/data/failedPlaySourceIndex type, /data/resultInformation/code type"},
		{"PlayFailed", around("PlayFailed", `[]`), "/data type"},
		{"PlayFailed", `{"id":"1","source":"s","specversion":"1.0","type":"Microsoft.Communication.PlayFailed"}`, ""},
		{"RecordingStateChanged", around("RecordingStateChanged", `{"state":"paused","startDateTime":"2026-03-02T09:30:00.1234567+00:00"}`), ""},
		{"RecordingStateChanged", around("RecordingStateChanged", `{"startDateTime":"yesterday"}`), "/data/startDateTime format"},
		{"ParticipantsUpdated", around("ParticipantsUpdated", `{"participants":[{"isMuted":1},{"isMuted":2},{"identifier":[]}]}`), "/data/participants/*/identifier type, /data/participants/*/isMuted type"},
		{"IncomingCall", around("IncomingCall", `{"customContext":{"sipHeaders":{"14255550123":7}}}`), "/data/customContext/sipHeaders/* type"},
		{"IncomingCall", `{"id":"1","topic":"t","eventType":"Microsoft.Communication.IncomingCall","data":{"to":{}}}`, ""},
		{"IncomingCall", `{"id":"1","topic":"t","eventType":"Microsoft.Communication.IncomingCall","data":{"to":{"rawId":1}}}`, "/data/to/rawId type"},
		{"IncomingCall", `{"id":"1","topic":"t","eventType":"Microsoft.Communication.IncomingCall"}`, ""},
		{"IncomingCall", `{"id":"1","topic":"t","eventTime":null,"eventType":"Microsoft.Communication.IncomingCall","data":null}`, ""},
		{"PlayFailed", `{"id":"1","source":"s","specversion":"1.0","type":"Microsoft.Communication.PlayFailed","time":null,"subject":null,"datacontenttype":null,"data":null}`, ""},
		{"PlayFailed", around("PlayFailed", `{"failedPlaySourceIndex":null,"operationContext":null,"resultInformation":{"message":null}}`), ""},
		{"ParticipantsUpdated", around("ParticipantsUpdated", `{"participants":[{"identifier":null,"isMuted":null}]}`), ""},
		{"ParticipantsUpdated", around("ParticipantsUpdated", `{"participants":[null]}`), "/data/participants/* type"},
		{"NeverHeardOf", around("NeverHeardOf", `"x"`), "/data type"},
		{"NeverHeardOf", around("NeverHeardOf", `{"x":1}`), ""},
		{"NeverHeardOf", `{"id":"1","topic":"t","eventType":"Microsoft.Communication.NeverHeardOf"}`, ""},
		{"PlayFailed", `{`, "/ json"},
	} {
		s.events = nil
		if err := r.Publish(t.Context(), nil, nil, []schemas.Event{event("CallConnected", around("CallConnected", "{}")), event(test.eventType, test.raw)}); err != nil {
			t.Fatal(err)
		}
		if s.events[0].Deviation != "" || s.events[1].Deviation != test.want || string(s.events[1].Raw) != test.raw {
			t.Errorf("%s: got %q, want %q", test.raw, s.events[1].Deviation, test.want)
		}
	}
}

func TestCounts(t *testing.T) {
	r, registry := report(t, &store{})
	for _, e := range []schemas.Event{
		event("PlayFailed", `{"id":"1","source":"s","specversion":"1.0","type":"Microsoft.Communication.PlayFailed"}`),
		event("PlayFailed", `{"id":1,"source":"s","specversion":"1.0","type":"Microsoft.Communication.PlayFailed"}`),
		event("+14255550123", `{"id":"1","source":"s","specversion":"1.0","type":"x"}`),
	} {
		if err := r.Publish(t.Context(), nil, nil, []schemas.Event{e}); err != nil {
			t.Fatal(err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, m := range families[0].GetMetric() {
		if v := m.GetCounter().GetValue(); v != 0 {
			got[m.GetLabel()[0].GetValue()+" "+m.GetLabel()[1].GetValue()] = v
		}
	}
	if diff := cmp.Diff(map[string]float64{"conforms PlayFailed": 1, "conforms other": 1, "deviates PlayFailed": 1}, got); diff != "" {
		t.Error(diff)
	}
}

// TestNothingIsRefused: the answer is the publisher's own, whatever deviates.
func TestNothingIsRefused(t *testing.T) {
	for _, want := range []error{nil, errors.New("journal full")} {
		s := &store{err: want}
		r, _ := report(t, s)
		if got := r.Publish(t.Context(), nil, nil, []schemas.Event{event("PlayFailed", `[]`)}); got != want || len(s.events) != 1 {
			t.Errorf("answer %v of %d events, want %v", got, len(s.events), want)
		}
		if got := r.Quarantine(t.Context(), nil, nil, "", "", nil); got != want || s.quarantined != 1 {
			t.Errorf("answer %v, want %v", got, want)
		}
	}
}

// FuzzDeviation holds the mark to names of ours, whatever is in an event.
func FuzzDeviation(f *testing.F) {
	for _, known := range schemas.Types() {
		f.Add(known.Name, string(known.Describe().Example))
	}
	f.Add("CallConnected", `{"specversion":"1.0","+14255550123":[],"data":{"resultInformation":{"code":"8:acs:x"}}}`)
	s := &store{}
	r, _ := report(f, s)
	f.Fuzz(func(t *testing.T, name, raw string) {
		s.events = nil
		if err := r.Publish(t.Context(), nil, nil, []schemas.Event{event(name, raw)}); err != nil {
			t.Fatal(err)
		}
		for part := range strings.SplitSeq(s.events[0].Deviation, ", ") {
			path, keyword, _ := strings.Cut(part, " ")
			if strings.Trim(path, "/*abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ850") != "" ||
				!strings.Contains(" type format required json const ", " "+keyword+" ") && part != "" {
				t.Fatalf("%q of %s", part, raw)
			}
		}
	})
}

// TestSamples has every recorded event pass without a mark.
func TestSamples(t *testing.T) {
	s := &store{}
	r, _ := report(t, s)
	for _, body := range fixtures.Read(t, "*.json") {
		for _, raw := range body.Events {
			m, err := schemas.Parse(nil, raw)
			if err != nil {
				t.Fatalf("%s: %v", body.Name, err)
			}
			e := event("", string(raw))
			e.Type = m.Event.Type
			if err := r.Publish(t.Context(), nil, nil, []schemas.Event{e}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff("", s.events[len(s.events)-1].Deviation); diff != "" {
				t.Errorf("%s: %s", body.Name, diff)
			}
		}
	}
}

// BenchmarkPublish tells what looking at an event costs.
func BenchmarkPublish(b *testing.B) {
	known, _ := schemas.LookupType("PlayCompleted")
	events := []schemas.Event{event(known.Name, string(known.Describe().Example))}
	s := &store{}
	r, _ := report(b, s)
	b.ReportAllocs()
	for b.Loop() {
		s.events = s.events[:0]
		if err := r.Publish(b.Context(), nil, nil, events); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReport tells what a start costs more.
func BenchmarkReport(b *testing.B) {
	for b.Loop() {
		report(b, &store{})
	}
}
