package bridge

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// conflict has ACS send an event again with another content, which the bridge puts into
// quarantine. Their subCodes are 8533 and 8534.
func (p *played) conflict() {
	p.t.Helper()
	event, err := acstest.NewCall().NewEvent("RecognizeCompleted")
	if err != nil {
		p.t.Fatal(err)
	}
	body, err := acstest.Body(event)
	if err != nil {
		p.t.Fatal(err)
	}
	before := p.count(schemas.QuarantineStream)
	for _, text := range []string{string(body), strings.Replace(string(body), "8533", "8534", 1)} {
		token, err := p.issuer.Sign(acstest.TokenSpec{Audience: acstest.DemoAudience})
		if err != nil {
			p.t.Fatal(err)
		}
		if status := bridgetest.Post(p.t, p.CallbackURL(), token, text); status != http.StatusOK {
			p.t.Fatalf("callback: %d", status)
		}
		p.Drain(p.t.Context())
	}
	natstest.Until(p.t, func() bool { return p.count(schemas.QuarantineStream) == before+1 })
}

// count returns how many messages a stream has, zero when it is not there.
func (p *played) count(stream string) uint64 {
	p.t.Helper()
	s, err := p.js.Stream(p.t.Context(), stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// billing is a service that cannot handle PlayFailed until it is repaired, and parks its
// call until then.
type billing struct {
	*played
	repaired atomic.Bool
	handled  atomic.Bool // it has handled one since
}

func (s *billing) deadLetters() uint64 { return s.count(consume.DeadStream("billing")) }

// operate plays a call for a bridge whose console may change things, and has a service
// that holds this call.
func operate(t *testing.T) (*played, *billing) {
	t.Helper()
	p := play(t, "--console-token-file="+bridgetest.WriteFile(t, "token", testSecret), "--console-write")
	s := &billing{played: p}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- consume.Run(ctx, p.js.Conn(), consume.Service[struct{}]{
			Name: "billing", Types: []string{"PlayFailed"}, HoldFailed: true, StartAt: time.Now().Add(-time.Minute), Logger: slog.New(slog.DiscardHandler),
			Handle: func(_ context.Context, _ *consume.Call[struct{}], m *schemas.Message) error {
				if m.Event.Type != schemas.TypePrefix+"PlayFailed" {
					return nil
				}
				if !s.repaired.Load() {
					return consume.Permanent(errors.New("no tariff"))
				}
				s.handled.Store(true)
				return nil
			},
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	p.calls(1, 20, "play-failed")
	return p, s
}

// TestConsole_operator repairs things on a phone at night, without a mouse.
func TestConsole_operator(t *testing.T) {
	t.Parallel()
	p, service := operate(t)
	p.setAside()
	p.conflict()
	b := newTab(t, p.ConsoleURL())
	b.do(chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile))
	b.dark(true)
	b.logIn("/services", testSecret)
	t.Run("services", func(t *testing.T) { b.t = t; operateServices(b, service) })
	t.Run("quarantine", func(t *testing.T) { b.t = t; operateQuarantine(b, p) })
}

// operateServices goes from a service to the story of its parked call, and sends the dead
// letter again.
func operateServices(b *tab, service *billing) {
	const parked = "main li a[href^='/calls/']"
	b.reopen("/services", "document.querySelector("+quote(parked)+") !== null")
	row := ask[[]string](b, "[...document.querySelectorAll('tbody tr td')].map(e => e.innerText)")
	if len(row) != 10 || row[0] != "billing" || row[4] != "1" || row[5] != "1" || row[7] != "1" || row[8] != "16/16" || row[9] != "1" {
		b.t.Errorf("the service with a parked call is %q", row)
	}
	b.press(parked, "#call-timeline svg")
	if drawn := ask[string](b, "document.querySelector('#call-timeline').textContent"); !strings.Contains(drawn, "PlayFailed") {
		b.t.Error("the story of the parked call is\n", drawn)
	}

	b.open("/services")
	b.press("td a[href='/services/billing/dead']", "td a[href='/services/billing/dead/1']")
	if text := b.text("main"); !strings.Contains(text, "1 in the stream") || !strings.Contains(text, "permanent") || !strings.Contains(text, "PlayFailed") {
		b.t.Error("the dead letters are\n", text)
	}
	b.press("td a[href='/services/billing/dead/1']", "#payload")
	if text := b.text("main"); !strings.Contains(text, "8535") || strings.Contains(text, "no tariff") { // an error of a handler can have personal data
		b.t.Error("the dead letter is\n", text)
	}
	b.press("a[href$='?confirm=redrive']", "form.confirm")
	if text := b.text("form.confirm"); !strings.Contains(text, "to service billing again, and to no other") || service.deadLetters() != 1 {
		b.t.Errorf("with %d dead letters the confirmation is\n%s", service.deadLetters(), text)
	}
	service.repaired.Store(true)
	events := service.count(schemas.Stream)
	b.press("form.confirm button", "[role=status].warning")
	if text := b.text("main"); !strings.Contains(text, "It was sent again") || !strings.Contains(text, "None here.") {
		b.t.Error("after the redrive\n", text)
	}
	natstest.Until(b.t, service.handled.Load)
	if left, now := service.deadLetters(), service.count(schemas.Stream); left != 0 || now != events {
		b.t.Errorf("%d dead letters are left, and the stream has %d events more", left, now-events)
	}
	if !service.log.Has("the console changes what was set aside", "action=redrive", "stream="+consume.DeadStream("billing"), "sequence=1", "outcome=done") {
		b.t.Error("the log has\n", service.log)
	}
	b.reopen("/services", "document.querySelector("+quote(parked)+") === null")
}

// operateQuarantine sends one callback again, and removes another.
func operateQuarantine(b *tab, p *played) {
	events := p.count(schemas.Stream)
	state := func(stage string, quarantined, published uint64) {
		b.t.Helper()
		if left, now := p.count(schemas.QuarantineStream), p.count(schemas.Stream); left != quarantined || now != events+published {
			b.t.Errorf("%s: %d in quarantine, want %d, and %d new events, want %d", stage, left, quarantined, now-events, published)
		}
	}
	b.open("/quarantine")
	b.press("td a[href='/quarantine/1']", "#payload")
	b.press("a[href$='?confirm=redrive']", "form.confirm")
	if text := b.text("form.confirm"); !strings.Contains(text, "every consumer gets them") {
		b.t.Error("the confirmation is", text)
	}
	state("before the confirmation", 2, 0)
	b.press("form.confirm button", "[role=status].warning")
	state("after the redrive", 1, 1)

	b.press("td a[href='/quarantine/2']", "#payload")
	b.press("a[href$='?confirm=drop']", "form.confirm")
	b.press("form.confirm a", "main:not(:has(form.confirm))") // cancels it
	state("after the cancellation", 1, 1)
	b.press("a[href$='?confirm=redrive']", "form.confirm")
	b.press("form.confirm button", "main > p[role=alert]")
	if text := b.text("main"); !strings.Contains(text, "Not done: ") {
		b.t.Error("a conflict is sent again:\n", text)
	}
	state("after the redrive of a conflict", 1, 1)
	b.press("a[href$='?confirm=drop']", "form.confirm")
	if text := b.text("form.confirm"); !strings.Contains(text, "removes it from stream ACS_QUARANTINE for good") {
		b.t.Error("the confirmation is", text)
	}
	b.press("form.confirm button", "[role=status].warning")
	state("after the removal", 0, 1)
	for _, line := range [][]string{{"action=redrive", "sequence=1", "outcome=done"}, {"action=drop", "sequence=2", "outcome=done"}} {
		if !p.log.Has(append(line, "the console changes what was set aside")...) {
			b.t.Errorf("no %v in the log\n%s", line, p.log)
		}
	}
}

// lookAtQuarantine sees a conflict side by side, on a console that may change nothing.
func lookAtQuarantine(b *tab, p *played) {
	p.setAside()
	p.conflict()
	b.open("/quarantine")
	if text := b.text("main"); !strings.Contains(text, "2 in the stream") || !strings.Contains(text, "not_cloudevents") {
		b.t.Error("the list is\n", text)
	}
	b.do(chromedp.Click("//tr[contains(., 'conflict')]//a"), chromedp.WaitReady("#stored"))
	versions := ask[[]string](b, "[...document.querySelectorAll('.versions section')].map(e => e.innerText)")
	if len(versions) != 2 || !strings.Contains(versions[0], "8534") || !strings.Contains(versions[1], "8533") || !strings.Contains(versions[1], "In the stream under the same id") {
		b.t.Errorf("the versions are %q", versions)
	}
	if !ask[bool](b, "(([a, b]) => a.top === b.top && a.right < b.left)([...document.querySelectorAll('.versions section')].map(e => e.getBoundingClientRect()))") {
		b.t.Error("they are not side by side")
	}
	b.shoot("conflict")
	for _, query := range []string{"", "?confirm=redrive", "?confirm=drop"} {
		b.open("/quarantine/2" + query)
		if n := ask[int](b, "document.querySelectorAll('main form, main a[href*=confirm]').length"); n != 0 {
			b.t.Errorf("%s: a console without --console-write offers to change something:\n%s", query, b.text("main"))
		}
	}
}
