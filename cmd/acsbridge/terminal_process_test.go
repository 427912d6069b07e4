//go:build unix

package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/creack/pty"
	"github.com/nats-io/nats.go"
	"golang.org/x/term"

	"github.com/acsbridge/acsbridge/internal/natstest"
)

// terminalProcess is a process at a terminal of a test's own.
type terminalProcess struct {
	t       *testing.T
	process *exec.Cmd
	tty     *os.File    // the process's end
	screen  *os.File    // the person's end
	before  *term.State // of the terminal
	drained chan struct{}

	mu   sync.Mutex
	said bytes.Buffer
}

// atTerminal starts the built binary with the NATS server of a load.
func (l *replayLoad) atTerminal(t *testing.T, args ...string) *terminalProcess {
	t.Helper()
	return atTerminal(t, []string{"NATS_URL=" + l.nats.URL()}, "acsbridge", args...)
}

// atTerminal starts a command with variables of its own, at 80 columns.
func atTerminal(t *testing.T, environment []string, name string, args ...string) *terminalProcess {
	t.Helper()
	screen, tty, err := pty.Open()
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	if err := pty.Setsize(screen, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), processAtMost)
	x := &terminalProcess{t: t, process: exec.CommandContext(ctx, name, args...), tty: tty, screen: screen, drained: make(chan struct{})}
	t.Cleanup(func() {
		cancel()
		tty.Close()
		screen.Close()
		<-x.drained
	})
	if x.before, err = term.GetState(int(tty.Fd())); err != nil {
		t.Fatal(err)
	}
	go x.drain()
	x.process.Env = append(append(os.Environ(), "TERM=xterm", "NO_COLOR="), environment...)
	x.process.Stdin, x.process.Stdout, x.process.Stderr = tty, tty, tty
	x.process.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := x.process.Start(); err != nil {
		t.Fatal(err)
	}
	return x
}

func (x *terminalProcess) drain() {
	defer close(x.drained)
	chunk := make([]byte, 4096)
	for {
		n, err := x.screen.Read(chunk)
		x.mu.Lock()
		x.said.Write(chunk[:n])
		x.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (x *terminalProcess) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.said.String()
}

// shows waits until the screen has what matches a pattern.
func (x *terminalProcess) shows(pattern string) {
	x.t.Helper()
	re := regexp.MustCompile(pattern)
	defer func() {
		if x.t.Failed() {
			x.t.Logf("the screen:\n%q", x.text())
		}
	}()
	natstest.Until(x.t, func() bool { return re.MatchString(x.text()) })
}

func (x *terminalProcess) press(keys string) {
	x.t.Helper()
	if _, err := x.screen.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

// ends waits for the process, and checks that it leaves the terminal as it was.
func (x *terminalProcess) ends() error {
	x.t.Helper()
	err := x.process.Wait()
	after, stateErr := term.GetState(int(x.tty.Fd()))
	if stateErr != nil {
		x.t.Fatal(stateErr)
	}
	if !reflect.DeepEqual(x.before, after) {
		x.t.Errorf("the terminal is left as %+v, it was %+v", after, x.before)
	}
	return err
}

// TestReplay_progressBar has a replay that takes two seconds.
func TestReplay_progressBar(t *testing.T) {
	ignoreEnvironment(t)
	l := newReplayLoad(t, 600)
	x := l.atTerminal(t, "replay", "--since=all", "--pace=300/s")
	x.shows(`\d+ events, \d+/s +\d\d% \|█+ +\| +\[\d+s:\d+s\]`)
	x.shows(`600 events, \d+/s 100% \|█{24}\|.*\r\nreplay \S{36}: 600 events sent to acs-replay\.>\r\n`)
	if err := x.ends(); err != nil {
		t.Error(err)
	}
}

// TestReplay_intoLiveAsks publishes among the events only after a yes.
func TestReplay_intoLiveAsks(t *testing.T) {
	ignoreEnvironment(t)
	l := newReplayLoad(t, 10)
	for answer, want := range map[string]string{"no\n": `acsbridge: nothing was done`, "y\n": `acsbridge: nothing was done`, "yes\n": `10 events sent to acs\.>, among the events themselves`} {
		x := l.atTerminal(t, "replay", "--since=all", "--until=seq:10", "--into-live")
		x.shows(`This publishes events again into acs\.> of stream ACS, where every consumer gets them\.\r\nGo on\? \[yes/no\] `)
		x.press(answer)
		x.shows(want)
		_ = x.ends() // the screen shows the outcome
	}
	if n := len(l.nats.Messages("ACS")); n != 20 {
		t.Errorf("%d events in the stream, want 20", n)
	}
}

// TestDemo_terminal plays until Ctrl-C. No line is longer than the terminal, where it
// would be broken.
func TestDemo_terminal(t *testing.T) {
	ignoreEnvironment(t)
	any := "127.0.0.1:0"
	x := atTerminal(t, nil, "acsbridge", "demo", "--rate=20", "--speed=50", "--listen", any, "--admin-listen", any, "--nats-listen", any, "--issuer-listen", any)
	x.shows(`\r\nTIME        SEQ  CALL      EVENT                       DETAILS\r\n`)
	x.shows(`\r\n\d\d:\d\d:\d\d  [ \d]{4}\d  [0-9a-f]{8}  ContinuousDtmfRecognitionToneReceived  200/0\r\n`) // the longest type
	x.shows(`      -  [0-9a-f]{8}  CallTransferAccepted        refused: forged signature\r\n`)
	x.press("\x03")
	if err := x.ends(); err != nil {
		t.Errorf("%v\n%s", err, x.text())
	}
	x.shows(`all numbers are what they must be\r\n\r\nThe events are removed, with\r\n  \S+\r\nTo keep them:\r\n  \S*acsbridge demo --data-dir DIR\r\n$`)
	for line := range strings.Lines(x.text()) {
		line = strings.TrimPrefix(line, "^C") // the terminal's echo
		if line = strings.TrimRight(line, "\r\n"); utf8.RuneCountInString(line) > 80 && strings.Contains(strings.TrimSpace(line), " ") {
			t.Errorf("%d columns: %s", utf8.RuneCountInString(line), line)
		}
	}
}

// TestListen forwards what comes to an application, again when r is pressed,
// and ends by each of its ways with the terminal as it was.
func TestListen(t *testing.T) {
	ignoreEnvironment(t)
	for name, end := range map[string]func(*terminalProcess){
		"q":       func(x *terminalProcess) { x.press("q") },
		"Ctrl-C":  func(x *terminalProcess) { x.press("\x03") },
		"Ctrl-D":  func(x *terminalProcess) { x.press("\x04") },
		"SIGTERM": func(x *terminalProcess) { _ = x.process.Process.Signal(syscall.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newReplayLoad(t, 3) // from before
			x := l.atTerminal(t, "listen", "--forward="+l.app.URL+"/api/callbacks")
			x.shows(`new events are posted to http://127\.0\.0\.1:\d+/api/callbacks\r\n`)
			x.shows(`r posts the last one again, q ends\r\n`)
			x.press("r")
			x.shows(`no event has come yet\r\n`)
			m := nats.NewMsg("acs.contoso.PlayCompleted.4.call-7")
			m.Data = []byte(`{"id":"1","source":"s","type":"Microsoft.Communication.PlayCompleted","data":{"callConnectionId":"call-7"}}`)
			if _, err := l.nats.JetStream().PublishMsg(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			x.shows(`PlayCompleted.* .*call-7.*  .*200.* in \d.*s\r\n`)
			x.press("xr")
			x.shows(`again:\r\n.*PlayCompleted.* .*call-7.*  .*200.* in \d.*s\r\n`)
			l.mu.Lock()
			posts := len(l.posted)
			l.mu.Unlock()
			if posts != 2 {
				t.Errorf("%d posts", posts)
			}
			end(x)
			if err := x.ends(); err != nil {
				t.Error(err)
			}
			x.shows(`1 event forwarded\r\n$`)
			if strings.Contains(strings.ReplaceAll(x.text(), "\r\n", ""), "\n") {
				t.Errorf("a line feed without a carriage return:\n%q", x.text())
			}
		})
	}
}

// TestCompletion types into each shell that is here, and lets it complete a flag and a
// value.
func TestCompletion(t *testing.T) {
	ignoreEnvironment(t)
	for shell, start := range map[string]struct {
		args  []string
		setup string
	}{
		"bash": {[]string{"--norc", "--noprofile", "-i"}, `source <(acsbridge completion bash)`},
		"zsh":  {[]string{"-f", "-i"}, `autoload -Uz compinit && compinit -D && source <(acsbridge completion zsh)`},
		"fish": {[]string{"--no-config", "-i"}, `acsbridge completion fish | source`},
	} {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil && shell != "bash" {
				t.Skipf("%s is not here", shell)
			}
			x := atTerminal(t, []string{"HOME=" + t.TempDir(), "PS1=$ "}, shell, start.args...)
			x.shows(`[$>#] `)
			// The result is not what was typed.
			x.press(start.setup + ` && echo set''up` + "\r")
			x.shows(`setup\r\n`)
			x.press("acsbridge version --js\t")
			x.shows(`--json`)
			x.press("\r")
			x.shows(`\{"name":"acsbridge",`)
			x.press("acsbridge trigger --list --audience=x CallDisc\t")
			x.shows(`CallDisconnected`)
			x.press("\x15exit\r") // erases the line first
			_ = x.process.Wait()  // the status is that of the last command
		})
	}
}
