package faults_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/internal/natstest"
)

// The bounds of a start after a kill.
const (
	listensWithin = 2 * time.Second
	readyWithin   = 5 * time.Second
)

// bridge is an acsbridge: a data directory, and the processes that use it one after
// another. Senders connect to the proxy in front of it.
type bridge struct {
	t       testing.TB
	name    string
	dir     string
	args    []string
	front   *natstest.Proxy
	nats    *node  // embedded NATS; nil when NATS is another process
	scheme  string // of its callback URL
	process *process
	admin   string // URL, of the present process
	starts  int    // processes so far

	// volatile makes each process lose what it did not sync when it dies.
	volatile bool
}

// newBridge returns a bridge that is not running.
func newBridge(t testing.TB, name string, args ...string) *bridge {
	t.Helper()
	return &bridge{t: t, name: name, dir: t.TempDir(), args: args, front: natstest.NewProxy(t, "")}
}

func (b *bridge) target() target {
	return target{b.name, b.scheme + "://" + b.front.Addr() + "/callbacks"}
}

// launch starts a process on the data directory, with a failpoint ("" is none) and
// additional arguments.
func (b *bridge) launch(failpoint string, args ...string) {
	b.t.Helper()
	b.starts++
	var env []string
	if failpoint != "" {
		env = append(env, "ACSBRIDGE_FAILPOINT="+failpoint)
	}
	if b.volatile {
		env = append(env, "ACSBRIDGE_VOLATILE=1")
	}
	all := append([]string{"serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json",
		"--token-reuse=off", "--data-dir=" + b.dir}, b.args...)
	b.process = start(b.t, b.name, env, binaries.acsbridge, append(all, args...)...)
}

// listening waits until the process takes callbacks, and points the proxy at it.
func (b *bridge) listening(within time.Duration) error {
	line, err := b.process.awaitLine(`"acsbridge is running"`, within)
	if err != nil {
		return err
	}
	var log struct{ Callbacks, Admin, Nats string }
	if err := json.Unmarshal([]byte(line), &log); err != nil {
		return err
	}
	where, err := url.Parse(log.Callbacks)
	if err != nil {
		return err
	}
	b.admin, b.scheme = log.Admin, where.Scheme
	if b.nats != nil {
		b.nats.address = strings.TrimPrefix(log.Nats, "embedded, nats://")
	}
	b.front.SetTarget(where.Host)
	return nil
}

// ready waits until /readyz answers 200.
func (b *bridge) ready(within time.Duration) {
	b.t.Helper()
	until(b.t, within, b.name+" is ready", func() bool {
		text, status := b.ask("/readyz")
		return status == http.StatusOK && text != ""
	})
}

// start starts the bridge within the bounds, and returns how long that took.
func (b *bridge) start(args ...string) (listening, ready time.Duration) {
	b.t.Helper()
	begin := time.Now()
	b.launch("", args...)
	if err := b.listening(listensWithin); err != nil {
		b.t.Fatal(err)
	}
	listening = time.Since(begin)
	b.ready(readyWithin - listening)
	return listening, time.Since(begin)
}

// kill kills the bridge with SIGKILL.
func (b *bridge) kill() {
	b.front.SetTarget("")
	b.process.kill()
}

// terminate stops the bridge with SIGTERM and checks its exit status.
func (b *bridge) terminate(within time.Duration) {
	b.t.Helper()
	b.process.signal(terminate)
	if !b.process.awaitEnd(within) {
		b.t.Fatalf("%s did not end within %v of SIGTERM:\n%s", b.name, within, b.process.tail())
	}
	b.front.SetTarget("")
	if code := b.process.cmd.ProcessState.ExitCode(); code != 0 {
		b.t.Errorf("%s ended with %v after SIGTERM:\n%s", b.name, b.process.cmd.ProcessState, b.process.tail())
	}
}

// ask asks the admin listener. The status is zero without an answer.
func (b *bridge) ask(path string) (text string, status int) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(b.admin + path)
	if err != nil {
		return "", 0
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", 0
	}
	return string(body), response.StatusCode
}

// metrics are the values of the bridge's metrics by name and labels, as
// acsbridge_published_total{outcome="stored",resource="demo"}.
func (b *bridge) metrics() map[string]float64 {
	text, _ := b.ask("/metrics")
	figures := make(map[string]float64)
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if f, err := strconv.ParseFloat(value, 64); err == nil && !strings.HasPrefix(name, "#") {
			figures[name] = f
		}
	}
	return figures
}

// drained waits until the stream has every record of the bridge.
func (b *bridge) drained(within time.Duration) {
	b.t.Helper()
	until(b.t, within, b.name+" has forwarded all records", func() bool {
		lag, ok := b.metrics()["acsbridge_forwarder_lag_records"]
		return ok && lag == 0
	})
}

// deadLetters returns what the dead-letter file holds.
func (b *bridge) deadLetters() (list []*message) {
	b.t.Helper()
	file, err := os.Open(filepath.Join(b.dir, "dead-letters.ndjson"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		b.t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var letter struct {
			Time            time.Time
			Reason, Subject string
			JournalIndex    uint64
			Headers         map[string]string
			Payload         string
		}
		if err := json.Unmarshal(lines.Bytes(), &letter); err != nil {
			b.t.Logf("a dead letter was cut off: %v", err)
			continue
		}
		payload, err := base64.StdEncoding.DecodeString(letter.Payload)
		if err != nil {
			b.t.Fatal(err)
		}
		header := map[string][]string{"reason": {letter.Reason}}
		for name, value := range letter.Headers {
			header[name] = []string{value}
		}
		list = append(list, &message{
			stream: "dead letters of " + b.name, sequence: letter.JournalIndex, time: letter.Time,
			subject: letter.Subject, header: header, data: payload,
		})
	}
	if err := lines.Err(); err != nil {
		b.t.Fatal(err)
	}
	return list
}
