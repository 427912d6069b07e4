package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/acstest"
)

var triggerLine = regexp.MustCompile(`^200 in [0-9.]+[mµ]?s: CallConnected ([0-9a-f-]{36}) of calling/callConnections/[0-9a-f-]{36}\n$`)

// runTrigger runs trigger, which must succeed, and returns the event's id.
func runTrigger(t *testing.T, bridge *httptest.Server, args ...string) (event string) {
	t.Helper()
	if bridge != nil {
		args = append(args, "--target="+bridge.URL)
	}
	var out bytes.Buffer
	if err := runCommand(t, t.Context(), &triggerCmd{}, stdio{out: &out, err: io.Discard}, args...); err != nil {
		t.Fatal(err, out.String())
	}
	line := triggerLine.FindStringSubmatch(out.String())
	if line == nil {
		t.Fatalf("printed %q", out.String())
	}
	return line[1]
}

// TestTrigger sends events to a bridge that answers one status.
func TestTrigger(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key.pem")
	if _, err := acstest.LoadOrCreateKey(key); err != nil {
		t.Fatal(err)
	}
	var status, requests int
	bridge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests++
		w.WriteHeader(status)
	}))
	defer bridge.Close()

	status = http.StatusOK
	runTrigger(t, bridge, "CallConnected", "--key="+key)
	runTrigger(t, bridge, "Microsoft.Communication.CallConnected", "--key="+key)

	for _, test := range []struct {
		status int
		args   []string
		want   string
		out    string
	}{
		{401, []string{"PlayFailed", "--key=" + key}, "--key, --issuer and --audience must be those that it trusts", "401 in "},
		{503, []string{"PlayFailed", "--key=" + key}, "the bridge answered 503 Service Unavailable", "503 in "},
		{200, []string{"PlayFaild", "--key=" + key}, `unknown event type "PlayFaild", did you mean PlayFailed?`, ""},
		{200, []string{"PlayFailed", "--key=" + key + ".none"}, "no such file or directory (demo prints the path of its key", ""},
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

// TestTriggerEdits reads what is sent of an event that is changed, of one on a
// given call, and of those in a file.
func TestTriggerEdits(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key.pem")
	if _, err := acstest.LoadOrCreateKey(key); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "events.json")
	const two = `[{"id":"1","source":"s","type":"Own.CallConnected","x":[1.0]},{"id":"2","source":"s","type":"Own.CallConnected"}]`
	if err := os.WriteFile(file, []byte(two), 0o600); err != nil {
		t.Fatal(err)
	}
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

	if out := trigger("--file=" + file); string(body) != two || strings.Count(out, "\n") != 2 {
		t.Errorf("sent %s\nprinted %s", body, out)
	}
	trigger("--file="+file, "--set=id=7")
	if want := strings.ReplaceAll(strings.ReplaceAll(two, `"1"`, `"7"`), `"2"`, `"7"`); string(body) != want {
		t.Errorf("sent %s, want %s", body, want)
	}
}
