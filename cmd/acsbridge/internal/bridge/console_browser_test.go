package bridge

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

var shots = flag.String("shots", "", "directory to write screenshots of the console to")

// tab is a tab of Chromium.
type tab struct {
	t   *testing.T
	ctx context.Context
	url string // of the console, without the last slash
}

// newTab starts Chromium. Where that is not installed, the test is skipped.
func newTab(t *testing.T, url string) *tab {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil && path == "" {
			path = found
		}
	}
	if path == "" {
		t.Skip("Chromium is not installed: apt-get install chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1200, 900))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	b := &tab{t, ctx, strings.TrimSuffix(url, "/")}
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1200, 900)); err != nil { // starts the browser, and has no timeout for that
		t.Fatal("start Chromium:", err)
	}
	return b
}

// do runs steps, within half a minute.
func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		page, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("location.href + '\\n' + document.body.innerText"))
		b.t.Fatalf("%v, at\n%s", err, page)
	}
}

// open opens a page of the console.
func (b *tab) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.url+path), chromedp.WaitReady("main"))
}

// text returns the text that is seen of an element.
func (b *tab) text(selector string) string {
	return ask[string](b, "document.querySelector("+quote(selector)+")?.innerText ?? ''")
}

func quote(s string) string { return "`" + s + "`" }

// ask evaluates an expression in the page.
func ask[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// until waits for an expression to be true.
func (b *tab) until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](expression, chromedp.WithPollingInterval(50*time.Millisecond))); err != nil {
		b.t.Fatalf("%s: %v, at\n%s", expression, err, b.text("body"))
	}
}

// shoot writes a screenshot, when -shots asks for them.
func (b *tab) shoot(name string) {
	b.t.Helper()
	if *shots == "" {
		return
	}
	shot, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		shot, err = smaller(shot)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(*shots, name+".png"), shot, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// smaller reduces a picture to its most frequent colours, which quarters its size.
func smaller(shot []byte) ([]byte, error) {
	whole, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		return nil, err
	}
	counts := make(map[color.Color]int)
	area := whole.Bounds()
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			counts[whole.At(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(counts), func(a, b color.Color) int { return counts[b] - counts[a] })
	reduced := image.NewPaletted(area, colours[:min(64, len(colours))])
	draw.Draw(reduced, area, whole, area.Min, draw.Src)
	var text bytes.Buffer
	err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&text, reduced)
	return text.Bytes(), err
}

// dark sets which colours the browser's owner prefers.
func (b *tab) dark(on bool) {
	b.t.Helper()
	scheme := "light"
	if on {
		scheme = "dark"
	}
	b.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	}))
}

// played is a bridge that a simulated ACS calls.
type played struct {
	*Bridge
	t      *testing.T
	caller *acstest.Caller
	log    *bridgetest.Log
}

// play starts a bridge with an embedded server and plays calls.
func play(t *testing.T, args ...string) *played {
	t.Helper()
	issuer := newIssuer(t)
	p := &played{t: t, log: &bridgetest.Log{}}
	args = append(args, gridArgs("--resource=contoso="+acstest.DemoAudience, "--issuer="+issuer.Name(), "--oidc-config-url="+issuer.MetadataURL(),
		"--eventgrid-issuer="+issuer.Name(), "--eventgrid-oidc-config-url="+issuer.MetadataURL())...)
	p.Bridge = runBridge(t, onLoopback(t, args...), p.log.Logger())
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
	js := natstest.JetStream(p.t, p.EmbeddedURL())
	m := nats.NewMsg(schemas.QuarantineSubject("contoso", "not_cloudevents"))
	for name, value := range map[string]string{
		schemas.HeaderQuarantineReason: "not_cloudevents", schemas.HeaderResource: "contoso", schemas.HeaderContentType: "application/json",
		schemas.HeaderReceivedAt: "2026-01-02T03:04:05.678Z", schemas.HeaderTokenIssuer: "https://issuer.example", schemas.HeaderTokenAudience: acstest.DemoAudience,
		schemas.HeaderTokenKeyID: "k1", schemas.HeaderTokenExpires: "1767323345", schemas.HeaderDeliveryID: "d-1",
	} {
		m.Header.Set(name, value)
	}
	m.Data = []byte(`[{"id":"1","source":"calling/callConnections/c-1","type":"Microsoft.Communication.CallConnected","specversion":"1.0","data":{"callConnectionId":"c-1"}}]`)
	if _, err := js.PublishMsg(p.t.Context(), m); err != nil {
		p.t.Fatal(err)
	}
}

// TestConsole_browser looks at each view as an operator does.
func TestConsole_browser(t *testing.T) {
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
	for _, test := range []struct{ eventType, name, lanes, says string }{
		{"RecordingStateChanged", "recorded", "recording", "Recording"},
		{"CallTransferAccepted", "transferred", "contoso", "CallTransferAccepted"},
		{"PlayFailed", "failed", "contoso", "400/8535 the audio file's format is wrong"},
	} {
		b.open("/calls?type=" + test.eventType)
		b.do(chromedp.Click("td a"), chromedp.WaitReady("#call-timeline svg"))
		lanes := ask[string](b, "[...document.querySelectorAll('text.kind')].map(e => e.textContent).join(' ')")
		drawn := ask[string](b, "document.querySelector('#call-timeline').textContent")
		if !strings.Contains(lanes, test.lanes) || !strings.Contains(drawn, test.says) {
			b.t.Errorf("%s: lanes %q, drawn\n%s", test.name, lanes, drawn)
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
	for tick := time.Tick(200 * time.Millisecond); ; <-tick { // the live list may come after its end
		b.open("/calls?state=active")
		if ask[int](b, "document.querySelectorAll('td a').length") > 0 {
			break
		}
	}
	b.do(chromedp.Click("td a"), chromedp.WaitReady("#call-events"))
	b.until("document.querySelector('#call-facts').innerText.includes('ended')")
	<-started
}

// TestConsole_accessible finds no serious fault in any view with axe-core, on light and
// dark ground, and no page that is wider than a phone.
func TestConsole_accessible(t *testing.T) {
	axe := axeCore(t)
	p := play(t)
	p.calls(1, 20, "play-failed")
	p.calls(2, 20, "hostile")
	p.setAside()
	b := newTab(t, p.ConsoleURL())
	b.open("/calls")
	call := ask[string](b, "document.querySelector('td a').getAttribute('href')")
	for _, path := range []string{"/", "/refusals", "/calls", call, "/events/1", "/calls/none", "/login", "/quarantine", "/quarantine/1", "/services"} {
		for _, dark := range []bool{false, true} {
			b.do(chromedp.EmulateViewport(390, 844))
			b.dark(dark)
			b.open(path)
			b.do(chromedp.Evaluate[chromedp.Void](axe))
			found := ask[[]string](b, `axe.run().then(r => r.violations.filter(v => v.impact === "serious" || v.impact === "critical" || v.impact === "moderate")
				.map(v => v.id + ": " + v.help + " " + v.nodes.map(n => n.html + n.any.map(a => a.message)).slice(0, 3).join(" | ")))`)
			for _, fault := range found {
				t.Errorf("%s, dark %t: %s", path, dark, fault)
			}
			if wide := ask[int](b, "document.documentElement.scrollWidth"); wide > 390 {
				t.Errorf("%s is %d pixels wide on a phone of 390", path, wide)
			}
			if ground := ask[string](b, "getComputedStyle(document.body).backgroundColor"); dark == (ground == "rgb(255, 255, 255)") {
				t.Errorf("%s, dark %t: the ground is %s", path, dark, ground)
			}
		}
	}
}

// axeCore returns the source of axe-core, from npm. Where that reaches no registry, the
// test is skipped.
func axeCore(t *testing.T) string {
	t.Helper()
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Skip("npm is not installed, which has axe-core")
	}
	dir := t.TempDir()
	install := exec.CommandContext(t.Context(), npm, "install", "--prefix", dir, "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0", "axe-core@4.14.1")
	if out, err := install.CombinedOutput(); err != nil {
		t.Skipf("npm cannot install axe-core: %v\n%s", err, out)
	}
	return bridgetest.ReadFile(t, filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
}

// TestConsole_login logs in with the keyboard alone, and out again.
func TestConsole_login(t *testing.T) {
	p := play(t, "--console-token-file="+bridgetest.WriteFile(t, "token", testSecret), "--console-show-pii", "--console-write")
	p.calls(1, 20, "transfer")
	p.setAside()
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
	// Tab reaches the link of the call, Enter opens it.
	for range 40 {
		if strings.HasPrefix(ask[string](b, "document.activeElement.getAttribute('href') ?? ''"), "/calls/") {
			break
		}
		b.do(chromedp.KeyEvent(kb.Tab))
	}
	b.do(chromedp.KeyEvent(kb.Enter), chromedp.WaitReady("#call-events"))
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
	b.open("/quarantine")
	b.do(chromedp.Click("td a"), chromedp.WaitReady("#payload"))
	b.do(chromedp.Click("//a[text()='Send it again …']"), chromedp.WaitVisible("form.confirm"))
	if text := b.text("form.confirm"); !strings.Contains(text, "every consumer gets them") {
		t.Error("the confirmation is", text)
	}
	b.do(chromedp.Click("form.confirm button"), chromedp.WaitVisible("[role=status].warning"))
	if text := b.text("main"); !strings.Contains(text, "None here.") || !p.log.Has("the console changes what was set aside", "action=redrive") {
		t.Error("after the redrive\n", text)
	}
	b.open("/calls/c-1")
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
