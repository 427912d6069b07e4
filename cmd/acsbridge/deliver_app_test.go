package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// Secrets of Standard Webhooks.
const (
	oldWebhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	newWebhookSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDazfgtfaeYxk="
)

// verifyWebhook verifies a request as its receiver would.
func verifyWebhook(secret string, body []byte, header http.Header) error {
	receiver, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return err
	}
	return receiver.Verify(body, header)
}

// signedWebhookApp is an application: "signedwebhook ADDR SECRET" verifies each event and prints
// its path and type.
func signedWebhookApp() {
	must(0, http.ListenAndServe(os.Args[1], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := must(io.ReadAll(r.Body))
		if err := verifyWebhook(os.Args[2], body, r.Header); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		var events []struct{ Type string }
		if err := json.Unmarshal(body, &events); err != nil || len(events) != 1 {
			http.Error(w, "not one event", http.StatusBadRequest)
			return
		}
		fmt.Println(r.Method, r.URL.Path, r.Header.Get("Content-Type"), events[0].Type)
	})))
}

// post is a request that an application got.
type post struct {
	call, event string
	id          string // webhook-id
	url         string
	header      http.Header
	at          time.Time
	status      int
	ended       <-chan struct{} // closed when the sender has broken off
}

// app is an application that keeps what it gets.
type app struct {
	*httptest.Server
	t      *testing.T
	answer func(http.ResponseWriter, *post) // nil: 200

	mu    sync.Mutex
	posts []*post
	busy  map[string]bool // calls
}

// newApp starts an application with plain HTTP.
func newApp(t *testing.T, answer func(http.ResponseWriter, *post)) *app {
	a := &app{t: t, answer: answer, busy: make(map[string]bool)}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

// ServeHTTP checks that a request is what ACS would send, signed with both secrets, and
// that no other one is about the same call.
func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender was killed
	}
	for _, secret := range []string{oldWebhookSecret, newWebhookSecret} {
		if err := verifyWebhook(secret, body, r.Header); err != nil {
			a.t.Errorf("%v with secret %s", err, secret)
		}
	}
	inner := strings.TrimSuffix(strings.TrimPrefix(string(body), "["), "]")
	form, array := "application/json; charset=utf-8", 2
	if r.URL.Path == "/grid" {
		form, array = "application/cloudevents+json; charset=utf-8", 0
	}
	if got := r.Header.Get("Content-Type"); r.Method != http.MethodPost || got != form {
		a.t.Errorf("%s %s", r.Method, got)
	}
	event, err := schemas.ParseEvent([]byte(inner))
	if err != nil || len(inner) != len(body)-array {
		a.t.Errorf("body %s: %v", body, err)
		return
	}
	p := &post{
		call: event.Data.IDs().CallConnectionID, event: event.ID, id: r.Header.Get("webhook-id"), url: r.URL.String(),
		header: r.Header, at: time.Now(), status: http.StatusOK, ended: r.Context().Done(),
	}
	if string(deliverPayload(p.call, p.event)) != inner {
		a.t.Errorf("payload %s", inner)
	}
	a.mu.Lock()
	if a.busy[p.call] {
		a.t.Errorf("two events of call %s at a time", p.call)
	}
	a.busy[p.call] = true
	a.mu.Unlock()
	defer func() { // also when answer breaks off
		a.mu.Lock()
		defer a.mu.Unlock()
		a.busy[p.call] = false
		a.posts = append(a.posts, p)
	}()
	if a.answer != nil {
		a.answer(&statusWriter{w, p}, p)
	}
}

// statusWriter notes the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	post *post
}

func (w *statusWriter) WriteHeader(status int) {
	w.post.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (a *app) all() []*post {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.posts)
}

// accepted returns the events of each call that were answered 200, each one where it was
// for the first time.
func (a *app) accepted() map[string][]string {
	events := make(map[string][]string)
	for _, p := range a.all() {
		if p.status == http.StatusOK && !slices.Contains(events[p.call], p.event) {
			events[p.call] = append(events[p.call], p.event)
		}
	}
	return events
}

// await waits until so many events were accepted.
func (a *app) await(n int) {
	a.t.Helper()
	natstest.Until(a.t, func() bool {
		count := 0
		for _, events := range a.accepted() {
			count += len(events)
		}
		return count >= n
	})
}

// newDeliverStream starts a server with the stream of the bridge.
func newDeliverStream(t *testing.T) (*natstest.Server, jetstream.JetStream) {
	t.Helper()
	ignoreEnvironment(t)
	s := natstest.Start(t)
	js := s.JetStream()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: schemas.Stream, Subjects: []string{"acs.>"}, AllowDirect: true, MaxAge: 72 * time.Hour,
	}); err != nil {
		t.Fatal(err)
	}
	return s, js
}

func deliverPayload(call, event string) []byte {
	return fmt.Appendf(nil, `{"id":%q,"source":"calling/callConnections/%s","type":"Microsoft.Communication.PlayCompleted", "specversion":"1.0","data":{"callConnectionId":%[2]q}}`, event, call)
}

const callerInQuery = "callerId=%2B15551234567"

// deliverMessage is an event as the bridge stores it.
func deliverMessage(call, event string) *nats.Msg {
	token := schemas.CallToken(call)
	return &nats.Msg{
		Subject: "acs.contoso.PlayCompleted." + schemas.Slot(token) + "." + token, Data: deliverPayload(call, event),
		Header: nats.Header{schemas.HeaderMsgID: {"calling/callConnections/" + call + "#" + event}, schemas.HeaderPath: {"c/" + call}, schemas.HeaderQuery: {callerInQuery}},
	}
}

// storeEvent stores an event with further headers.
func storeEvent(t *testing.T, js jetstream.JetStream, call, event string, headers ...string) {
	t.Helper()
	m := deliverMessage(call, event)
	for i := 0; i < len(headers); i += 2 {
		m.Header.Set(headers[i], headers[i+1])
	}
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

// deliverArgs are the flags of deliver for an application; later ones win.
func deliverArgs(t *testing.T, nats, to string, args ...string) []string {
	return append([]string{
		"deliver", "--name=crm", "--to=" + to, "--nats-url=" + nats, "--admin-listen=127.0.0.1:0", "--log-format=json", "--allow-private",
		"--secret-file=" + bridgetest.WriteFile(t, "new", newWebhookSecret+"\n"), "--secret-file=" + bridgetest.WriteFile(t, "old", oldWebhookSecret+"\n"),
		"--first-retry=20ms", "--last-retry=100ms",
	}, args...)
}

// startDeliver starts deliver.
func startDeliver(t *testing.T, nats, to string, args ...string) *bridgeProcess {
	t.Helper()
	return startProcess(t, deliverArgs(t, nats, to, args...)...)
}

// slots waits until the replicas have so many slots each.
func awaitSlots(t *testing.T, counts map[*bridgeProcess]int) {
	t.Helper()
	natstest.Until(t, func() bool {
		for b, n := range counts {
			if !strings.Contains(ask(b.admin+"/metrics"), fmt.Sprintf("\nacsbridge_consume_slots{service=\"crm\"} %d\n", n)) {
				return false
			}
		}
		return true
	})
}
