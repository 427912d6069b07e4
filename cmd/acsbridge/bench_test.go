package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/natstest"
)

var (
	benchCallbacks   = flag.Int("bench.callbacks", 20000, "callbacks in each run of BenchmarkWholePath")
	benchCalls       = flag.String("bench.calls", "5000,row", "patterns of BenchmarkWholePath: events go round so many calls, or row: ten events of a call in a row")
	benchConnections = flag.Int("bench.connections", 64, "connections of BenchmarkWholePath")
	benchProfile     = flag.String("bench.profile", "", "write the bridge's CPU profile of its last run to this file")
	benchRate        = flag.String("bench.rate", "0", "callbacks a second that BenchmarkWholePath offers, a list; 0 is as many as are answered")
	benchServe       = flag.String("bench.serve", "", "further flags of acsbridge serve in BenchmarkWholePath")
	benchRounds      = flag.Int("bench.rounds", 3, "runs of each server in BenchmarkWholePath")
)

// profileVariable names the file for the CPU profile of a process of this test
// binary that plays acsbridge.
const profileVariable = "BENCH_CPU_PROFILE"

// profiled is main, with its CPU profile written when that was asked for.
func profiled() {
	if path := os.Getenv(profileVariable); path != "" {
		file := must(os.Create(path))
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			panic(err)
		}
		defer pprof.StopCPUProfile()
	}
	main()
}

const benchAudience = "7c9e6679-7425-40de-944b-e07fc1f90ae7"

// BenchmarkWholePath sends signed callbacks over real HTTP to the bridge, with
// everything on, and to the yardstick: net/http, one RSA-2048 verification, one
// awaited asynchronous publish, nothing else. Each server, its NATS server and
// the load generator are processes of their own on one machine. It reports the
// server's CPU time for one callback, the callbacks a second and the answer times,
// for each pattern of calls at each rate; docs/benchmarks.md says how to read it.
//
// The runs alternate, so that a busy neighbour slows both.
func BenchmarkWholePath(b *testing.B) {
	for rate := range strings.SplitSeq(*benchRate, ",") {
		for calls := range strings.SplitSeq(*benchCalls, ",") {
			b.Run(fmt.Sprintf("rate=%s/calls=%s", rate, calls), func(b *testing.B) {
				bench := newWholePath(b)
				var err error
				if bench.rate, err = strconv.ParseFloat(rate, 64); err != nil {
					b.Fatal(err)
				}
				if bench.calls, err = strconv.Atoi(calls); err != nil && calls != "row" {
					b.Fatal(err)
				}
				for range b.N {
					bench.rounds()
				}
				b.ReportMetric(0, "ns/op") // says nothing here
			})
		}
	}
}

// rounds runs yardstick and bridge in turn and reports the medians.
func (w *wholePath) rounds() {
	results := make(map[string][]benchResult)
	var cpu, rate, disk []float64 // of one round: ratios, and what the disk needed meanwhile
	for i := range *benchRounds {
		for _, server := range []string{"yardstick", "acsbridge"} {
			results[server] = append(results[server], w.run(server))
		}
		y, a := results["yardstick"][i], results["acsbridge"][i]
		w.b.Logf("yardstick %.1f µs, %.0f/s, p50 %.1f p99 %.1f ms; bridge %.1f µs, %.0f/s, p50 %.1f p99 %.1f ms, %.0f MiB; CPU ratio %.2f, rate %.2f; fdatasync p99 %.1f and %.1f ms",
			y.cpu, y.rate, y.p50, y.p99, a.cpu, a.rate, a.p50, a.p99, a.rss, a.cpu/y.cpu, a.rate/y.rate, y.disk, a.disk)
		cpu, rate, disk = append(cpu, a.cpu/y.cpu), append(rate, a.rate/y.rate), append(disk, y.disk, a.disk)
	}
	w.b.ReportMetric(percentile(cpu, .5), "cpu-ratio")
	w.b.ReportMetric(percentile(rate, .5), "rate-ratio")
	w.b.ReportMetric(percentile(disk, .5), "fdatasync-p99-ms")
	for server, runs := range results {
		report := func(unit string, value func(benchResult) float64) {
			var list []float64
			for _, r := range runs {
				list = append(list, value(r))
			}
			w.b.ReportMetric(percentile(list, .5), server+"-"+unit)
		}
		report("cpu-µs", func(r benchResult) float64 { return r.cpu })
		report("callbacks/s", func(r benchResult) float64 { return r.rate })
		report("p50-ms", func(r benchResult) float64 { return r.p50 })
		report("p99-ms", func(r benchResult) float64 { return r.p99 })
		report("rss-MiB", func(r benchResult) float64 { return r.rss })
	}
}

// fdatasync measures what one costs on the disk of the test, every 20 ms until stop is
// called: of 4 KiB in a file that has them already, as a journal's segment has. It
// returns the times in ms.
func fdatasync(b *testing.B) (stop func() []float64) {
	const count, size = 1000, 4096
	f, err := os.Create(filepath.Join(b.TempDir(), "disk"))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := f.Write(make([]byte, count*size)); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	var times []float64
	stopping, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			begin := time.Now()
			_, err := f.WriteAt(make([]byte, size), int64(i%count*size))
			if err := errors.Join(err, syncData(f)); err != nil {
				b.Error(err)
			}
			times = append(times, float64(time.Since(begin).Microseconds())/1000)
			select {
			case <-tick.C:
			case <-stopping:
				return
			}
		}
	}()
	return func() []float64 {
		close(stopping)
		<-stopped
		f.Close()
		return times
	}
}

func percentile(list []float64, q float64) float64 {
	slices.Sort(list)
	return list[int(q*float64(len(list)-1))]
}

// benchResult is one run: CPU of the server in µs a callback, callbacks a
// second, answer times in ms, peak memory in MiB, 99th percentile of one fdatasync of
// another file meanwhile in ms.
type benchResult struct{ cpu, rate, p50, p99, rss, disk float64 }

// wholePath holds what the runs share: the key server and a token for every
// callback.
type wholePath struct {
	b      *testing.B
	issuer *acstest.Issuer
	pem    string // file with the public key, for the yardstick
	tokens []string
	calls  int     // how many the events go round; 0 is ten events of a call in a row
	rate   float64 // callbacks a second; 0 is as many as are answered
}

func newWholePath(b *testing.B) *wholePath {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{Key: key})
	if err != nil {
		b.Fatal(err)
	}
	if err := issuer.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { issuer.Close() })
	w := &wholePath{b: b, issuer: issuer, pem: filepath.Join(b.TempDir(), "key.pem"), tokens: make([]string, *benchCallbacks)}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(w.tokens)); i = next.Add(1) - 1 {
				token, err := issuer.Sign(acstest.TokenSpec{Audience: benchAudience, Lifetime: 9 * time.Minute})
				if err != nil {
					b.Error(err)
					return
				}
				w.tokens[i] = token
			}
		})
	}
	wg.Wait()
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(w.pem, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		b.Fatal(err)
	}
	return w
}

// run starts NATS and one of the servers, sends every callback and stops both.
func (w *wholePath) run(server string) benchResult {
	dir := w.b.TempDir()
	nats := w.start("natsd", dir)
	defer nats.stop()
	var args []string
	switch server {
	case "yardstick":
		args = []string{nats.says, w.pem}
	case "acsbridge":
		args = []string{"serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json",
			"--resource=contoso=" + benchAudience, "--issuer=" + w.issuer.Name(), "--oidc-config-url=" + w.issuer.MetadataURL(),
			"--nats-url=" + nats.says, "--data-dir=" + filepath.Join(dir, "data")}
		args = append(args, strings.Fields(*benchServe)...)
	}
	under := w.start(server, args...)
	defer under.stop()
	w.warm(under.says)

	disk := fdatasync(w.b)
	before := under.cpu()
	begin := time.Now()
	times := w.load(under.says)
	w.awaitStored(nats.says)
	took := time.Since(begin)
	n := float64(len(times))
	return benchResult{
		cpu:  float64((under.cpu() - before).Microseconds()) / n,
		rate: n / took.Seconds(), p50: percentile(times, .5), p99: percentile(times, .99), rss: under.rss(),
		disk: percentile(disk(), .99),
	}
}

// request returns the bytes of the callback with this number: the size of
// ACS's median one.
func (w *wholePath) request(id, call, token string) []byte {
	call = "401f3500-" + call
	body := fmt.Sprintf(`[{"id":"%[1]s","source":"calling/callConnections/%[2]s","type":"Microsoft.Communication.PlayCompleted","data":{"version":"2025-05-15","operationContext":"menu","resultInformation":{"code":200,"subCode":0,"message":"Action completed successfully."},"callConnectionId":"%[2]s","serverCallId":"%[3]s","correlationId":"88e543e1-51dd-4cce-800b-ea99a6a074c7","publicEventType":"Microsoft.Communication.PlayCompleted"},"time":"2026-03-01T12:00:00.1234567+00:00","specversion":"1.0","datacontenttype":"application/json","subject":"calling/callConnections/%[2]s"}]`,
		id, call, strings.Repeat("aHR0cHM6", 30))
	return fmt.Appendf(nil, "POST /callbacks/2c5e?callerId=%%2B15550100 HTTP/1.1\r\nHost: bridge.test\r\nAuthorization: Bearer %s\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s", token, len(body), body)
}

// warm sends callbacks until one is answered 200: keys and stream are there.
func (w *wholePath) warm(address string) {
	for i := 0; ; i++ {
		conn := w.dial(address)
		token, err := w.issuer.Sign(acstest.TokenSpec{Audience: benchAudience})
		if err != nil {
			w.b.Fatal(err)
		}
		status := exchange(w.b, conn, bufio.NewReader(conn), w.request(fmt.Sprint("warm-", i), "warm", token))
		conn.Close()
		if status == "200" {
			return
		}
		if i == 1000 {
			w.b.Fatalf("no callback is taken: %s", status)
		}
	}
}

func (w *wholePath) dial(address string) net.Conn {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		w.b.Fatal(err)
	}
	return conn
}

// load sends every callback and returns the answer times in ms.
func (w *wholePath) load(address string) []float64 {
	times := make([]float64, len(w.tokens))
	start := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range *benchConnections {
		conn := w.dial(address)
		wg.Go(func() {
			defer conn.Close()
			answers := bufio.NewReader(conn)
			for i := next.Add(1) - 1; i < int64(len(times)); i = next.Add(1) - 1 {
				call := i / 10
				if w.calls > 0 {
					call = i % int64(w.calls)
				}
				request := w.request(strconv.FormatInt(i, 10), strconv.FormatInt(call, 10), w.tokens[i])
				begin := time.Now()
				if w.rate > 0 { // times count from when it is due: a slow answer delays the next one
					begin = start.Add(time.Duration(float64(i) / w.rate * float64(time.Second)))
					time.Sleep(time.Until(begin))
				}
				if status := exchange(w.b, conn, answers, request); status != "200" {
					w.b.Errorf("callback %d: %s", i, status)
					return
				}
				times[i] = float64(time.Since(begin).Microseconds()) / 1000
			}
		})
	}
	wg.Wait()
	if w.b.Failed() {
		w.b.FailNow()
	}
	return times
}

// exchange sends a request and reads an answer without a body, as cheaply as
// can be: the load generator shares its cores with what it measures.
func exchange(b *testing.B, conn net.Conn, answers *bufio.Reader, request []byte) (status string) {
	if _, err := conn.Write(request); err != nil {
		b.Error(err)
		return ""
	}
	for {
		line, err := answers.ReadSlice('\n')
		if err != nil {
			return err.Error()
		}
		if status == "" {
			status = string(line[9:12]) // HTTP/1.1 200 OK
		}
		if len(line) <= 2 {
			return status
		}
	}
}

// awaitStored waits until the stream has every callback, and the ones of warming up: what
// is still under way then is a part of the job.
func (w *wholePath) awaitStored(url string) {
	stream, err := natstest.JetStream(w.b, url).Stream(context.Background(), "ACS")
	if err != nil {
		w.b.Fatal(err)
	}
	natstest.Until(w.b, func() bool {
		info, err := stream.Info(context.Background())
		return err == nil && int(info.State.Msgs) > len(w.tokens)
	})
}
