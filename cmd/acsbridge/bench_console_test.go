package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/backoff"
)

const (
	consolePages  = 50
	consoleRound  = 10 * time.Second
	consoleRounds = 3
	// How long pages are open before they count: they do not open all at once in life.
	consoleOpening = 5 * time.Second
	// Calls a second, each with some ten callbacks within half a minute.
	consoleRate, consoleSpeed, consoleCalls = 20, 0.25, 1000
)

// BenchmarkConsole measures the p99 of callbacks to a bridge with an embedded server
// beside 50 live pages of its console, and without, in turn. The pages ask again as a
// browser does. The bridge is a process of its own; load and pages share another.
func BenchmarkConsole(b *testing.B) {
	w := &wholePath{b: b}
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{})
	if err == nil {
		err = issuer.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { issuer.Close() })
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	admin := free.Addr().String()
	free.Close()
	bridge := w.start("acsbridge", append([]string{
		"serve", "--listen=127.0.0.1:0", "--admin-listen=" + admin, "--nats-listen=127.0.0.1:0", "--data-dir=" + b.TempDir(), "--log-format=json",
	}, trust(issuer)...)...)
	defer bridge.stop()
	var mu sync.Mutex
	var times []float64
	caller, err := acstest.NewCaller(acstest.CallerOptions{Target: "http://" + bridge.says + "/callbacks", Signer: issuer, Observe: func(a acstest.Attempt) {
		mu.Lock()
		defer mu.Unlock()
		times = append(times, float64(a.Latency.Microseconds())/1000)
	}})
	if err != nil {
		b.Fatal(err)
	}
	defer caller.Close()
	flows, err := acstest.NamedFlows("answered-menu", "outbound", "recording", "transfer")
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	loaded := make(chan error, 1)
	go func() {
		loaded <- caller.Run(ctx, acstest.Load{Flows: flows, Rate: consoleRate, Speed: consoleSpeed, Concurrency: consoleCalls})
	}()
	time.Sleep(consoleRound) // calls that go on, and a list of them
	taken := func() []float64 {
		mu.Lock()
		defer mu.Unlock()
		list := times
		times = nil
		return list
	}
	var alone, beside []float64
	cpu, pagesMade := [2]time.Duration{}, int64(0)
	for range consoleRounds {
		for i, pages := range []int{0, consolePages} {
			watching, leave := context.WithCancel(ctx)
			var browsers sync.WaitGroup
			for n := range pages {
				browsers.Go(func() { watch(watching, b, "http://"+admin, n) })
			}
			time.Sleep(consoleOpening)
			taken()
			before, made := bridge.cpu(), fetched.Load()
			time.Sleep(consoleRound)
			cpu[i] += bridge.cpu() - before
			pagesMade += fetched.Load() - made
			if list := taken(); pages == 0 {
				alone = append(alone, list...)
			} else {
				beside = append(beside, list...)
			}
			leave()
			browsers.Wait()
		}
	}
	stop()
	<-loaded
	p99, p99Beside := percentile(alone, .99), percentile(beside, .99)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(p99, "p99-ms")
	b.ReportMetric(p99Beside, "p99-beside-ms")
	b.ReportMetric(p99Beside/p99, "p99-ratio")
	b.ReportMetric(percentile(beside, .5)/percentile(alone, .5), "p50-ratio")
	b.ReportMetric(float64(len(beside)), "callbacks")
	b.ReportMetric(100*(cpu[1]-cpu[0]).Seconds()/(consoleRounds*consoleRound).Seconds(), "cpu-%-of-pages")
	b.ReportMetric(float64(pagesMade)/(consoleRounds*consoleRound).Seconds(), "pages/s")
	b.ReportMetric(bridge.rss(), "rss-MiB")
}

// browserClient keeps a connection for each page, as browsers do.
var browserClient = http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: consolePages}}

var (
	callLink = regexp.MustCompile(`href="(/calls/[^"?]+)"`)
	liveAt   = regexp.MustCompile(`data-live="([^"]*)"`)
)

// watch keeps one page open as a browser does: of each ten, five are lists of calls, two
// show the bridge, and three a call that goes on.
func watch(ctx context.Context, b *testing.B, console string, n int) {
	path := []string{"/calls", "/calls", "/calls", "/calls", "/calls", "/", "/refusals", "call", "call", "call"}[n%10]
	for ctx.Err() == nil {
		at := path
		if at == "call" {
			links := callLink.FindAllStringSubmatch(fetch(ctx, console+"/calls?state=active"), -1)
			if len(links) == 0 {
				_ = backoff.Wait(ctx, time.Second)
				continue
			}
			at = links[n%len(links)][1]
		}
		live := liveAt.FindStringSubmatch(fetch(ctx, console+at))
		if live == nil {
			_ = backoff.Wait(ctx, time.Second) // the call has ended
			continue
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, console+strings.ReplaceAll(live[1], "&amp;", "&"), nil)
		if err != nil {
			b.Error(err)
			return
		}
		answer, err := browserClient.Do(r)
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(answer.Body)
		for lines.Scan() {
			if !strings.HasPrefix(lines.Text(), "data:") {
				continue
			}
			if page := fetch(ctx, console+at); path == "call" && !liveAt.MatchString(page) {
				break // another one
			}
		}
		answer.Body.Close()
	}
}

// fetched counts the pages.
var fetched atomic.Int64

func fetch(ctx context.Context, url string) string {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Sprint(err)
	}
	answer, err := browserClient.Do(r)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	if answer.StatusCode == http.StatusOK {
		fetched.Add(1)
	}
	return string(text)
}
