package faults_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// lastLines of a process's log are printed after a failure.
const lastLines = 40

// process is a program under test. It dies with the test process.
type process struct {
	t     testing.TB
	name  string
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has been waited for

	mu    sync.Mutex
	lines []string      // of its log
	news  chan struct{} // closed and replaced with every line
}

// start runs a program. Its output is written to a file in the test's artifacts.
func start(t testing.TB, name string, env []string, program string, args ...string) *process {
	t.Helper()
	p := &process{
		t: t, name: name, cmd: exec.Command(program, args...),
		ended: make(chan struct{}), news: make(chan struct{}),
	}
	// No settings of the environment of the tests.
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}, env...)
	dieWithParent(p.cmd)
	output, writer := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = writer, writer
	file, err := os.OpenFile(filepath.Join(t.ArtifactDir(), name+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := launch(p.cmd); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	fmt.Fprintf(file, "--- started at %s as process %d\n", time.Now().Format(time.StampMilli), p.cmd.Process.Pid)
	go p.listen(output, file)
	go func() {
		_ = p.cmd.Wait() // how it ended is in ProcessState
		writer.Close()
		close(p.ended)
	}()
	t.Cleanup(p.kill)
	return p
}

// launches run on one thread that never ends: the signal of PR_SET_PDEATHSIG is sent when
// the thread that started the process ends (prctl(2)).
var launches = sync.OnceValue(func() chan<- func() {
	queue := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range queue {
			f()
		}
	}()
	return queue
})

func launch(cmd *exec.Cmd) error {
	result := make(chan error)
	launches() <- func() { result <- cmd.Start() }
	return <-result
}

func (p *process) listen(output io.Reader, file *os.File) {
	defer file.Close()
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Fprintln(file, lines.Text())
		p.mu.Lock()
		p.lines = append(p.lines, lines.Text())
		close(p.news)
		p.news = make(chan struct{})
		p.mu.Unlock()
	}
	_, _ = io.Copy(io.Discard, output) // a line beyond all bounds must not stop the process
}

// awaitLine returns the first line of the log with a text.
func (p *process) awaitLine(text string, within time.Duration) (string, error) {
	deadline := time.After(within)
	for seen := 0; ; {
		p.mu.Lock()
		fresh, news := p.lines[seen:], p.news
		seen = len(p.lines)
		p.mu.Unlock()
		for _, line := range fresh {
			if strings.Contains(line, text) {
				return line, nil
			}
		}
		select {
		case <-news:
		case <-p.ended:
			return "", fmt.Errorf("%s ended (%v) without %q in its log:\n%s", p.name, p.cmd.ProcessState, text, p.tail())
		case <-deadline:
			return "", fmt.Errorf("%s did not log %q within %v:\n%s", p.name, text, within, p.tail())
		}
	}
}

// tail is the end of the log.
func (p *process) tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines[max(len(p.lines)-lastLines, 0):], "\n")
}

// signal sends a signal to a process that may have ended.
func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("signal %s: %v", p.name, err)
	}
}

// kill kills the process and waits for its end.
func (p *process) kill() {
	p.signal(os.Kill)
	<-p.ended
}

// awaitEnd waits for the end of the process, and reports whether it came in time.
func (p *process) awaitEnd(within time.Duration) bool {
	select {
	case <-p.ended:
		return true
	case <-time.After(within):
		return false
	}
}
