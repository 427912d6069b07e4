// Package examples_test runs the examples against the demo, as their readers do.
package examples_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

const (
	// enoughCalls must have ended.
	enoughCalls = 5
	// programAtMost bounds the life of a program, and installAtMost that of npm.
	programAtMost = 5 * time.Minute
	installAtMost = time.Minute
)

// program is a process that runs until the test stops it.
type program struct {
	t   *testing.T
	cmd *exec.Cmd

	mu   sync.Mutex
	text strings.Builder
}

// start runs a program until the test ends.
func start(t *testing.T, dir string, env []string, name string, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), programAtMost)
	p := &program{t: t, cmd: exec.CommandContext(ctx, name, args...)}
	p.cmd.Dir, p.cmd.Env = dir, append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Wait()
		}
	})
	return p
}

func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *program) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// await waits until the program has printed n matches, and returns them.
func (p *program) await(pattern *regexp.Regexp, n int) (found [][]string) {
	p.t.Helper()
	defer func() {
		if p.t.Failed() {
			p.t.Log(p.output())
		}
	}()
	natstest.Until(p.t, func() bool {
		found = pattern.FindAllStringSubmatch(p.output(), -1)
		return len(found) >= n
	})
	return found
}

// stop stops the program with SIGINT.
func (p *program) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("%v\n%s", err, p.output())
	}
}

var natsAddress = regexp.MustCompile(`(?m)^NATS +(nats://\S+)$`)

// startDemo runs the demo and returns the address of its NATS.
func startDemo(t *testing.T) string {
	t.Helper()
	acsbridge := build(t, "../cmd/acsbridge")
	const any = "127.0.0.1:0"
	demo := start(t, "", []string{"XDG_RUNTIME_DIR=" + t.TempDir()}, acsbridge, "demo", "--quiet", "--rate=20", "--speed=50",
		"--listen="+any, "--admin-listen="+any, "--nats-listen="+any, "--issuer-listen="+any)
	return demo.await(natsAddress, 1)[0][1]
}

func build(t *testing.T, directory string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "program")
	if out, err := exec.Command("go", "build", "-o", binary, directory).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

var asked = regexp.MustCompile(`(?m)^(\S+) recognize$`)

// TestExample_go runs the service with the demo, without an ACS, and a second time: no
// call is asked more often than the service does.
func TestExample_go(t *testing.T) {
	t.Parallel()
	url, binary := startDemo(t), build(t, "./go")
	times := make(map[string]int)
	for range 2 {
		service := start(t, "", []string{"NATS_URL=" + url}, binary)
		service.await(asked, enoughCalls)
		for _, action := range []string{"transferToParticipant", "play", "terminate"} {
			service.await(regexp.MustCompile(`(?m)^\S+ `+action+`$`), 1)
		}
		service.stop()
		for _, line := range asked.FindAllStringSubmatch(service.output(), -1) {
			if times[line[1]]++; times[line[1]] > 2 {
				t.Errorf("%s was asked again", line[1])
			}
		}
	}
}

// installNode returns a copy of the examples in Node with their packages. The test is
// skipped without npm, and where npm reaches no registry.
func installNode(t *testing.T) (dir string) {
	t.Helper()
	for _, name := range []string{"node", "npm"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("the examples in Node need %s, which is not installed", name)
		}
	}
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("node")); err != nil {
		t.Fatal(err)
	}
	out, err := command(t, dir, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0").CombinedOutput()
	if err != nil && noNetwork.Match(out) {
		t.Skipf("npm reaches no registry:\n%s", out)
	}
	if err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	return dir
}

// noNetwork matches the errors of npm when it reaches no registry.
var noNetwork = regexp.MustCompile(`EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ENOTCACHED|network`)

func command(t *testing.T, dir, name string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), installAtMost)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	return cmd
}

func connect(t *testing.T, url string) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

// readEnds returns how each call in the stream has ended.
func readEnds(t *testing.T, url string) map[string]string {
	t.Helper()
	nc, js := connect(t, url)
	defer nc.Close()
	stream, err := js.Stream(t.Context(), schemas.Stream)
	if err != nil {
		t.Fatal(err)
	}
	ends := make(map[string]string)
	for sequence := uint64(1); ; sequence++ {
		m, err := stream.GetMsg(t.Context(), sequence, jetstream.WithGetMsgSubject("acs.*.CallDisconnected.*.*"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return ends
		}
		if err != nil {
			t.Fatal(err)
		}
		sequence = m.Sequence
		read, err := schemas.Parse(m.Header, m.Data)
		if err != nil {
			t.Fatal(err)
		}
		ends[read.Event.Data.IDs().CallConnectionID] = read.Event.Brief()
	}
}
