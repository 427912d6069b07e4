package main

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// leaveBehind returns a load whose bridge has ended while NATS was away, with so many
// callbacks answered 200 since that its journal alone has them.
func leaveBehind(t *testing.T, answers int) *restartLoad {
	t.Helper()
	ignoreEnvironment(t)
	l := newRestartLoad(t)
	bridge := l.start()
	l.nats.Stop()
	sending, stop := context.WithCancel(t.Context())
	var senders sync.WaitGroup
	for n := range restartSenders {
		senders.Go(func() { l.send(sending, n) })
	}
	l.awaitAnswers(answers)
	stop()
	senders.Wait()
	bridge.stop(syscall.SIGTERM)
	return l
}

// drain returns the command for the directory of the load.
func (l *restartLoad) drain(url string, args ...string) (cmd *exec.Cmd, out *bytes.Buffer) {
	ctx, cancel := context.WithTimeout(l.t.Context(), processAtMost)
	l.t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, "acsbridge", append([]string{"drain", "--data-dir=" + l.data, "--nats-url=" + url}, args...)...)
	out = new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

// finish runs the command to its end, and checks its exit status and what it prints.
func finish(t *testing.T, cmd *exec.Cmd, out *bytes.Buffer, status int, texts ...string) {
	t.Helper()
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != status {
		t.Errorf("exit status %d, want %d\n%s", got, status, out)
	}
	for _, text := range texts {
		if !strings.Contains(out.String(), text) {
			t.Errorf("it does not print %q:\n%s", text, out)
		}
	}
}

// TestDrain_killed kills a drain in the middle, interrupts the next one, and lets a third
// one end: the stream has every event once.
func TestDrain_killed(t *testing.T) {
	l := leaveBehind(t, 300)
	l.nats.Restart()
	slow := natstest.NewProxy(t, strings.TrimPrefix(l.nats.URL(), "nats://"))
	for i, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT} {
		slow.Shape(natstest.Conditions{Rate: 100 << 10}, natstest.Conditions{})
		cmd, out := l.drain(slow.URL())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		least := len(l.nats.Messages(schemas.Stream)) + 20
		l.nats.Await(schemas.Stream, least)
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		if i == 1 && (cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(out.String(), "run it again")) {
			t.Errorf("after Ctrl-C: %v, want status %d and what to do\n%s", err, exitFailed, out)
		}
	}
	if stored := len(l.nats.Messages(schemas.Stream)); stored >= len(l.answered) {
		t.Fatalf("all %d events were stored before the last drain, which proves nothing", stored)
	}
	cmd, out := l.drain(l.nats.URL())
	finish(t, cmd, out, 0, ", 0 to go")
	l.compare()
	cmd, out = l.drain(l.nats.URL())
	finish(t, cmd, out, 0, "0 records of 0 ")
}

// TestDrain_locked leaves the directory of a running bridge alone.
func TestDrain_locked(t *testing.T) {
	ignoreEnvironment(t)
	l := newRestartLoad(t)
	bridge := l.start()
	cmd, out := l.drain(l.nats.URL())
	finish(t, cmd, out, exitFailed, "in use by another acsbridge")
	bridge.stop(syscall.SIGTERM)
}

// TestDrain_deadLetters ends with a failure when events went to the dead-letter file: the
// directory must not be removed.
func TestDrain_deadLetters(t *testing.T) {
	l := leaveBehind(t, 8)
	l.nats.Restrict(func(o *server.Options) { o.MaxPayload = 1024 })
	l.nats.Restart()
	file := filepath.Join(l.data, "dead-letters.ndjson")
	for range 2 { // and again, with nothing to do
		cmd, out := l.drain(l.nats.URL())
		finish(t, cmd, out, exitFailed, ", 0 to go", file)
	}
	if letters := strings.Count(bridgetest.ReadFile(t, file), "\n"); letters < 8 {
		t.Errorf("%d dead letters, want those of 8 callbacks at least", letters)
	}
}

// TestDrain_fails names why nothing reaches the stream, and what is wrong with the
// command line.
func TestDrain_fails(t *testing.T) {
	l := leaveBehind(t, 8)
	cmd, out := l.drain(l.nats.URL(), "--give-up=1s")
	finish(t, cmd, out, exitFailed, "none reached the stream for 1s", "disconnected")
	cmd, out = l.drain(l.nats.URL(), "--data-dir="+t.TempDir())
	finish(t, cmd, out, exitFailed, "has no journal")
	cmd, out = l.drain("")
	finish(t, cmd, out, exitUsage, "nats-url", "start serve instead")
	cmd, out = l.drain(l.nats.URL(), "--stream=a.b", "--stream-replicas=9")
	finish(t, cmd, out, exitUsage, "stream (", "stream-replicas (")
}
