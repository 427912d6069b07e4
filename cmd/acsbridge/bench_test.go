package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/natstest"
)

var (
	benchCallbacks   = flag.Int("bench.callbacks", 20000, "callbacks in each run of BenchmarkWholePath")
	benchConnections = flag.Int("bench.connections", 64, "connections of BenchmarkWholePath")
	benchProfile     = flag.String("bench.profile", "", "write the bridge's CPU profile of its last run to this file")
	benchRate        = flag.Float64("bench.rate", 0, "callbacks a second that BenchmarkWholePath offers; 0 is as many as are answered")
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
// server's CPU time for one callback and the callbacks a second; docs/benchmarks.md
// says how to read it.
//
// The runs alternate, so that a busy neighbour slows both.
func BenchmarkWholePath(b *testing.B) {
	bench := newWholePath(b)
	for range b.N {
		results := make(map[string][]benchResult)
		var ratios []benchResult // of the two runs of one round
		for range *benchRounds {
			for _, server := range []string{"yardstick", "acsbridge"} {
				results[server] = append(results[server], bench.run(server))
			}
			y, a := results["yardstick"][len(results["acsbridge"])-1].cpu, results["acsbridge"][len(results["acsbridge"])-1].cpu
			b.Logf("CPU of a callback: yardstick %.1f µs, bridge %.1f µs, ratio %.2f", y, a, a/y)
			ratios = append(ratios, benchResult{cpu: a / y})
		}
		cpu := func(r benchResult) float64 { return r.cpu }
		yardstick, bridge := results["yardstick"], results["acsbridge"]
		b.ReportMetric(median(yardstick, cpu), "yardstick-cpu-µs")
		b.ReportMetric(median(bridge, cpu), "bridge-cpu-µs")
		b.ReportMetric(median(ratios, cpu), "cpu-ratio")
		rate := func(r benchResult) float64 { return r.rate }
		b.ReportMetric(median(yardstick, rate), "yardstick-callbacks/s")
		b.ReportMetric(median(bridge, rate), "bridge-callbacks/s")
		b.ReportMetric(median(bridge, func(r benchResult) float64 { return r.p50 }), "bridge-p50-ms")
		b.ReportMetric(median(bridge, func(r benchResult) float64 { return r.p99 }), "bridge-p99-ms")
		b.ReportMetric(median(bridge, func(r benchResult) float64 { return r.rss }), "bridge-rss-MiB")
	}
	b.ReportMetric(0, "ns/op") // says nothing here
}

func median(runs []benchResult, value func(benchResult) float64) float64 {
	var list []float64
	for _, r := range runs {
		list = append(list, value(r))
	}
	slices.Sort(list)
	return list[len(list)/2]
}

// benchResult is one run: CPU of the server in µs a callback, callbacks a
// second, answer times in ms, peak memory in MiB.
type benchResult struct{ cpu, rate, p50, p99, rss float64 }

// wholePath holds what the runs share: the key server and a token for every
// callback.
type wholePath struct {
	b      *testing.B
	issuer *acstest.Issuer
	pem    string // file with the public key, for the yardstick
	tokens []string
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
	}
	under := w.start(server, args...)
	defer under.stop()
	w.warm(under.says)

	before := under.cpu()
	begin := time.Now()
	times := w.load(under.says)
	took := time.Since(begin)
	n := float64(len(times))
	slices.Sort(times)
	at := func(q float64) float64 { return float64(times[int(q*(n-1))].Microseconds()) / 1000 }
	result := benchResult{
		cpu:  float64((under.cpu() - before).Microseconds()) / n,
		rate: n / took.Seconds(), p50: at(.5), p99: at(.99), rss: under.rss(),
	}
	w.checkStored(nats.says)
	return result
}

// child is a process of the benchmark.
type child struct {
	b    *testing.B
	cmd  *exec.Cmd
	says string // where it listens
}

// start starts a command of TestMain and waits until it says where it listens.
func (w *wholePath) start(name string, args ...string) *child {
	c := &child{b: w.b, cmd: exec.Command(name, args...)}
	if name == "acsbridge" && *benchProfile != "" {
		c.cmd.Env = append(os.Environ(), profileVariable+"="+*benchProfile)
	}
	output, err := c.cmd.StderrPipe()
	if err != nil {
		w.b.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		w.b.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		line := lines.Text()
		var entry struct{ Callbacks string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Callbacks != "" {
			line = strings.TrimSuffix(strings.TrimPrefix(entry.Callbacks, "http://"), "/callbacks")
		}
		if strings.Contains(line, "127.0.0.1:") && !strings.HasPrefix(line, "{") {
			c.says = line
			go func() { _, _ = io.Copy(io.Discard, output) }()
			return c
		}
	}
	w.b.Fatalf("%s did not start: %v", name, c.cmd.Wait())
	return nil
}

func (c *child) stop() {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		c.b.Error(err)
	}
	_ = c.cmd.Wait()
}

// cpu is the time that the process has used so far, user and system.
func (c *child) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		c.b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	var ticks int64
	for _, i := range []int{11, 12} { // utime and stime, see proc(5)
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			c.b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100
}

// rss is the most memory that the process ever had, in MiB.
func (c *child) rss() float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		c.b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib float64
		if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &kib); err == nil {
			return kib / 1024
		}
	}
	return 0
}

// request returns the bytes of the callback with this number: the size of
// ACS's median one.
func (w *wholePath) request(id string, token string) []byte {
	call := "401f3500-" + id
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
		status := exchange(w.b, conn, bufio.NewReader(conn), w.request(fmt.Sprint("warm-", i), token))
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

// load sends every callback and returns the answer times.
func (w *wholePath) load(address string) []time.Duration {
	times := make([]time.Duration, len(w.tokens))
	start := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range *benchConnections {
		conn := w.dial(address)
		wg.Go(func() {
			defer conn.Close()
			answers := bufio.NewReader(conn)
			for i := next.Add(1) - 1; i < int64(len(times)); i = next.Add(1) - 1 {
				request := w.request(strconv.FormatInt(i, 10), w.tokens[i])
				if *benchRate > 0 {
					time.Sleep(time.Until(start.Add(time.Duration(float64(i) / *benchRate * float64(time.Second)))))
				}
				begin := time.Now()
				if status := exchange(w.b, conn, answers, request); status != "200" {
					w.b.Errorf("callback %d: %s", i, status)
					return
				}
				times[i] = time.Since(begin)
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

// checkStored makes sure that what was measured did its job: the stream has
// every callback, and the ones of warming up.
func (w *wholePath) checkStored(url string) {
	stream, err := natstest.JetStream(w.b, url).Stream(context.Background(), "ACS")
	if err != nil {
		w.b.Fatal(err)
	}
	if got := int(stream.CachedInfo().State.Msgs); got < len(w.tokens)+1 {
		w.b.Fatalf("stream has %d messages, want more than %d", got, len(w.tokens))
	}
}
