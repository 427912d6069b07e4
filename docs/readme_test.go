//go:build unix

package docs_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// readmeAtMost bounds the whole of README's commands, a build among them.
const readmeAtMost = 5 * time.Minute

// readmeSteps say how the commands of README.md are run, by what they begin with. The
// first that matches counts.
var readmeSteps = []struct {
	command string
	how     func(*readme, string) string // returns what was printed
	prints  string                       // a pattern for it
}{
	// The clone stands for the newest release.
	{`go install \S+/cmd/acsbridge@latest$`, func(r *readme, _ string) string { return r.run("go install ./cmd/acsbridge") }, `^$`},
	{`docker `, (*readme).parse, ``},
	{`acsbridge demo --calls \d+ --keep$`, (*readme).demo, ``},
	{`acsbridge calls$`, (*readme).run, `(?m)^\d\d:\d\d:\d\d\.\d{3}  ended .* CallDisconnected `},
	{`acsbridge trigger CallConnected$`, (*readme).run, `(?m)^200 in \S+: CallConnected\n  event id +\S{36}\n  callConnectionId  \S{36}\n  stream ACS +sequence \d+$`},
	{`acsbridge tail --follow$`, func(r *readme, c string) string { return r.until(c, `CallConnected `) }, ``},
	{`acsbridge listen --forward http://localhost:3000/`, func(r *readme, c string) string { return r.until(r.toApplication(c), `http://127\.0\.0\.1`) }, ``},
	// The verdict about an application that takes everything is a failure.
	{`acsbridge probe http://localhost:3000/`, func(r *readme, c string) string { return r.run("! " + r.toApplication(c)) }, `(?m)^fail +expired +200 `},
	{`acsbridge serve --config bridge\.yaml$`, (*readme).serve, `(?m)^stream-replicas: +3\b`},
	{`nats `, (*readme).parse, ``},
	// .ci/run runs these whole.
	{`go test `, (*readme).parse, ``},
}

// readme runs the commands of README.md in a fresh clone.
type readme struct {
	t           *testing.T
	ctx         context.Context
	text        string
	clone       string
	environment []string
	application *httptest.Server
}

// TestReadme_commands types the commands of README.md in their order, in a fresh clone,
// and checks what they print.
func TestReadme_commands(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the command and runs a demo")
	}
	ctx, cancel := context.WithTimeout(context.Background(), readmeAtMost)
	t.Cleanup(cancel)
	r := &readme{t: t, ctx: ctx, text: read(t, "README.md"), clone: t.TempDir()}
	r.application = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(r.application.Close)
	r.copySource()
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); !strings.HasPrefix(name, "ACSBRIDGE_") && !strings.HasPrefix(name, "NATS_") {
			r.environment = append(r.environment, pair)
		}
	}
	bin := t.TempDir()
	r.environment = append(r.environment, "GOBIN="+bin, "PATH="+bin+":"+os.Getenv("PATH"), "XDG_RUNTIME_DIR="+t.TempDir())

	commands := readmeCommands(r.text)
	if len(commands) < 5 {
		t.Fatalf("only %q were found", commands)
	}
	for _, command := range commands {
		known := false
		for _, step := range readmeSteps {
			if known = regexp.MustCompile("^" + step.command).MatchString(command); known {
				if printed := step.how(r, command); !regexp.MustCompile(step.prints).MatchString(printed) {
					t.Errorf("%s printed, in place of %s\n%s", command, step.prints, printed)
				}
				break
			}
		}
		if !known {
			t.Errorf("README.md has the command %q: readmeSteps must say how it is run", command)
		}
	}
}

// readmeCommands are the lines of the indented blocks of a page.
func readmeCommands(page string) (commands []string) {
	for line := range strings.Lines(fenced.ReplaceAllString(page, "")) {
		if command, ok := strings.CutPrefix(line, "    "); ok {
			commands = append(commands, strings.TrimSpace(command))
		}
	}
	return commands
}

// copySource copies the files of this clone that git has or would take.
func (r *readme) copySource() {
	r.t.Helper()
	list := exec.CommandContext(r.ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = ".."
	out, err := list.Output()
	if err != nil {
		r.t.Skipf("this is not a clone, or git is missing: %v", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		content, err := os.ReadFile("../" + name)
		if os.IsNotExist(err) {
			continue // removed and not committed yet
		}
		path := filepath.Join(r.clone, name)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o755)
		}
		if err == nil {
			err = os.WriteFile(path, content, 0o644)
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

// shell is a command as a person types it.
func (r *readme) shell(command string) *exec.Cmd {
	cmd := exec.CommandContext(r.ctx, "bash", "-c", command)
	cmd.Dir, cmd.Env = r.clone, r.environment
	return cmd
}

// parse checks that a command is one of a shell.
func (r *readme) parse(command string) string {
	cmd := exec.CommandContext(r.ctx, "bash", "-n", "-c", command)
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Errorf("%s: %v\n%s", command, err, out)
	}
	return ""
}

// run runs a command to its end.
func (r *readme) run(command string) string {
	var out, problems bytes.Buffer
	cmd := r.shell(command)
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		r.t.Errorf("%s: %v\n%s%s", command, err, out.String(), problems.String())
	}
	return out.String()
}

// output is what a process that runs has printed so far.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.changed <- struct{}{}:
	default:
	}
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start runs a command until it has printed what matches, and returns what stops it
// like Ctrl-C and returns all that it printed.
func (r *readme) start(command, pattern string) (stop func() string) {
	out := &output{changed: make(chan struct{}, 1)}
	cmd := r.shell("exec " + command)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	match := regexp.MustCompile(pattern)
	for !match.MatchString(out.String()) {
		select {
		case <-out.changed:
		case err := <-ended:
			r.t.Fatalf("%s ended (%v) before it printed %s\n%s", command, err, pattern, out)
		}
	}
	return func() string {
		_ = cmd.Process.Signal(syscall.SIGINT) // it may have ended, which Wait reports
		if err := <-ended; err != nil {
			r.t.Errorf("%s: %v\n%s", command, err, out)
		}
		return out.String()
	}
}

// until runs a command that has no end of its own.
func (r *readme) until(command, pattern string) string { return r.start(command, pattern)() }

// toApplication puts the test's application in the place of the reader's own.
func (r *readme) toApplication(command string) string {
	return strings.Replace(command, "http://localhost:3000", r.application.URL, 1)
}

// demo runs until the end of the test, for the commands after it. It must print what
// README.md says, but for numbers and ids.
func (r *readme) demo(command string) string {
	_, after, _ := strings.Cut(r.text, "    "+command+"\n")
	sample := fenced.FindString(after)
	stop := r.start(command, `(?m)^The demo goes on until Ctrl-C\.$`)
	r.t.Cleanup(func() {
		printed := stop()
		for line := range strings.Lines(sample) {
			line = strings.TrimRight(line, "\n")
			if line == "…" || strings.HasPrefix(line, "```") {
				continue
			}
			match := regexp.MustCompile("(?m)^" + variable.ReplaceAllString(regexp.QuoteMeta(line), `[\w-]+`) + "$")
			if !match.MatchString(printed) {
				r.t.Errorf("%s did not print %s", command, match)
			}
		}
		if strings.Count(sample, "\n") < 8 || r.t.Failed() {
			r.t.Errorf("README.md says\n%sand it is\n%s", sample, printed)
		}
	})
	return ""
}

// variable matches what is another in each run of a demo: times, sequences, ports, ids.
var variable = regexp.MustCompile(`\w*\d[\w-]*`)

// serve checks the configuration that README.md shows before the command.
func (r *readme) serve(command string) string {
	before, _, _ := strings.Cut(r.text, "    "+command+"\n")
	blocks := fenced.FindAllString(before, -1)
	yaml := strings.Split(blocks[len(blocks)-1], "\n")
	if yaml[0] != "```yaml" {
		r.t.Fatalf("%s has no block of YAML before it", command)
	}
	for name, content := range map[string]string{"bridge.yaml": strings.Join(yaml[1:len(yaml)-1], "\n"), "bridge.creds": "x"} {
		if err := os.WriteFile(filepath.Join(r.clone, name), []byte(content), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	return r.run(command + " --print-config")
}
