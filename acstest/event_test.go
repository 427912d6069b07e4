package acstest_test

import (
	"encoding/json"
	"maps"
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
			play(t, t.Context(), b, acstest.Load{Flows: []*acstest.Flow{flow}, Calls: 1, Speed: math.Inf(1)})
			seen := make(map[string]string)
			calls := make(map[string]bool)
			for _, p := range b.posts {
				token, path, number := p.header.Get("Authorization"), strings.TrimPrefix(p.path, "/callbacks/"), strings.TrimPrefix(p.query, "callerId=%2B")
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

// TestNewEvent_allTypes: every type of the contract, and no other, can be made, by
// either name, with the members of the contract's example.
func TestNewEvent_allTypes(t *testing.T) {
	var want []string
	for _, contract := range schemas.Types() {
		want = append(want, contract.Name)
		made, full := newEvents(t, acstest.NewCall(), contract.Name)[0], newEvents(t, acstest.NewCall(), "Microsoft.Communication."+contract.Name)[0]
		if made.Type != full.Type || !strings.HasSuffix(made.Type, contract.Name) {
			t.Errorf("types %s and %s, want %s", made.Type, full.Type, contract.Name)
		}
		document, _ := schemas.Schema(contract.Name)
		var schema struct {
			Examples []struct{ Data json.RawMessage }
		}
		if err := json.Unmarshal(document, &schema); err != nil || len(schema.Examples) != 1 {
			t.Fatalf("%s has %d examples: %v", contract.Name, len(schema.Examples), err)
		}
		example := members(t, "", schema.Examples[0].Data)
		if contract.Family != schemas.Grid {
			example["/publicEventType"] = true // only in events of this package
			body, err := acstest.Body(made)
			if err != nil {
				t.Fatal(err)
			}
			checkEvent(t, body)
		}
		if diff := cmp.Diff(example, members(t, "", made.Data)); diff != "" {
			t.Errorf("%s (-example +made):\n%s", contract.Name, diff)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(slices.Values(append(acstest.Types(), acstest.GridTypes()...)))); diff != "" {
		t.Errorf("types (-contract +made):\n%s", diff)
	}
}

// members returns the paths of the members of a value, at every level. The elements of
// a list share one.
func members(t *testing.T, path string, value json.RawMessage) map[string]bool {
	t.Helper()
	paths := make(map[string]bool)
	var object map[string]json.RawMessage
	var list []json.RawMessage
	switch {
	case json.Unmarshal(value, &object) == nil:
		for name, inner := range object {
			paths[path+"/"+name] = true
			maps.Copy(paths, members(t, path+"/"+name, inner))
		}
	case json.Unmarshal(value, &list) == nil:
		for _, inner := range list {
			maps.Copy(paths, members(t, path+"/[]", inner))
		}
	}
	return paths
}

func TestNewEvent_orderOfData(t *testing.T) {
	want := []string{
		"failedPlaySourceIndex", "version", "operationContext", "resultInformation",
		"callConnectionId", "serverCallId", "correlationId", "publicEventType",
	}
	if diff := cmp.Diff(want, keys(t, newEvents(t, acstest.NewCall(), "PlayFailed")[0].Data)); diff != "" {
		t.Errorf("order of data (-want +got):\n%s", diff)
	}
}

func TestNewEvent_unknownType(t *testing.T) {
	_, err := acstest.NewCall().NewEvent("callconected")
	unknown, ok := err.(*acstest.UnknownTypeError)
	if !ok || unknown.Nearest != "CallConnected" || len(unknown.Known) != len(acstest.Types())+len(acstest.GridTypes()) {
		t.Fatalf("error %v, want one with CallConnected and all types", err)
	}
	if got, want := err.Error(), `unknown event type "callconected", did you mean CallConnected? known types: AddParticipantFailed, `; !strings.HasPrefix(got, want) {
		t.Errorf("got %q\nwant %q …", got, want)
	}
}

func TestNewCallOf(t *testing.T) {
	call := acstest.NewCallOf("c-42")
	for name, want := range map[string]bool{"CallConnected": true, "RecordingStateChanged": false} {
		e := newEvents(t, call, name)[0]
		var data struct{ CallConnectionID string }
		if err := json.Unmarshal(e.Data, &data); err != nil {
			t.Fatal(err)
		}
		if got := data.CallConnectionID == "c-42"; got != want || strings.HasSuffix(e.Source, "/c-42") != want {
			t.Errorf("%s is of %q, source %s", name, data.CallConnectionID, e.Source)
		}
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

func TestParseBody(t *testing.T) {
	for body, want := range map[string]int{` {"a":1} `: 1, `[{"a":1},{}]`: 2, `[]`: 0, "": -1, `"x"`: -1, `{"a":`: -1, `{}{}`: -1} {
		if got, err := acstest.ParseBody([]byte(body)); (err == nil) != (want >= 0) || err == nil && len(got) != want {
			t.Errorf("%s: got %d events, error %v", body, len(got), err)
		}
	}
}

// TestRawCallback: edited events are posted byte for byte, and by their own way.
func TestRawCallback(t *testing.T) {
	const moved = `{"id":"1","source":"s","type":"Microsoft.Communication.CallMoved","own":true}`
	const incoming = `{"id":"1","source":"s","type":"Microsoft.Communication.IncomingCall","own":true}`
	for raw, contentType := range map[string]string{
		moved:    "application/json; charset=utf-8",
		incoming: "application/cloudevents-batch+json; charset=utf-8",
	} {
		b := &bridge{}
		callback, err := acstest.NewCall().RawCallback([]json.RawMessage{json.RawMessage(raw)})
		if err != nil {
			t.Fatal(err)
		}
		a := newCaller(t, b, withGrid("")).Send(t.Context(), callback)
		if p := b.posts[0]; a.Status != 200 || string(p.body) != "["+raw+"]" || p.header.Get("Content-Type") != contentType {
			t.Errorf("%+v, posted %s %s", a, p.header.Get("Content-Type"), p.body)
		}
	}
	for _, events := range [][]json.RawMessage{nil, {json.RawMessage(`{"id":1}`)}, {json.RawMessage(`[]`)}, {json.RawMessage(moved), json.RawMessage(incoming)}} {
		if _, err := acstest.NewCall().RawCallback(events); err == nil {
			t.Errorf("%s: no error", events)
		}
	}
}
