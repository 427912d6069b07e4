package bridge

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// played is a bridge that a simulated ACS calls.
type played struct {
	*Bridge
	t      *testing.T
	issuer *acstest.Issuer
	js     jetstream.JetStream // of its server
	caller *acstest.Caller
	log    *bridgetest.Log
}

// play starts a bridge with an embedded server and plays calls.
func play(t *testing.T, args ...string) *played {
	t.Helper()
	issuer := newIssuer(t)
	p := &played{t: t, issuer: issuer, log: &bridgetest.Log{}}
	args = append(args, gridArgs("--resource=contoso="+acstest.DemoAudience, "--issuer="+issuer.Name(), "--oidc-config-url="+issuer.MetadataURL(),
		"--eventgrid-issuer="+issuer.Name(), "--eventgrid-oidc-config-url="+issuer.MetadataURL())...)
	p.Bridge = runBridge(t, onLoopback(t, args...), p.log.Logger())
	p.js = natstest.JetStream(t, p.EmbeddedURL())
	natstest.Until(t, func() bool { return p.Pending() == nil })
	var err error
	p.caller, err = acstest.NewCaller(acstest.CallerOptions{
		Target: p.CallbackURL(), Signer: issuer, KeepIDs: true,
		EventGrid: &acstest.EventGridOptions{Target: p.EventGridURL()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.caller.Close)
	return p
}

// calls plays calls of flows, all when none is named.
func (p *played) calls(n int, speed float64, flows ...string) {
	p.t.Helper()
	list, err := acstest.NamedFlows(flows...)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.caller.Run(p.t.Context(), acstest.Load{Flows: list, Calls: n, Rate: 50, Speed: speed, EventGrid: true}); err != nil {
		p.t.Fatal(err)
	}
	if left := p.Drain(p.t.Context()); left > 0 {
		p.t.Fatalf("%d records are not in the stream", left)
	}
}

// setAside puts a callback into quarantine.
func (p *played) setAside() {
	p.t.Helper()
	m := nats.NewMsg(schemas.QuarantineSubject("contoso", "not_cloudevents"))
	for name, value := range map[string]string{
		schemas.HeaderQuarantineReason: "not_cloudevents", schemas.HeaderResource: "contoso", schemas.HeaderContentType: "application/json",
		schemas.HeaderReceivedAt: "2026-01-02T03:04:05.678Z", schemas.HeaderTokenIssuer: "https://issuer.example", schemas.HeaderTokenAudience: acstest.DemoAudience,
		schemas.HeaderTokenKeyID: "k1", schemas.HeaderTokenExpires: "1767323345", schemas.HeaderDeliveryID: "d-1",
	} {
		m.Header.Set(name, value)
	}
	m.Data = []byte(`[{"id":"1","source":"calling/callConnections/c-1","type":"Microsoft.Communication.CallConnected","specversion":"1.0","data":{"callConnectionId":"c-1"}}]`)
	if _, err := p.js.PublishMsg(p.t.Context(), m); err != nil {
		p.t.Fatal(err)
	}
}

// TestConsole_browser looks at each view as an operator does.
func TestConsole_browser(t *testing.T) {
	t.Parallel()
	p := play(t)
	b := newTab(t, p.ConsoleURL())
	p.calls(1, 20, "transfer")
	p.calls(1, 20, "recording")
	p.calls(1, 20, "play-failed")
	p.calls(4, 20, "hostile")

	t.Run("now", func(t *testing.T) {
		b.t = t
		b.open("/")
		if text := b.text("main"); !strings.Contains(text, "Taking callbacks.") || !strings.Contains(text, "connected") {
			t.Error("the page says\n", text)
		}
		before := b.text("#now-answers")
		p.calls(1, 20, "rejected")
		b.until("document.querySelector('#now-answers').innerText !== " + quote(before))
		b.shoot("now")
	})
	t.Run("refusals", func(t *testing.T) {
		b.t = t
		b.open("/refusals")
		b.until("document.querySelector('main').innerText.includes('Yours?')")
		text := b.text("main")
		for _, want := range []string{"wrong_audience", "bad_signature", "expired", "127.0.0.0/24", "before it came"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %s in\n%s", want, text)
			}
		}
		b.shoot("refusals")
	})
	t.Run("calls", func(t *testing.T) { b.t = t; lookAtCalls(b, p) })
	t.Run("call", func(t *testing.T) { b.t = t; lookAtCall(b, p) })
	t.Run("quarantine", func(t *testing.T) { b.t = t; lookAtQuarantine(b, p) })
	t.Run("event", func(t *testing.T) {
		b.t = t
		b.open("/calls?type=ParticipantsUpdated")
		b.do(chromedp.Click("td a"), chromedp.WaitReady("#call-events"))
		b.do(chromedp.Click("//td/a[text()='ParticipantsUpdated']"), chromedp.WaitReady("pre.json"))
		text := b.text("main")
		for _, want := range []string{"8:acs:***", "acs-token-aud", "ce-id", "acsbridge trigger --file", "curl --data-binary"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %s in\n%s", want, text)
			}
		}
		if regexp.MustCompile(`\+\d{7}`).MatchString(text) {
			t.Error("a telephone number is shown:\n", text)
		}
		b.shoot("event")
	})
}

// lookAtCalls filters, follows the list live, and opens a deep link.
func lookAtCalls(b *tab, p *played) {
	b.open("/calls")
	rows := "document.querySelectorAll('table.calls tbody tr').length"
	before := ask[int](b, rows)
	if before < 4 {
		b.t.Errorf("%d calls, want those that were played:\n%s", before, b.text("main"))
	}
	b.until("!document.querySelector('#live').hidden")
	p.calls(1, 20, "outbound")
	b.until(fmt.Sprintf("%s === %d", rows, before+1))
	b.shoot("calls")
	if cut := ask[int](b, "(e => e.scrollWidth - e.clientWidth)(document.querySelector('#calls-list .scroll'))"); cut > 0 {
		b.t.Errorf("the last %d pixels of the table are cut", cut)
	}
	b.do(chromedp.SetValue("#type", "RecordingStateChanged"), chromedp.Submit("form.filters"), chromedp.WaitReady("form.filters"))
	b.until("location.search.includes('type=RecordingStateChanged')")
	link := ask[string](b, "location.href")
	if n := ask[int](b, rows); n != 1 {
		b.t.Errorf("%d calls with a recording, want 1:\n%s", n, b.text("main"))
	}
	b.open("/")
	b.do(chromedp.Navigate(link), chromedp.WaitReady("main"))
	if n := ask[int](b, rows); n != 1 {
		b.t.Errorf("the deep link shows %d calls", n)
	}
}

// lookAtCall sees a recorded call, one that was transferred and one whose prompt failed.
func lookAtCall(b *tab, p *played) {
	for _, test := range []struct{ eventType, name, lane, drawn, says string }{
		{"RecordingStateChanged", "recorded", "recording", "rect.operation title", "Recording, "},
		{"CallTransferAccepted", "transferred", "contoso", "a:has(.mark.event) title", "CallTransferAccepted"},
		{"PlayFailed", "failed", "contoso", "text.failure", "PlayFailed 400/8535 the audio file's format is wrong"},
	} {
		b.open("/calls?type=" + test.eventType)
		b.do(chromedp.Click("td a"), chromedp.WaitReady("#call-timeline svg"))
		for selector, want := range map[string]string{"text.kind": test.lane, test.drawn: test.says} {
			drawn := ask[[]string](b, "[...document.querySelectorAll('#call-timeline "+selector+"')].map(e => e.textContent)")
			if !slices.ContainsFunc(drawn, func(text string) bool { return strings.Contains(text, want) }) {
				b.t.Errorf("%s: %s has no %q: %q", test.name, selector, want, drawn)
			}
		}
		marks, listed := ask[int](b, "document.querySelectorAll('.mark').length"), ask[int](b, "document.querySelectorAll('table.events tbody tr').length")
		if marks != listed || marks == 0 {
			b.t.Errorf("%s: %d marks and %d events in the list", test.name, marks, listed)
		}
		if test.name == "recorded" {
			b.shoot("call")
		}
	}
	// A call that goes on is followed.
	started := make(chan struct{})
	go func() {
		defer close(started)
		p.calls(1, 0.6, "recording")
	}()
	b.reopen("/calls?state=active", "document.querySelector('td a') !== null") // the live list may come after its end
	b.do(chromedp.Click("td a"), chromedp.WaitReady("#call-events"))
	b.until("document.querySelector('#call-facts').innerText.includes('ended')")
	<-started
}

// TestConsole_accessible looks at all views with axe-core.
func TestConsole_accessible(t *testing.T) {
	t.Parallel()
	axe := axeCore(t)
	p, service := operate(t)
	p.calls(2, 20, "hostile")
	p.setAside()
	p.conflict()
	letter, err := json.Marshal(schemas.DeadLetter{
		Time: time.Now(), Reason: "too_large", Stream: schemas.Stream, Subject: schemas.WithSlot("acs.contoso.CallConnected.c-1"),
		Payload: []byte(`{"id":"1","source":"s","type":"Microsoft.Communication.CallConnected","specversion":"1.0","data":{"callConnectionId":"c-1"}}`),
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(p.settings.DataDir, "dead-letters.ndjson"), append(letter, '\n'), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	b := newTab(t, p.ConsoleURL())
	b.accessible(axe, "/login")
	b.logIn("/calls", testSecret)
	natstest.Until(t, func() bool { return service.deadLetters() == 1 })
	call := ask[string](b, "document.querySelector('tr:has(.failed) td a').getAttribute('href')")
	for _, path := range []string{
		"/", "/refusals", "/calls", call, "/events/1", "/calls/none",
		"/quarantine", "/quarantine/1", "/quarantine/2", "/quarantine/2?confirm=drop",
		"/deadletters", "/deadletters/dead-letters.ndjson/1", "/deadletters/dead-letters.ndjson/1?confirm=redrive",
		"/services", "/services/billing/dead", "/services/billing/dead/1", "/services/billing/dead/1?confirm=redrive",
	} {
		b.accessible(axe, path)
	}
}

// TestConsole_login logs in with the keyboard alone, and out again.
func TestConsole_login(t *testing.T) {
	t.Parallel()
	p := play(t, "--console-token-file="+bridgetest.WriteFile(t, "token", testSecret), "--console-show-pii")
	p.calls(1, 20, "transfer")
	if got := status(t, p.AdminURL()+"/calls", ""); got != http.StatusUnauthorized {
		t.Errorf("without the token: %d", got)
	}
	if got := status(t, p.AdminURL()+"/calls", testSecret); got != http.StatusOK {
		t.Errorf("with the bearer token: %d", got)
	}
	b := newTab(t, p.ConsoleURL())
	b.open("/calls?resource=contoso")
	b.until("location.pathname === '/login'")
	b.do(chromedp.KeyEvent("wrong"), chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible("[role=alert]"))
	b.do(chromedp.KeyEvent(testSecret), chromedp.KeyEvent(kb.Enter), chromedp.WaitReady("table.calls"))
	if at := ask[string](b, "location.pathname + location.search"); at != "/calls?resource=contoso" {
		t.Error("after the login the page is", at)
	}
	if cookie := ask[string](b, "document.cookie"); cookie != "" {
		t.Error("a script reads the cookie", cookie)
	}
	b.do(chromedp.Evaluate[chromedp.Void]("{ const s = document.createElement('script'); s.textContent = 'window.ran = true'; document.body.append(s); }"))
	if ask[bool](b, "window.ran === true") {
		t.Error("a script in the page was run")
	}
	b.press("td a[href^='/calls/']", "#call-events")
	if text := b.text("main"); regexp.MustCompile(`\+\d{7}`).MatchString(text) || !strings.Contains(text, "***") {
		t.Error("personal data is not masked:\n", text)
	}
	b.do(chromedp.Click("//button[text()='Show personal data']"), chromedp.WaitVisible(".warning"))
	if text := b.text("main"); !regexp.MustCompile(`\+\d{7}`).MatchString(text) {
		t.Error("personal data is not shown after the click:\n", text)
	}
	if !p.log.Has("the console shows personal data", "call=") || strings.Contains(p.log.String(), testSecret) {
		t.Error("the log has not who looked, or it has the token:\n", p.log.String())
	}
	b.do(chromedp.Click("//button[text()='Log out']"), chromedp.WaitReady("#token"))
	b.open("/calls")
	b.until("location.pathname === '/login'")
}

// status returns the status of a page, asked for with a bearer token.
func status(t *testing.T, url, token string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}
