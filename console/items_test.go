package console_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/console"
	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// setAside puts a callback with one event into quarantine, as the bridge does it.
func setAside(t testing.TB, js jetstream.JetStream, id, payload string) {
	t.Helper()
	m := nats.NewMsg(schemas.QuarantineSubject("contoso", "conflict"))
	for name, value := range map[string]string{
		schemas.HeaderQuarantineReason: "conflict", schemas.HeaderResource: "contoso", schemas.HeaderContentType: "application/cloudevents+json",
		schemas.HeaderReceivedAt: "2026-01-02T03:04:05.678Z", schemas.HeaderTokenIssuer: "https://issuer.example", schemas.HeaderTokenAudience: "c3b7d7e8-4a3c-4a0b-9c55-0123456789ab",
		schemas.HeaderTokenKeyID: "k1", schemas.HeaderTokenExpires: "1767323345", schemas.HeaderDeliveryID: "d-" + id, schemas.HeaderDeliveryIndex: "0/1",
	} {
		m.Header.Set(name, value)
	}
	m.Data = []byte(payload)
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

func eventJSON(id, context string) string {
	return `{"id":"` + id + `","source":"calling/callConnections/c-1","type":"Microsoft.Communication.CallConnected","specversion":"1.0","data":{"callConnectionId":"c-1","operationContext":"` + context + `"}}`
}

// page returns the status and the text of an answer.
func (q request) page(t testing.TB, c http.Handler) (int, string) {
	t.Helper()
	answer := q.to(c)
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// newQuarantine returns a console with two quarantined events; the second is
// also in the stream with other data.
func newQuarantine(t *testing.T, write bool) (*console.Console, jetstream.JetStream, *bridgetest.Log) {
	t.Helper()
	log := &bridgetest.Log{}
	c, js := newConsole(t, func(o *console.Options) {
		o.Token, o.Write, o.ShowPII, o.Decode, o.Logger = secret, write, true, ingest.Decode, log.Logger()
	})
	natstest.CreateStream(t, js, jetstream.StreamConfig{Name: schemas.QuarantineStream, Subjects: []string{"acs-quarantine.>"}, AllowDirect: true})
	setAside(t, js, "1", eventJSON("1", "first"))
	setAside(t, js, "2", eventJSON("2", "second"))
	m := nats.NewMsg(schemas.WithSlot("acs.contoso.CallConnected.c-1"))
	m.Header.Set(schemas.HeaderMsgID, "calling/callConnections/c-1#2")
	m.Data = []byte(eventJSON("2", "original"))
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return c, js, log
}

func left(t *testing.T, js jetstream.JetStream, stream string) uint64 {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

func TestItems_quarantine(t *testing.T) {
	t.Parallel()
	c, js, log := newQuarantine(t, true)
	cookie := logIn(t, c)
	if _, text := (request{path: "/quarantine", cookie: cookie}).page(t, c); !strings.Contains(text, `href="/quarantine/2"`) || !strings.Contains(text, "2 in the stream") {
		t.Error("the list is\n", text)
	}
	status, text := request{path: "/quarantine/2?confirm=redrive", cookie: cookie}.page(t, c)
	if status != 200 || !strings.Contains(text, `In the stream under the same id: <a href="/events/1">1</a>`) || !strings.Contains(text, "every consumer gets them") || strings.Contains(text, "second") || strings.Contains(text, "original") {
		t.Errorf("%d, the page of a conflict is\n%s", status, text)
	}
	if _, text := (request{path: "/quarantine/2", method: http.MethodPost, cookie: cookie}).page(t, c); !strings.Contains(text, "second") || !strings.Contains(text, "original") {
		t.Error("unmasked, both versions are not on the page:\n", text)
	}
	for _, path := range []string{"/quarantine/1?action=drop", "/quarantine/1?confirm=drop", "/quarantine/1?action=redrive&confirm=redrive"} {
		request{path: path, cookie: cookie}.to(c)
		cross := map[string]string{"Sec-Fetch-Site": "cross-site"}
		if answer := (request{path: path, method: http.MethodPost, form: "action=drop", cookie: cookie, header: cross}).to(c); answer.StatusCode != http.StatusForbidden {
			t.Errorf("POST of another site: %s", answer.Status)
		}
	}
	if n := left(t, js, schemas.QuarantineStream); n != 2 {
		t.Fatalf("a GET or another site changed the quarantine, %d left", n)
	}
	do := func(path, action string) (int, string) {
		return request{path: path, method: http.MethodPost, form: url.Values{"action": {action}}.Encode(), cookie: cookie}.page(t, c)
	}
	if status, text := do("/quarantine/1", "redrive"); status != http.StatusSeeOther {
		t.Errorf("redrive: %d\n%s", status, text)
	}
	if events, set := left(t, js, schemas.Stream), left(t, js, schemas.QuarantineStream); events != 2 || set != 1 {
		t.Errorf("after the redrive: %d events, %d in quarantine", events, set)
	}
	if status, text := do("/quarantine/2", "redrive"); status != 200 || !strings.Contains(text, "Not done: ") {
		t.Errorf("redrive of a conflict: %d\n%s", status, text)
	}
	if status, _ := do("/quarantine/2", "drop"); status != http.StatusSeeOther || left(t, js, schemas.QuarantineStream) != 0 {
		t.Errorf("drop: %d", status)
	}
	if !log.Has("the console changes what was set aside", "action=redrive", "sequence=1") || !log.Has("the console changes", "action=drop", "sequence=2") {
		t.Error("the log has\n", log)
	}
}

// TestItems_withoutWrite changes nothing.
func TestItems_withoutWrite(t *testing.T) {
	t.Parallel()
	c, js, _ := newQuarantine(t, false)
	cookie := logIn(t, c)
	if _, text := (request{path: "/quarantine/1?confirm=drop", cookie: cookie}).page(t, c); strings.Contains(text, "confirm") {
		t.Error("the page offers what it does not do:\n", text)
	}
	for _, action := range []string{"redrive", "drop"} {
		if _, text := (request{path: "/quarantine/1", method: http.MethodPost, form: "action=" + action, cookie: cookie}).page(t, c); !strings.Contains(text, "without --console-write") {
			t.Error("the answer is\n", text)
		}
	}
	if n := left(t, js, schemas.QuarantineStream); n != 2 {
		t.Errorf("%d are left", n)
	}
}

// TestServices shows a service that holds a call for its dead letter, and redrives that.
func TestServices(t *testing.T) {
	t.Parallel()
	c, js := newConsole(t, func(o *console.Options) { o.Token, o.Write = secret, true })
	cookie := logIn(t, c)
	var fixed atomic.Bool
	handled := make(chan string, 10)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- consume.Run(ctx, js.Conn(), consume.Service[struct{}]{
			Name: "billing", HandleStale: true, HoldFailed: true, StartAt: time.Unix(0, 0), Logger: slog.New(slog.DiscardHandler),
			Handle: func(_ context.Context, _ *consume.Call[struct{}], m *schemas.Message) error {
				if !fixed.Load() {
					return consume.Permanent(errors.New("no <b>tenant</b>"))
				}
				handled <- m.Event.ID
				return nil
			},
		})
	}()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	m := nats.NewMsg(schemas.WithSlot("acs.contoso.CallConnected.c-1"))
	m.Data = []byte(eventJSON("1", "first"))
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	natstest.Until(t, func() bool {
		s, err := js.Stream(t.Context(), consume.DeadStream("billing"))
		return err == nil && s.CachedInfo().State.Msgs == 1
	})
	get := func(path string) string {
		_, text := request{path: path, cookie: cookie}.page(t, c)
		return text
	}
	natstest.Until(t, func() bool { return strings.Contains(get("/services"), `<a href="/calls/c-1">`) })
	if text := get("/services"); !strings.Contains(text, `<a href="/services/billing/dead">1</a>`) || !strings.Contains(text, `data-live="/live"`) {
		t.Error("the services are\n", text)
	}
	if text := get("/services/billing/dead"); !strings.Contains(text, "acsbridge deadletters list --service billing") {
		t.Error("the dead letters are\n", text)
	}
	if text := get("/services/billing/dead/1"); !strings.Contains(text, "permanent") || strings.Contains(text, "<b>tenant") || !strings.Contains(text, `href="/calls/c-1"`) {
		t.Error("the dead letter is\n", text)
	}
	fixed.Store(true)
	status, text := request{path: "/services/billing/dead/1", method: http.MethodPost, form: "action=redrive", cookie: cookie}.page(t, c)
	if status != http.StatusSeeOther {
		t.Fatalf("redrive: %d\n%s", status, text)
	}
	select {
	case id := <-handled:
		if id != "1" || left(t, js, consume.DeadStream("billing")) != 0 {
			t.Error("handled", id)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the service does not get the event again")
	}
}

// TestPayload_notJSON shows a payload that is not JSON to a click alone: nothing in it can
// be masked.
func TestPayload_notJSON(t *testing.T) {
	t.Parallel()
	c, js, _ := newQuarantine(t, false)
	cookie := logIn(t, c)
	setAside(t, js, "3", "caller=+15551234567")
	if _, err := js.Publish(t.Context(), schemas.WithSlot("acs.contoso.CallConnected.c-1"), []byte("caller=+15551234567")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/quarantine/3", "/events/2"} {
		for method, shown := range map[string]bool{http.MethodGet: false, http.MethodPost: true} {
			_, text := request{path: path, method: method, cookie: cookie}.page(t, c)
			if strings.Contains(text, "15551234567") != shown || strings.Contains(text, "The payload is not JSON") == shown {
				t.Errorf("%s %s:\n%s", method, path, text)
			}
		}
	}
}

// TestServices_manyBrowsers reads the services once for all who ask at a time.
func TestServices_manyBrowsers(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64 // for the connection: before a reading, and by it
	c, _ := newConsole(t, func(o *console.Options) {
		connect := o.Reader.JetStream
		o.Reader.JetStream = func(ctx context.Context) (jetstream.JetStream, error) {
			asked.Add(1)
			return connect(ctx)
		}
	})
	var browsers sync.WaitGroup
	for range 20 {
		browsers.Go(func() {
			if status, text := (request{path: "/services"}).page(t, c); status != 200 || !strings.Contains(text, "As of ") {
				t.Errorf("%d\n%s", status, text)
			}
		})
	}
	browsers.Wait()
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times for the connection for 20 browsers", n)
	}
}
