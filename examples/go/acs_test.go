//go:build unix

package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/acsbridge/acsbridge/acstest"
)

// scenario is what happens in a call.
type scenario struct {
	answers []answer // to one recognize after another
	want    []string // actions
}

// answer is the event that answers a question; without a type none comes.
type answer struct{ event, tone string }

var scenarios = map[string]scenario{
	"agent":  {[]answer{{"RecognizeCompleted", "zero"}}, []string{"recognize", "transferToParticipant"}},
	"hours":  {[]answer{{"RecognizeCompleted", "two"}}, []string{"recognize", "play", "terminate"}},
	"silent": {[]answer{{}, {}}, []string{"recognize", "recognize", "terminate"}},
	"again":  {[]answer{{"RecognizeFailed", ""}, {"RecognizeCompleted", "two"}}, []string{"recognize", "recognize", "play", "terminate"}},
}

// acs is an ACS that does what it is asked: it answers, and sends callbacks through the
// bridge, each one twice.
type acs struct {
	*httptest.Server
	t      *testing.T
	key    []byte
	caller *acstest.Caller
	sends  sync.WaitGroup

	mu       sync.Mutex
	calls    map[string]*simulated
	done     map[string]string // requests by their id
	requests int
	unsaid   int
}

// simulated is one call.
type simulated struct {
	*acstest.SimCall
	scenario string
	actions  []string
	asked    int
	over     bool
}

func newACS(t *testing.T, caller *acstest.Caller) *acs {
	a := &acs{t: t, key: []byte("a key of thirty-two octets, here"), caller: caller, calls: make(map[string]*simulated), done: make(map[string]string)}
	a.Server = httptest.NewServer(a)
	t.Cleanup(func() {
		a.Close()
		a.sends.Wait()
	})
	return a
}

// begin has a call come in.
func (a *acs) begin(scenario string) {
	id := uuid.NewString()
	call := &simulated{SimCall: acstest.NewCallOf(id), scenario: scenario}
	a.mu.Lock()
	a.calls[id] = call
	a.mu.Unlock()
	a.send(call, "CallConnected", "", "")
}

// send sends an event of a call, in the background.
func (a *acs) send(call *simulated, eventType, operationContext, tone string) {
	event, err := call.NewEvent(eventType)
	if err != nil {
		a.t.Error(err)
		return
	}
	data := make(map[string]any)
	if err := json.Unmarshal(event.Data, &data); err != nil {
		a.t.Error(err)
	}
	data["operationContext"] = operationContext
	if tone != "" {
		data["dtmfResult"] = map[string]any{"tones": []string{tone}}
	}
	if event.Data, err = json.Marshal(data); err != nil {
		a.t.Error(err)
	}
	a.sends.Go(func() {
		for range 2 {
			if got := a.caller.Send(a.t.Context(), call.Callback(event)); got.Status != http.StatusOK && a.t.Context().Err() == nil {
				a.t.Errorf("the bridge answered %d, %v", got.Status, got.Err)
			}
		}
	})
}

// ServeHTTP does an action once for each Repeatability-Request-ID. Of five answers one is
// lost, and another one asks to come again.
func (a *acs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the replica was killed
	}
	a.checkSignature(r, body)
	id, action, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/calling/callConnections/"), ":")
	var asked struct{ OperationContext string }
	if err := json.Unmarshal(body, &asked); err != nil || r.Header.Get("Repeatability-First-Sent") == "" || r.URL.Query().Get("api-version") == "" {
		a.t.Errorf("%s %s: %v", r.URL, body, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests++
	call := a.calls[id]
	if call == nil {
		a.t.Errorf("%s for a call that does not exist", action)
		return
	}
	if a.requests%5 == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	key := r.Header.Get("Repeatability-Request-ID")
	if before, again := a.done[key]; !again {
		a.done[key] = id + action
		a.act(call, action, asked.OperationContext)
	} else if before != id+action {
		a.t.Errorf("%s with the id of another action", action)
	}
	if a.requests%5 == 1 {
		a.unsaid++
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(http.StatusAccepted)
}

// act does an action.
func (a *acs) act(call *simulated, action, operationContext string) {
	call.actions = append(call.actions, action)
	switch action {
	case "recognize":
		if answers := scenarios[call.scenario].answers; call.asked < len(answers) {
			if next := answers[call.asked]; next.event != "" {
				a.send(call, next.event, operationContext, next.tone)
			}
		}
		call.asked++
	case "play":
		a.send(call, "PlayCompleted", operationContext, "")
	case "transferToParticipant", "terminate":
		call.over = true
		a.send(call, "CallDisconnected", "", "")
	}
}

// checkSignature checks a request as the reference of HMAC authentication says.
func (a *acs) checkSignature(r *http.Request, body []byte) {
	sum := sha256.Sum256(body)
	content := base64.StdEncoding.EncodeToString(sum[:])
	mac := hmac.New(sha256.New, a.key)
	mac.Write([]byte("POST\n" + r.RequestURI + "\n" + r.Header.Get("x-ms-date") + ";" + r.Host + ";" + content))
	want := "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=" + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if r.Header.Get("x-ms-content-sha256") != content || r.Header.Get("Authorization") != want {
		a.t.Error("a request is not signed")
	}
}

func (a *acs) count(what func(*simulated) int) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, call := range a.calls {
		n += what(call)
	}
	return n
}

func (a *acs) actions() int { return a.count(func(c *simulated) int { return len(c.actions) }) }

func (a *acs) ended() int {
	return a.count(func(c *simulated) int {
		if c.over {
			return 1
		}
		return 0
	})
}

func (a *acs) lost() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.unsaid
}

// stories counts the calls by scenario and actions.
func (a *acs) stories() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	stories := make(map[string]int)
	for _, call := range a.calls {
		stories[call.scenario+": "+strings.Join(call.actions, " ")]++
	}
	return stories
}
