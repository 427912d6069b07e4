package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
)

// newKey makes a simulator's key and returns the path of its file.
func newKey(t *testing.T) string {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key.pem")
	if _, err := acstest.LoadOrCreateKey(key); err != nil {
		t.Fatal(err)
	}
	return key
}

// TestTrigger_fails sends events to a bridge that answers one status.
func TestTrigger_fails(t *testing.T) {
	key := newKey(t)
	var status, requests int
	bridge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests++
		w.WriteHeader(status)
	}))
	defer bridge.Close()

	for _, test := range []struct {
		status int
		args   []string
		want   string
		out    string
	}{
		{503, []string{"PlayFailed", "--key=" + key}, "the bridge answered 503 Service Unavailable", "503 in "},
		{200, []string{"PlayFailed", "--key=" + key + ".none"}, "no such file or directory (simulate takes one with --key", ""},
		{200, []string{"PlayFailed", "--key=" + key, "--target=http://127.0.0.1:1"}, "connection refused; is the bridge running there?", ""},
	} {
		status, requests = test.status, 0
		var out bytes.Buffer
		args := append([]string{"--target=" + bridge.URL}, test.args...)
		err := runCommand(t, t.Context(), &triggerCmd{}, stdio{out: &out, err: io.Discard}, args...)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: error %v, want one with %q", test.args, err, test.want)
		}
		if !strings.HasPrefix(out.String(), test.out) || (test.out == "") != (out.Len() == 0) {
			t.Errorf("%v: printed %q, want %q", test.args, out.String(), test.out)
		}
		if requests > 1 {
			t.Errorf("%v: sent %d times, want once", test.args, requests)
		}
	}
}

// TestTrigger_edits reads what is sent of an event that is changed, of one on a
// given call, and of those in a file.
func TestTrigger_edits(t *testing.T) {
	key := newKey(t)
	const two = `[{"id":"1","source":"s","type":"Own.CallConnected","x":[1.0]},{"id":"2","source":"s","type":"Own.CallConnected"}]`
	file := bridgetest.WriteFile(t, "events.json", two)
	var body []byte
	bridge := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ = io.ReadAll(r.Body)
	}))
	defer bridge.Close()
	trigger := func(args ...string) string {
		var out bytes.Buffer
		args = append(args, "--key="+key, "--target="+bridge.URL)
		if err := runCommand(t, t.Context(), &triggerCmd{}, stdio{out: &out, err: io.Discard}, args...); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}

	trigger("CallConnected", "--call=c-42", "--set=data.resultInformation.code=486", "--set=data.operationContext=a, b=c", "--set=data.new={\"x\":[]}")
	var events []struct {
		Source string
		Data   struct {
			CallConnectionID, OperationContext string
			ResultInformation                  struct{ Code int }
			New                                json.RawMessage
		}
	}
	if err := json.Unmarshal(body, &events); err != nil || len(events) != 1 {
		t.Fatalf("%d events, error %v in %s", len(events), err, body)
	}
	e := events[0]
	if e.Source != "calling/callConnections/c-42" || e.Data.CallConnectionID != "c-42" || e.Data.ResultInformation.Code != 486 ||
		e.Data.OperationContext != "a, b=c" || string(e.Data.New) != `{"x":[]}` {
		t.Errorf("sent %s", body)
	}

	if out := trigger("--file=" + file); string(body) != two || strings.Count(out, "event id") != 2 {
		t.Errorf("sent %s\nprinted %s", body, out)
	}
	trigger("--file="+file, "--set=id=7")
	if want := strings.ReplaceAll(strings.ReplaceAll(two, `"1"`, `"7"`), `"2"`, `"7"`); string(body) != want {
		t.Errorf("sent %s, want %s", body, want)
	}
}

// TestTrigger_eventGrid sends what a file has of Event Grid, in either schema, to
// the route for Event Grid, and the rest to that for callbacks.
func TestTrigger_eventGrid(t *testing.T) {
	key := newKey(t)
	var got string
	bridge := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		route, _, _ := strings.Cut(r.URL.Path[1:], "/") // without the application's own path
		got = strings.Join([]string{route, r.Header.Get("Content-Type"), r.Header.Get("Aeg-Event-Type")}, " ")
	}))
	defer bridge.Close()
	const grid, callbacks = "eventgrid ", "callbacks application/json; charset=utf-8 "
	for _, test := range []struct{ body, want, printed string }{
		{`[{"id":"1","topic":"/subscriptions/x","eventType":"Microsoft.Communication.IncomingCall","eventTime":null,"data":{}}]`,
			grid + "application/json; charset=utf-8 Notification", ": IncomingCall\n  event id          1\n"},
		{`{"id":"1","topic":"/subscriptions/x","eventType":"Microsoft.EventGrid.SubscriptionDeletedEvent"}`,
			grid + "application/json; charset=utf-8 SubscriptionDeletion", ": SubscriptionDeletedEvent\n"},
		{`{"id":"1","eventType":"Microsoft.EventGrid.SubscriptionValidationEvent"}`, grid + "application/json; charset=utf-8 SubscriptionValidation", ""},
		{`{"id":"1","source":"/subscriptions/x","type":"Microsoft.Communication.IncomingCall","specversion":"1.0"}`,
			grid + "application/cloudevents-batch+json; charset=utf-8 Notification", ""},
		{`{"id":"1","source":"/subscriptions/x","type":"Microsoft.Communication.OfALaterVersion","specversion":"1.0"}`,
			grid + "application/cloudevents-batch+json; charset=utf-8 Notification", ""},
		{"\ufeff" + `{"id":"1","source":"calling/callConnections/c","type":"Microsoft.Communication.CallConnected","time":7,"specversion":"1.0"}`, callbacks, ""},
		{`{"id":"1","source":"s","type":"T","eventType":"x","specversion":"1.0"}`, callbacks, ""},
	} {
		file := bridgetest.WriteFile(t, "events.json", test.body)
		var out bytes.Buffer
		err := runCommand(t, t.Context(), &triggerCmd{}, stdio{out: &out, err: io.Discard}, "--key="+key, "--file="+file,
			"--target="+bridge.URL+"/callbacks", "--eventgrid-target="+bridge.URL+"/eventgrid")
		if err != nil || got != test.want || !strings.Contains(out.String(), test.printed) {
			t.Errorf("%s\n got %q, %v\nwant %q\nprinted %s", test.body, got, err, test.want, out.String())
		}
	}
	mixed := `[{"id":"1","eventType":"Microsoft.Communication.IncomingCall"},{"id":"1","source":"s","type":"CallConnected"}]`
	file := bridgetest.WriteFile(t, "mixed.json", mixed)
	err := runCommand(t, t.Context(), &triggerCmd{}, stdio{out: io.Discard, err: io.Discard}, "--key="+key, "--file="+file)
	if err == nil || !strings.Contains(err.Error(), "is not sent like the first") {
		t.Errorf("mixed: %v", err)
	}
}

// TestTrigger_fileWithByteOrderMark sends what the file holds, and names the
// encoding of one that it cannot read.
func TestTrigger_fileWithByteOrderMark(t *testing.T) {
	event := `{"id":"1","source":"s","type":"T","specversion":"1.0"}`
	key := newKey(t)
	c := triggerCmd{File: bridgetest.WriteFile(t, "event.json", "\xef\xbb\xbf"+event), Key: key}
	got, err := c.callbacks()
	if err != nil || len(got) != 1 || got[0].Events[0].ID != "1" {
		t.Errorf("got %+v, error %v", got, err)
	}
	c.File = bridgetest.WriteFile(t, "wide.json", "\xff\xfe"+strings.Join(strings.SplitAfter(event, ""), "\x00")+"\x00")
	if _, err := c.callbacks(); err == nil || !strings.Contains(err.Error(), "wide.json: the text is UTF-16") {
		t.Errorf("error %v", err)
	}
}
