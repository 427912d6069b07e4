package acstest_test

import (
	"encoding/json"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/schemas"
)

var (
	uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	timeForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,6}[1-9])?\+00:00$`)
	// numbers finds everything that looks like a telephone number; fictional are those
	// that the North American Numbering Plan reserves.
	numbers   = regexp.MustCompile(`\+[0-9]{7,}`)
	fictional = regexp.MustCompile(`^\+1[2-9][0-9]{2}55501[0-9]{2}$`)
)

// TestFlow_wireForm plays every flow once and checks each callback.
func TestFlow_wireForm(t *testing.T) {
	flows, err := acstest.Flows()
	if err != nil {
		t.Fatal(err)
	}
	for _, flow := range flows {
		t.Run(flow.Name, func(t *testing.T) {
			b := &bridge{}
			play(t, t.Context(), b, acstest.Load{Flows: []*acstest.Flow{flow}, Calls: 1, Speed: math.Inf(1)}, func(o *acstest.CallerOptions) { o.Target += "/?code=x" })
			seen := make(map[string]string)
			calls := make(map[string]bool)
			for _, p := range b.posts {
				token, path, number := p.header.Get("Authorization"), strings.TrimPrefix(p.path, "/callbacks/"), strings.TrimPrefix(p.query, "code=x&callerId=%2B")
				if !strings.HasPrefix(token, "Bearer ey") || p.header.Get("Content-Type") != "application/json; charset=utf-8" ||
					!uuidForm.MatchString(path) || !fictional.MatchString("+"+number) {
					t.Errorf("path %q, query %q, headers %q", p.path, p.query, p.header)
				}
				checkEvent(t, p.body)
				e := decode(t, p.body)[0]
				calls[e.Data.ServerCallID+" "+e.Data.CorrelationID] = true
				if first, again := seen[e.ID]; again && first != string(p.body) {
					t.Errorf("two events have the id %s:\n%s\n%s", e.ID, first, p.body)
				}
				seen[e.ID] = string(p.body)
			}
			if len(calls) != 1 {
				t.Errorf("the events of one call name %d calls", len(calls))
			}
		})
	}
}

// checkEvent checks a body with one event.
func checkEvent(t *testing.T, body []byte) {
	t.Helper()
	var raw []json.RawMessage
	if err := json.Unmarshal(body, &raw); err != nil || len(raw) != 1 {
		t.Fatalf("%d events, error %v, in %s", len(raw), err, body)
	}
	order := []string{"id", "source", "type", "data", "time", "specversion", "datacontenttype", "subject"}
	if diff := cmp.Diff(order, keys(t, raw[0])); diff != "" {
		t.Errorf("order of members (-want +got):\n%s", diff)
	}
	e := decode(t, body)[0]
	wantSource := "calling/callConnections/" + e.Data.CallConnectionID
	if strings.HasSuffix(e.Type, "RecordingStateChanged") {
		wantSource = "calling/recordings/" + e.Data.ServerCallID + "/"
		if !timeForm.MatchString(e.Data.StartDateTime) {
			t.Errorf("startDateTime %q", e.Data.StartDateTime)
		}
	}
	if !strings.HasPrefix(e.Source, wantSource) || e.Subject != e.Source {
		t.Errorf("source %q, subject %q, want both to start with %q", e.Source, e.Subject, wantSource)
	}
	if !uuidForm.MatchString(e.ID) || !uuidForm.MatchString(e.Data.CallConnectionID) || !uuidForm.MatchString(e.Data.CorrelationID) || !timeForm.MatchString(e.Time) {
		t.Errorf("an id is not a GUID, or the time has another form: %s", body)
	}
	if e.SpecVersion != "1.0" || e.DataContentType != "application/json" || e.Data.PublicEventType != e.Type {
		t.Errorf("specversion %q, datacontenttype %q, type %q, publicEventType %q", e.SpecVersion, e.DataContentType, e.Type, e.Data.PublicEventType)
	}
	for _, number := range numbers.FindAllString(string(body), -1) {
		if !fictional.MatchString(number) {
			t.Errorf("%s may be a real number", number)
		}
	}
	if strings.Contains(string(body), `"$`) {
		t.Errorf("a value was not filled in: %s", body)
	}
}

// TestNewEvent_allTypes: every type of the contract, and no other, can be made, by either
// name.
func TestNewEvent_allTypes(t *testing.T) {
	var want []string
	for _, contract := range schemas.Types() {
		want = append(want, contract.Name)
		made, full := newEvents(t, acstest.NewCall(), contract.Name)[0], newEvents(t, acstest.NewCall(), "Microsoft.Communication."+contract.Name)[0]
		if made.Type != full.Type || !strings.HasSuffix(made.Type, contract.Name) {
			t.Errorf("types %s and %s, want %s", made.Type, full.Type, contract.Name)
		}
		if contract.Family == schemas.Grid {
			continue
		}
		body, err := acstest.Body(made)
		if err != nil {
			t.Fatal(err)
		}
		checkEvent(t, body)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(slices.Values(append(acstest.Types(), acstest.GridTypes()...)))); diff != "" {
		t.Errorf("types (-contract +made):\n%s", diff)
	}
}

func TestSet(t *testing.T) {
	const event = `{"id":"1","data":{"b":1,"a":{"list":[{"x":true},2]}},"time":"t"}`
	for _, test := range []struct{ path, value, want string }{
		{"id", "2", `{"id":"2","data":{"b":1,"a":{"list":[{"x":true},2]}},"time":"t"}`},
		{"data", "[1.0]", `{"id":"1","data":[1.0],"time":"t"}`},
		{"time", "two words", `{"id":"1","data":{"b":1,"a":{"list":[{"x":true},2]}},"time":"two words"}`},
		{"data.b", "null", `{"id":"1","data":{"b":null,"a":{"list":[{"x":true},2]}},"time":"t"}`},
		{"data.a.list.0.x", "false", `{"id":"1","data":{"b":1,"a":{"list":[{"x":false},2]}},"time":"t"}`},
		{"data.a.list.1", "", `{"id":"1","data":{"b":1,"a":{"list":[{"x":true},""]}},"time":"t"}`},
		{"data.c.d", `{"e":[]}`, `{"id":"1","data":{"b":1,"a":{"list":[{"x":true},2]},"c":{"d":{"e":[]}}},"time":"t"}`},
	} {
		got, err := acstest.Set(json.RawMessage(event), test.path, test.value)
		if err != nil || string(got) != test.want {
			t.Errorf("%s=%s: got %s, error %v\nwant %s", test.path, test.value, got, err, test.want)
		}
	}
	for path, want := range map[string]string{
		"":              "set : a name is empty",
		"data.":         "set data.: a name is empty",
		"id.x":          "set id.x: x would be a member of a value that is not an object",
		"data.a.list.2": "set data.a.list.2: a list of 2 has no element 2, the first is 0",
		"data.a.list.x": "a list of 2 has no element x",
	} {
		if _, err := acstest.Set(json.RawMessage(event), path, "1"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", path, err, want)
		}
	}
}
