package acstest_test

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/acstest"
)

const target = "http://bridge.example/callbacks"

// post is one callback as the bridge sees it.
type post struct {
	header http.Header
	path   string
	query  string
	body   []byte
	at     time.Time
}

// bridge stands in for the receiving side, without a socket so that it works
// in a synctest bubble. It is safe for concurrent use.
type bridge struct {
	answer func(post) *http.Response // nil answers 200 to all

	mu    sync.Mutex
	posts []post
}

func (b *bridge) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	p := post{header: r.Header, path: r.URL.Path, query: r.URL.RawQuery, body: body, at: time.Now()}
	b.mu.Lock()
	b.posts = append(b.posts, p)
	b.mu.Unlock()
	response := status(http.StatusOK)
	if b.answer != nil {
		response = b.answer(p)
	}
	if response == nil { // the bridge is silent
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return response, nil
}

func status(code int) *http.Response {
	w := httptest.NewRecorder()
	w.WriteHeader(code)
	return w.Result()
}

// play runs a load against a bridge and returns the report.
func play(t *testing.T, ctx context.Context, b http.RoundTripper, load acstest.Load, changes ...func(*acstest.CallerOptions)) acstest.Report {
	t.Helper()
	options := acstest.CallerOptions{Target: target, Signer: newIssuer(t), Transport: b}
	for _, change := range changes {
		change(&options)
	}
	caller, err := acstest.NewCaller(options)
	if err != nil {
		t.Fatal(err)
	}
	defer caller.Close()
	if err := caller.Run(ctx, load); err != nil {
		t.Fatal(err)
	}
	return caller.Report()
}

// parseFlow reads a flow of the test's own.
func parseFlow(t *testing.T, steps string) *acstest.Flow {
	t.Helper()
	flow, err := acstest.ParseFlow("test", []byte("about: a test\nsteps:\n"+steps))
	if err != nil {
		t.Fatal(err)
	}
	return flow
}

// wireEvent has what the tests look at.
type wireEvent struct {
	ID, Source, Type, Time, SpecVersion, DataContentType, Subject string

	Data struct {
		CallConnectionID string `json:"callConnectionId"`
		ServerCallID     string `json:"serverCallId"`
		CorrelationID    string `json:"correlationId"`
		PublicEventType  string `json:"publicEventType"`
		OperationContext string `json:"operationContext"`
		StartDateTime    string `json:"startDateTime"`
	}
}

func decode(t *testing.T, body []byte) []wireEvent {
	t.Helper()
	var events []wireEvent
	if err := json.Unmarshal(body, &events); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return events
}

// types returns the short types of the events of each post.
func types(t *testing.T, posts []post) []string {
	t.Helper()
	var all []string
	for _, p := range posts {
		var names []string
		for _, e := range decode(t, p.body) {
			names = append(names, strings.TrimPrefix(e.Type, "Microsoft.Communication."))
		}
		all = append(all, strings.Join(names, "+"))
	}
	return all
}

// arrivals returns the types of each post and when it came after start.
func arrivals(t *testing.T, posts []post, start time.Time) []string {
	t.Helper()
	all := types(t, posts)
	for i, p := range posts {
		all[i] += " " + p.at.Sub(start).String()
	}
	return all
}

// keys returns the member names of a JSON object in their order.
func keys(t *testing.T, object json.RawMessage) []string {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(object)))
	if _, err := dec.Token(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name.(string))
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			t.Fatal(err)
		}
	}
	return names
}

var (
	uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	timeForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,6}[1-9])?\+00:00$`)
	// numbers finds whatever looks like a telephone number, and fictional the
	// ones that the North American Numbering Plan sets aside.
	numbers   = regexp.MustCompile(`\+[0-9]{7,}`)
	fictional = regexp.MustCompile(`^\+1[2-9][0-9]{2}55501[0-9]{2}$`)
)

// TestWireForm plays every flow once and reads what arrives.
func TestWireForm(t *testing.T) {
	flows, err := acstest.Flows()
	if err != nil {
		t.Fatal(err)
	}
	for _, flow := range flows {
		t.Run(flow.Name, func(t *testing.T) {
			b := &bridge{}
			play(t, t.Context(), b, acstest.Load{Flows: []*acstest.Flow{flow}, Calls: 1, Speed: math.Inf(1)})
			seen := make(map[string][]byte)
			calls := make(map[string]bool)
			for _, p := range b.posts {
				checkRequest(t, p)
				checkEvent(t, p.body)
				e := decode(t, p.body)[0]
				calls[e.Data.ServerCallID+" "+e.Data.CorrelationID] = true
				if first, again := seen[e.ID]; again && string(first) != string(p.body) {
					t.Errorf("two events have the id %s:\n%s\n%s", e.ID, first, p.body)
				}
				seen[e.ID] = p.body
			}
			if len(calls) != 1 {
				t.Errorf("the events of one call name %d calls", len(calls))
			}
		})
	}
}

// TestWireFormOfTypes makes one event of every type.
func TestWireFormOfTypes(t *testing.T) {
	for _, name := range acstest.Types() {
		for _, name := range []string{name, "Microsoft.Communication." + name} {
			event, err := acstest.NewCall().NewEvent(name)
			if err != nil {
				t.Fatal(err)
			}
			body, err := acstest.Body(event)
			if err != nil {
				t.Fatal(err)
			}
			checkEvent(t, body)
			if !strings.HasSuffix(event.Type, name) {
				t.Errorf("asked for %s, got %s", name, event.Type)
			}
		}
	}
}

func checkRequest(t *testing.T, p post) {
	t.Helper()
	if got, want := p.header.Get("Content-Type"), "application/json; charset=utf-8"; got != want {
		t.Errorf("content type %q, want %q", got, want)
	}
	if got := p.header.Get("Authorization"); !strings.HasPrefix(got, "Bearer ey") {
		t.Errorf("authorization %q, want a bearer token", got)
	}
	if suffix, ok := strings.CutPrefix(p.path, "/callbacks/"); !ok || !uuidForm.MatchString(suffix) {
		t.Errorf("path %q, want /callbacks/<guid>", p.path)
	}
	if number, ok := strings.CutPrefix(p.query, "callerId=%2B"); !ok || !fictional.MatchString("+"+number) {
		t.Errorf("query %q, want callerId=%%2B<fictional number>", p.query)
	}
}

// checkEvent holds a body with one event against the form of the wire.
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
	if !uuidForm.MatchString(e.ID) || !uuidForm.MatchString(e.Data.CallConnectionID) || !uuidForm.MatchString(e.Data.CorrelationID) {
		t.Errorf("an id is no GUID in %s", body)
	}
	if !timeForm.MatchString(e.Time) {
		t.Errorf("time %q", e.Time)
	}
	if e.SpecVersion != "1.0" || e.DataContentType != "application/json" || e.Data.PublicEventType != e.Type {
		t.Errorf("specversion %q, datacontenttype %q, type %q, publicEventType %q",
			e.SpecVersion, e.DataContentType, e.Type, e.Data.PublicEventType)
	}
	for _, number := range numbers.FindAllString(string(body), -1) {
		if !fictional.MatchString(number) {
			t.Errorf("%s may be somebody's number", number)
		}
	}
	if strings.Contains(string(body), `"$`) {
		t.Errorf("a value was not filled in: %s", body)
	}
}

// TestDataOrder pins the order inside data for a type that has all kinds of
// members.
func TestDataOrder(t *testing.T) {
	event, err := acstest.NewCall().NewEvent("PlayFailed")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"failedPlaySourceIndex", "version", "operationContext", "resultInformation",
		"callConnectionId", "serverCallId", "correlationId", "publicEventType",
	}
	if diff := cmp.Diff(want, keys(t, event.Data)); diff != "" {
		t.Errorf("order of data (-want +got):\n%s", diff)
	}
}

// TestLegs: each leg has a connection and a callback URL of its own, and the
// recorder is a connection that no leg has.
func TestLegs(t *testing.T) {
	b := &bridge{}
	flow := parseFlow(t, `
  - {event: CallConnected}
  - {event: RecordingStateChanged}
  - {event: CallConnected, leg: other}
  - {event: RecordingStateChanged, after: 1s, data: {state: inactive}}
  - {event: CallDisconnected}
`)
	play(t, t.Context(), b, acstest.Load{Flows: []*acstest.Flow{flow}, Calls: 1, Speed: 1000})
	var connections, starts, paths []string
	for _, p := range b.posts {
		e := decode(t, p.body)[0]
		connections = append(connections, e.Data.CallConnectionID)
		paths = append(paths, p.path)
		starts = append(starts, e.Data.StartDateTime)
	}
	app, recorder, other := connections[0], connections[1], connections[2]
	if diff := cmp.Diff([]string{app, recorder, other, recorder, app}, connections); diff != "" {
		t.Errorf("connections (-want +got):\n%s", diff)
	}
	if app == recorder || app == other || recorder == other {
		t.Errorf("connections are shared: %v", connections)
	}
	if paths[0] != paths[4] || paths[0] == paths[2] {
		t.Errorf("callback paths %v, want one a leg", paths)
	}
	if starts[1] != starts[3] {
		t.Errorf("the recording started at %s and at %s", starts[1], starts[3])
	}
}

func TestUnknownType(t *testing.T) {
	_, err := acstest.NewCall().NewEvent("callconected")
	unknown, ok := err.(*acstest.UnknownTypeError)
	if !ok {
		t.Fatalf("error %v, want *UnknownTypeError", err)
	}
	if unknown.Nearest != "CallConnected" || len(unknown.Known) != len(acstest.Types())+len(acstest.GridTypes()) {
		t.Errorf("nearest %s, known types %v, want CallConnected and all", unknown.Nearest, unknown.Known)
	}
	if got, want := err.Error(), `unknown event type "callconected", did you mean CallConnected? known types: AddParticipantFailed, `; !strings.HasPrefix(got, want) {
		t.Errorf("got %q\nwant %q …", got, want)
	}
}
