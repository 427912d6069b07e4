package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/replay/resend"
	"github.com/acsbridge/acsbridge/schemas"
)

// quarantineLoad is a running bridge, and an operator who looks at its quarantine.
type quarantineLoad struct {
	*restartLoad
	bridge *bridgeProcess
}

func newQuarantineLoad(t *testing.T) *quarantineLoad {
	ignoreEnvironment(t)
	l := &quarantineLoad{restartLoad: newRestartLoad(t)}
	l.bridge = l.start()
	return l
}

// post sends a body with a good token and expects an answer.
func (l *quarantineLoad) post(body string, want int) {
	l.t.Helper()
	token, err := l.issuer.Sign(acstest.TokenSpec{Audience: acstest.DemoAudience})
	if err != nil {
		l.t.Fatal(err)
	}
	if got := bridgetest.Post(l.t, l.bridge.callbacks, token, body); got != want {
		l.t.Fatalf("answer %d, want %d", got, want)
	}
}

// run runs the command and compares whether it fails, and all that it says, with
// a pattern.
func (l *quarantineLoad) run(fails bool, pattern string, args ...string) (said string) {
	l.t.Helper()
	return runItems(l.t, l.nats.URL(), fails, pattern, append([]string{"quarantine"}, args...)...)
}

// runItems runs a command at a server.
func runItems(t *testing.T, url string, fails bool, pattern string, args ...string) (said string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), processAtMost)
	defer cancel()
	process := exec.CommandContext(ctx, "acsbridge", args...)
	process.Env = append(os.Environ(), "NATS_URL="+url)
	output, err := process.CombinedOutput()
	if (err != nil) != fails || !regexp.MustCompile(pattern).Match(output) {
		t.Errorf("%v: %v\ngot  %s\nwant %s", args, err, output, pattern)
	}
	return string(output)
}

// oddEvent is an event of one id and call, with a text.
func oddEvent(id, text string) string {
	return fmt.Sprintf(`{"id":"%s","source":"calling/callConnections/c-1","type":"Microsoft.Communication.PlayCompleted","specversion":"1.0",`+
		`"data":{"callConnectionId":"c-1","operationContext":"%s"}}`, id, text)
}

// TestQuarantine has an event under the id of another, and a body that
// is none.
func TestQuarantine(t *testing.T) {
	l := newQuarantineLoad(t)
	l.run(false, `^there are none\n$`, "list")
	l.post("["+oddEvent("1", "first")+"]", 200)
	l.nats.Await(schemas.Stream, 1)
	l.post("["+oddEvent("1", "+15550100123")+"]", 200)
	l.nats.Await(schemas.QuarantineStream, 1)
	l.post("hello +15550100123", 400)
	l.nats.Await(schemas.QuarantineStream, 2)

	said := l.run(false, `(?s)^     1  \d\d:\S+  conflict         demo           \d+ bytes  PlayCompleted\n     2  \S+  not_json         demo            18 bytes  application/json\n$`, "list")
	said += l.run(false, `"acs-quarantine-reason": "conflict"`, "show", "1")
	said += l.run(false, `"acs-quarantine-reason": "not_json"`, "show", "2")
	if strings.Contains(said, "5550100123") {
		t.Errorf("a telephone number is shown:\n%s", said)
	}
	l.run(false, `"operationContext": "\+15550100123"`, "show", "1", "--show-pii")
	l.run(true, `number 9 does not exist`, "show", "9")

	// Nothing is done by mistake, and nothing goes where it must not.
	l.run(true, `there is no terminal to ask on; add --yes`, "redrive", "--all")
	l.run(true, `say which: numbers`, "redrive", "--yes")
	l.run(true, `say which: numbers`, "drop", "1", "--all", "--yes")
	l.run(true, `number 3 does not exist`, "drop", "1", "3", "--yes")
	l.run(true, `none has this reason`, "drop", "--reason", "too_deep", "--yes")
	l.run(true, `(?s)1 stays: the stream has another event under this id.*2 stays: not_json: .*2 of 2 stay`, "redrive", "--all", "--yes")
	l.run(true, `2 stays: not_json`, "redrive", "2", "--new-id", "--yes")
	l.run(true, `^This publishes 2 .* into stream ACS, .*\n1 would stay: the stream has another event under this id\n2 would stay: not_json.*\nnothing was done: --dry-run\n.*2 of 2 would stay`,
		"redrive", "--all", "--dry-run")
	l.run(false, `^This .*\n1 would be published\nnothing was done: --dry-run\n$`, "redrive", "1", "--new-id", "--dry-run", "--yes")
	l.run(false, `^This removes 2 .*\n1 would be dropped\n2 would be dropped\nnothing`, "drop", "--all", "--dry-run", "--yes")
	if got := l.nats.Messages(schemas.Stream); len(got) != 1 || len(l.nats.Messages(schemas.QuarantineStream)) != 2 {
		t.Fatalf("%d events in the stream", len(got))
	}

	// Unless it is wanted.
	l.run(false, `^1 published\n$`, "redrive", "--reason", "conflict", "--new-id", "--yes")
	got := l.nats.Messages(schemas.Stream)
	if len(got) != 2 {
		t.Fatalf("%d events in the stream", len(got))
	}
	first, second := got[0], got[1]
	if string(second.Data) != oddEvent("1", "+15550100123") || second.Subject != first.Subject || second.Header.Get(schemas.HeaderRedrivenFrom) != "ACS_QUARANTINE/1" ||
		second.Header.Get(schemas.HeaderMsgID) == first.Header.Get(schemas.HeaderMsgID) || second.Header.Get(schemas.HeaderQuarantineReason) != "" {
		t.Errorf("%s %v\n%s", second.Subject, second.Header, second.Data)
	}
	for name := range first.Header {
		if second.Header.Get(name) == "" {
			t.Errorf("header %s is missing", name)
		}
	}
	l.run(false, `^2 dropped\n$`, "drop", "--all", "--yes")
	l.run(false, `^there are none\n$`, "list")
	l.bridge.stop(syscall.SIGTERM)
}

// TestQuarantine_withoutRightToDelete publishes, says that the callback stays, and
// publishes nothing a second time.
func TestQuarantine_withoutRightToDelete(t *testing.T) {
	ignoreEnvironment(t)
	l := &quarantineLoad{restartLoad: newRestartLoad(t)}
	config := jetstream.StreamConfig{Name: schemas.QuarantineStream, Subjects: []string{schemas.QuarantinePrefix + ".>"}, AllowDirect: true, DenyDelete: true}
	if _, err := l.nats.JetStream().CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	l.bridge = l.start()
	for _, text := range []string{"first", "second"} {
		l.post("["+oddEvent("1", text)+"]", 200)
		l.nats.Await(schemas.Stream, 1)
	}
	l.nats.Await(schemas.QuarantineStream, 1)
	for range 2 {
		l.run(true, `^1 is published, and stays: remove it from stream ACS_QUARANTINE: `, "redrive", "1", "--new-id", "--yes")
	}
	if n := len(l.nats.Messages(schemas.Stream)); n != 2 {
		t.Errorf("%d events in the stream, want 2", n)
	}
	l.bridge.stop(syscall.SIGTERM)
}

// TestQuarantine_deadLetters has events that are too large for the stream for a
// while.
func TestQuarantine_deadLetters(t *testing.T) {
	l := newQuarantineLoad(t)
	l.post("["+oddEvent("1", "first")+"]", 200)
	l.nats.Await(schemas.Stream, 1)
	l.limit(1500)
	file := filepath.Join(l.data, "dead-letters.ndjson")
	for _, id := range []string{"2", "3", "4"} {
		l.post("["+oddEvent(id, strings.Repeat("x", 2000))+"]", 200)
	}
	natstest.Until(t, func() bool {
		text, err := os.ReadFile(file)
		return err == nil && bytes.Count(text, []byte("\n")) == 3
	})
	at := "--dead-letters=" + file
	l.run(false, `(?s)^     1  \S+  too_large        demo          2\d\d\d bytes\n      c-1 PlayCompleted\n     2 .*     3 .*\n$`, "list", at)
	l.run(false, `"subject": "acs\.demo\.PlayCompleted\.a\.c-1"`, "show", "1", at)
	l.run(true, `there is no terminal to ask on; add --yes`, "redrive", "--all", at)

	// A dry run leaves the file to the bridge.
	l.run(false, `^This .*\n1 would be published\n2 would be published\n3 would be published\nnothing`, "redrive", "--all", "--dry-run", "--yes", at)

	// The stream does not take them yet: they stay, out of the bridge's way.
	l.run(true, `(?s)1 stays: publish: .*2 stays.*3 stays.*the letters that are left are in \S+\.taken`, "redrive", "--all", "--yes", at)
	taken := file + resend.ClaimedSuffix
	l.limit(-1)
	forge(t, taken, 2)
	saved, err := os.ReadFile(taken)
	if err != nil {
		t.Fatal(err)
	}
	l.run(false, `(?s)^1 published\nthe letters that are left are in \S+\.taken\n$`, "redrive", "1", "--yes", "--dead-letters="+taken)
	l.run(true, `(?s)^This .*\n1 would stay: its subject is not that of its event\n2 would be published\n`, "redrive", "--all", "--dry-run", "--dead-letters="+taken)
	l.run(true, `(?s)^1 stays: its subject is not that of its event\n2 published\nthe letters that are left`, "redrive", "--all", "--yes", "--dead-letters="+taken)
	l.run(false, `^1 dropped\n$`, "drop", "--all", "--yes", "--dead-letters="+taken)
	if _, err := os.Stat(taken); !os.IsNotExist(err) {
		t.Errorf("the file is there still: %v", err)
	}
	// A letter that is sent again is found in the stream.
	if err := os.WriteFile(taken, saved, 0o600); err != nil {
		t.Fatal(err)
	}
	l.run(false, `(?s)^1 published\n3 published\n`, "redrive", "1", "3", "--yes", "--dead-letters="+taken)
	var ids []string
	for _, m := range l.nats.Messages(schemas.Stream) {
		ids = append(ids, m.Header.Get(schemas.HeaderEventID))
	}
	if got := strings.Join(ids, " "); got != "1 2 4" {
		t.Errorf("the stream has the events %s, want 1 2 4", got)
	}
	l.bridge.stop(syscall.SIGTERM)
}

// limit sets the size of a message that the stream takes.
func (l *quarantineLoad) limit(size int32) {
	l.t.Helper()
	js := l.nats.JetStream()
	stream, err := js.Stream(l.t.Context(), schemas.Stream)
	if err == nil {
		config := stream.CachedInfo().Config
		config.MaxMsgSize = size
		_, err = js.UpdateStream(l.t.Context(), config)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// forge gives a dead letter a subject that its event does not have.
func forge(t *testing.T, path string, line int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	letter := map[string]any{}
	if err := json.Unmarshal([]byte(lines[line-1]), &letter); err != nil {
		t.Fatal(err)
	}
	letter["subject"] = "acs.demo.CallConnected.a.c-1"
	changed, err := json.Marshal(letter)
	if err != nil {
		t.Fatal(err)
	}
	lines[line-1] = string(changed) + "\n"
	if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
}
