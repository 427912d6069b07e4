package bridge

import (
	"bytes"
	"context"
	"flag"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
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

// reopen opens a page of the console until an expression is true of it.
func (b *tab) reopen(path, expression string) {
	b.t.Helper()
	natstest.Until(b.t, func() bool {
		b.open(path)
		return ask[bool](b, expression)
	})
}

// logIn opens a page of a console that asks for a token, and gives it that.
func (b *tab) logIn(path, token string) {
	b.t.Helper()
	b.open(path)
	b.do(chromedp.KeyEvent(token), chromedp.KeyEvent(kb.Enter), chromedp.WaitReady("nav"))
}

// press goes to an element with Tab, as one does without a mouse, and presses Enter there.
// It waits for another element, which is not on the page before.
func (b *tab) press(selector, next string) {
	b.t.Helper()
	const most = 80 // elements that can have the focus, of any page
	for range most {
		b.do(chromedp.KeyEvent(kb.Tab))
		if ask[bool](b, "document.activeElement?.matches("+quote(selector)+") ?? false") {
			if ask[string](b, "getComputedStyle(document.activeElement).outlineStyle") == "none" {
				b.t.Errorf("the focus is not seen at %s", selector)
			}
			b.do(chromedp.KeyEvent(kb.Enter), chromedp.WaitReady(next))
			return
		}
	}
	b.t.Fatalf("the Tab key does not reach %s, at\n%s", selector, b.text("body"))
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

// accessible finds no serious fault in a page with axe-core, whose source is given, on a
// phone and on a screen, there light and dark, and nothing that is wider than the phone.
// The screen has what one scrolls to on the phone, too.
func (b *tab) accessible(axe, path string) {
	b.t.Helper()
	phone, screen := chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile), chromedp.EmulateViewport(1200, 900)
	b.do(phone)
	b.open(path)
	if at := ask[string](b, "location.pathname + location.search"); at != path {
		b.t.Errorf("instead of %s the page is %s", path, at)
	}
	if wide := ask[int](b, "document.documentElement.scrollWidth"); wide > 390 {
		b.t.Errorf("%s is %d pixels wide on a phone of 390", path, wide)
	}
	b.do(chromedp.Evaluate[chromedp.Void](axe))
	for i, size := range []chromedp.Action[chromedp.Void]{phone, screen, screen} {
		dark := i == 2
		b.do(size)
		b.dark(dark)
		if ground := ask[string](b, "getComputedStyle(document.body).backgroundColor"); dark == (ground == "rgb(255, 255, 255)") {
			b.t.Errorf("%s, dark %t: the ground is %s", path, dark, ground)
		}
		found := ask[[]string](b, `axe.run().then(r => r.violations.filter(v => v.impact === "serious" || v.impact === "critical" || v.impact === "moderate")
			.map(v => v.id + ": " + v.help + " " + v.nodes.map(n => n.html + n.any.map(a => a.message)).slice(0, 3).join(" | ")))`)
		for _, fault := range found {
			b.t.Errorf("%s, dark %t: %s", path, dark, fault)
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
