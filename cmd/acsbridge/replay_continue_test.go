package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/replay/resend"
	"github.com/acsbridge/acsbridge/schemas"
)

// The load of a replay that is interrupted: its pace leaves time for that.
const (
	replayedEvents = 6000
	replayedCalls  = 60
	replayedPace   = "--pace=1000/s"
)

// replayLoad is a stream with events, and the places where they are sent to.
type replayLoad struct {
	t    testing.TB
	nats *natstest.Server
	app  *httptest.Server
	file string

	mu     sync.Mutex
	posted []string // acs-replay-of, in the order in which the posts came
}

func newReplayLoad(t testing.TB, events int) *replayLoad {
	t.Helper()
	l := &replayLoad{t: t, nats: natstest.Start(t), file: filepath.Join(t.TempDir(), "events.ndjson")}
	l.app = httptest.NewServer(http.HandlerFunc(l.callback))
	t.Cleanup(l.app.Close)
	js := l.nats.JetStream()
	for name, prefix := range map[string]string{schemas.Stream: schemas.SubjectPrefix, "ACS_REPLAY": schemas.ReplayPrefix} {
		// A short window: what is sent twice must be seen twice.
		config := jetstream.StreamConfig{Name: name, Subjects: []string{prefix + ".>"}, AllowDirect: true, Duplicates: 100 * time.Millisecond}
		if _, err := js.CreateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	for i := range events {
		m := nats.NewMsg(schemas.WithSlot(fmt.Sprintf("acs.contoso.PlayCompleted.call-%d", i%replayedCalls)))
		m.Header.Set(schemas.HeaderEventID, strconv.Itoa(i))
		m.Data = fmt.Appendf(nil, `{"id":"%d","data":{"text":"%s"}}`, i, strings.Repeat("x", 800))
		if _, err := js.PublishMsgAsync(m, jetstream.WithStallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	return l
}

// callback is an application that refuses some posts once.
func (l *replayLoad) callback(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.posted = append(l.posted, r.Header.Get(schemas.HeaderReplayOf))
}

// arrived returns the sequences that are where target leads, in their order.
func (l *replayLoad) arrived(target string) (list []uint64) {
	l.t.Helper()
	var of []string
	switch target {
	case "subject":
		for _, m := range l.nats.Messages("ACS_REPLAY") {
			of = append(of, m.Header.Get(schemas.HeaderReplayOf))
		}
	case "url":
		l.mu.Lock()
		of = slices.Clone(l.posted)
		l.mu.Unlock()
	case "file":
		text, err := os.ReadFile(l.file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			l.t.Fatal(err)
		}
		whole := text[:bytes.LastIndexByte(text, '\n')+1]
		for _, line := range capturedSequence.FindAllSubmatch(whole, -1) {
			of = append(of, schemas.Stream+"/"+string(line[1]))
		}
	}
	for _, text := range of {
		n, err := strconv.ParseUint(strings.TrimPrefix(text, schemas.Stream+"/"), 10, 64)
		if err != nil {
			l.t.Fatal(err)
		}
		list = append(list, n)
	}
	return list
}

var capturedSequence = regexp.MustCompile(`(?m)^\{"stream":"ACS","sequence":(\d+),`)

// to is the flag for a target.
func (l *replayLoad) to(target string) string {
	return map[string]string{"subject": "subject:" + schemas.ReplayPrefix, "url": l.app.URL, "file": "file:" + l.file}[target]
}

// count is how many events have arrived, for a test that waits.
func (l *replayLoad) count(target string) int {
	if target != "subject" {
		return len(l.arrived(target))
	}
	stream, err := l.nats.JetStream().Stream(l.t.Context(), "ACS_REPLAY")
	if err != nil {
		l.t.Fatal(err)
	}
	return int(stream.CachedInfo().State.Msgs)
}

// run starts a replay, sends it a signal when so many events more have arrived,
// unless that is zero, and returns what it said.
func (l *replayLoad) run(target string, more int, signal os.Signal, command ...string) (said string, err error) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), processAtMost)
	defer cancel()
	var output bytes.Buffer
	process := exec.CommandContext(ctx, command[0], command[1:]...)
	process.Stderr = &output
	process.Env = append(os.Environ(), "NATS_URL="+l.nats.URL())
	want := l.count(target) + more
	if err := process.Start(); err != nil {
		l.t.Fatal(err)
	}
	if more > 0 {
		natstest.Until(l.t, func() bool { return l.count(target) >= want })
		if err := process.Process.Signal(signal); err != nil {
			l.t.Fatal(err)
		}
	}
	err = process.Wait()
	return output.String(), err
}

// compare holds what arrived against what was to be sent: every event, once or
// more, and each for the first time when all before it of its call had come.
func (l *replayLoad) compare(target string) {
	l.t.Helper()
	last := make(map[uint64]uint64) // by call
	got := l.arrived(target)
	for _, n := range got {
		call := n % replayedCalls
		expected := last[call] + replayedCalls
		if last[call] == 0 {
			if expected = call; call == 0 {
				expected = replayedCalls
			}
		}
		if n > expected {
			l.t.Fatalf("%s: sequence %d came, but %d of the same call has not", target, n, expected)
		}
		last[call] = max(last[call], n)
	}
	for n := uint64(replayedEvents - replayedCalls + 1); n <= replayedEvents; n++ {
		if last[n%replayedCalls] != n {
			l.t.Errorf("%s: the last of call %d is %d, want %d", target, n%replayedCalls, last[n%replayedCalls], n)
		}
	}
	l.t.Logf("%s: %d of %d came twice", target, len(got)-replayedEvents, replayedEvents)
}

var replayTargets = []string{"subject", "url", "file"}

// TestReplay_killed kills a replay again and again, and lets the same
// command continue.
func TestReplay_killed(t *testing.T) {
	ignoreEnvironment(t)
	l := newReplayLoad(t, replayedEvents)
	for _, target := range replayTargets {
		command := []string{"acsbridge", "replay", "--since=all", "--to=" + l.to(target), "--checkpoint=" + filepath.Join(t.TempDir(), "checkpoint")}
		// A file is written once a second, a thousand events at a time.
		for _, more := range []int{1, 600, 300} {
			l.run(target, more, syscall.SIGKILL, append(command, replayedPace)...)
		}
		if said, err := l.run(target, 0, nil, command...); err != nil || !strings.Contains(said, "continues at seq:") {
			t.Fatalf("%s: %v\n%s", target, err, said)
		}
		l.compare(target)
		if n := len(l.arrived(target)); target == "file" && n != replayedEvents {
			t.Errorf("%d events are in the file, want each of %d once", n, replayedEvents)
		}
		if said, err := l.run(target, 0, nil, command...); err == nil || !strings.Contains(said, "this replay is complete") {
			t.Errorf("%s: %v\n%s", target, err, said)
		}
	}
}

// TestReplay_killedFromFile kills a replay of a file, and lets it continue.
func TestReplay_killedFromFile(t *testing.T) {
	ignoreEnvironment(t)
	l := newReplayLoad(t, replayedEvents)
	if said, err := l.run("file", 0, nil, "acsbridge", "replay", "--since=all", "--to="+l.to("file")); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, target := range []string{"subject", "url"} {
		command := []string{"acsbridge", "replay", "--from=" + l.to("file"), "--to=" + l.to(target), "--checkpoint=" + filepath.Join(t.TempDir(), "checkpoint")}
		l.run(target, 1500, syscall.SIGKILL, append(command, replayedPace)...)
		if said, err := l.run(target, 0, nil, command...); err != nil || !strings.Contains(said, "continues at seq:") {
			t.Fatalf("%s: %v\n%s", target, err, said)
		}
		l.compare(target)
	}
}

// TestReplay_interrupted presses Ctrl-C, and runs the command that is
// printed then.
func TestReplay_interrupted(t *testing.T) {
	ignoreEnvironment(t)
	l := newReplayLoad(t, replayedEvents)
	for _, target := range replayTargets {
		said, err := l.run(target, 1000, os.Interrupt, "acsbridge", "replay", "--since", "all", "--to="+l.to(target), replayedPace)
		if err == nil {
			t.Fatalf("%s: no error\n%s", target, said)
		}
		before := len(l.arrived(target))
		_, rest, _ := strings.Cut(said, "it continues with\n  ")
		command, _, _ := strings.Cut(rest, "\n")
		if said, err := l.run(target, 0, nil, "sh", "-c", command); err != nil {
			t.Fatalf("%s: %s\n%v\n%s", target, command, err, said)
		}
		l.compare(target)
		if got := len(l.arrived(target)); got != replayedEvents || before == replayedEvents {
			t.Errorf("%s: %d events, then %d of %d", target, before, got, replayedEvents)
		}
	}
}

// TestReplay_checkpointBehindFile kills a replay that writes little, so that
// nothing is written before a flush.
func TestReplay_checkpointBehindFile(t *testing.T) {
	ignoreEnvironment(t)
	l := newReplayLoad(t, 200)
	path := filepath.Join(t.TempDir(), "checkpoint")
	process := exec.CommandContext(t.Context(), "acsbridge", "replay", "--since=all", "--pace=50/s", "--to="+l.to("file"), "--checkpoint="+path)
	process.Env = append(os.Environ(), "NATS_URL="+l.nats.URL())
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	var c resend.Checkpoint
	natstest.Until(t, func() bool {
		text, err := os.ReadFile(path)
		return err == nil && json.Unmarshal(text, &c) == nil && c.Next > 10
	})
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait() // killed
	if n := len(l.arrived("file")); n < c.Before || c.Next != uint64(c.Before)+1 {
		t.Errorf("%d events are in the file, and the checkpoint says %+v", n, c)
	}
}

// TestReplay_intoLive publishes into the stream that it reads, and must not follow
// its own copies.
func TestReplay_intoLive(t *testing.T) {
	ignoreEnvironment(t)
	l := newReplayLoad(t, 3000) // several requests
	if said, err := l.run("subject", 0, nil, "acsbridge", "replay", "--since=all", "--until=seq:100000", "--into-live", "--yes"); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if n := len(l.nats.Messages(schemas.Stream)); n != 6000 {
		t.Errorf("%d events in the stream, want 6000", n)
	}
}

// TestReplay_overlap has a stream with subjects that no one would
// expect; not even one copy comes among its events.
func TestReplay_overlap(t *testing.T) {
	ignoreEnvironment(t)
	l := newReplayLoad(t, 5)
	js := l.nats.JetStream()
	config := jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{"acs.>", "else.*.*.>"}, AllowDirect: true, Duplicates: 100 * time.Millisecond}
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	said, err := l.run("subject", 0, nil, "acsbridge", "replay", "--since=all", "--to=subject:else.where")
	if err == nil || !strings.Contains(said, "stream ACS has else.*.*.>, so it would store the copies among the events") {
		t.Errorf("%v\n%s", err, said)
	}
	if n := len(l.nats.Messages(schemas.Stream)); n != 5 {
		t.Errorf("%d events in the stream, want 5", n)
	}
}

// TestReplay_outage stops NATS in the middle of a replay.
func TestReplay_outage(t *testing.T) {
	ignoreEnvironment(t)
	l := newReplayLoad(t, replayedEvents)
	process := exec.CommandContext(t.Context(), "acsbridge", "replay", "--since=all", replayedPace)
	process.Env = append(os.Environ(), "NATS_URL="+l.nats.URL())
	var said bytes.Buffer
	process.Stderr = &said
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	natstest.Until(t, func() bool { return l.count("subject") >= 2000 })
	l.nats.Restart()
	if err := process.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	l.compare("subject")
}

// TestReplay_commandLine leaves nothing for the shell to expand.
func TestReplay_commandLine(t *testing.T) {
	args := withoutFlags([]string{"replay", "--since", "1h", "--until=2h", "--append", "--to=file:a b", "--limit", "7", "--call=it's"},
		"--since", "--until", "--limit", "--append")
	got := commandLine(args)
	want := `acsbridge replay '--to=file:a b' '--call=it'\''s'`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
