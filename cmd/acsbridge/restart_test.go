package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

const (
	// restartSenders are the calls that are in progress at a time.
	restartSenders = 8
	// restartAnswers are the callbacks answered 200 before a bridge is stopped
	// and after the last one was started.
	restartAnswers = 150
	// processAtMost bounds the life of a bridge: one that does not stop is
	// killed, and its exit status says so.
	processAtMost = time.Minute
)

// TestServe_answeredMeansStored stops a bridge under load, gently and not, and starts
// another one on its data directory. Whatever was answered 200 must be in the
// stream once and as it was sent; what was not answered is sent again, as ACS
// does, and must not be there twice.
func TestServe_answeredMeansStored(t *testing.T) {
	for _, test := range []struct {
		name   string
		signal syscall.Signal
		rounds int
		outage bool // of NATS, so that the journal alone has the last events
	}{
		{"terminated", syscall.SIGTERM, 1, false},
		{"terminated without NATS", syscall.SIGTERM, 1, true},
		{"killed", syscall.SIGKILL, 3, false},
		{"killed without NATS", syscall.SIGKILL, 1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			ignoreEnvironment(t)
			l := newRestartLoad(t)
			bridge := l.start()
			sending, stop := context.WithCancel(t.Context())
			var senders sync.WaitGroup
			for n := range restartSenders {
				senders.Go(func() { l.send(sending, n) })
			}
			for range test.rounds {
				if test.outage {
					l.nats.Stop()
				}
				l.awaitAnswers(restartAnswers)
				bridge.stop(test.signal)
				if test.outage {
					l.nats.Restart()
				}
				bridge = l.start()
			}
			l.awaitAnswers(restartAnswers)
			stop()
			senders.Wait()
			natstest.Until(t, func() bool { return strings.Contains(ask(bridge.admin+"/readyz"), " 0 not in the stream") })
			bridge.stop(syscall.SIGTERM)
			l.compare()
		})
	}
}

// restartLoad is a load that outlives its bridges.
type restartLoad struct {
	t      *testing.T
	nats   *natstest.Server
	issuer *acstest.Issuer
	data   string // directory that the bridges have one after another

	mu       sync.Mutex
	bridge   *bridgeProcess    // the latest
	started  chan struct{}     // closed when there is a later one
	sent     map[string][]byte // payloads by message id
	answered map[string]bool   // message ids of the callbacks answered 200
}

func newRestartLoad(t *testing.T) *restartLoad {
	return &restartLoad{
		t: t, nats: natstest.Start(t), issuer: newIssuer(t), data: t.TempDir(),
		started: make(chan struct{}), sent: make(map[string][]byte), answered: make(map[string]bool),
	}
}

// start starts a bridge, and turns the senders to it when it is ready. It
// answers without a wait for the stream, so that what is answered may be in the
// journal alone.
func (l *restartLoad) start() *bridgeProcess {
	l.t.Helper()
	b := startServe(l.t, append(trust(l.issuer), "--nats-url="+l.nats.URL(), "--data-dir="+l.data, "--ack-wait=0s")...)
	// A connection pool for each sender: senders that shared one would open
	// connections in vain, which net/http gives five seconds when it stops.
	for range restartSenders {
		caller, err := acstest.NewCaller(acstest.CallerOptions{Target: b.callbacks, Signer: l.issuer, Attempts: 1})
		if err != nil {
			l.t.Fatal(err)
		}
		l.t.Cleanup(caller.Close)
		b.callers = append(b.callers, caller)
	}
	natstest.Until(l.t, func() bool { return strings.HasPrefix(ask(b.admin+"/readyz"), "200") })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bridge = b
	close(l.started)
	l.started = make(chan struct{})
	return b
}

// send posts one event after another, as sender n, until ctx ends. An event
// that is not answered 200 is sent again to the next bridge.
func (l *restartLoad) send(ctx context.Context, n int) {
	call := acstest.NewCall()
	for ctx.Err() == nil {
		event, ok := l.newEvent(call)
		if !ok {
			return
		}
		for {
			bridge, stored := l.deliver(ctx, n, call.Callback(event))
			if stored || !l.awaitNext(ctx, bridge) {
				break
			}
		}
	}
}

// newEvent makes an event that is going to be sent, and notes it.
func (l *restartLoad) newEvent(call *acstest.SimCall) (event acstest.WireEvent, ok bool) {
	event, err := call.NewEvent("PlayCompleted")
	if err != nil {
		l.t.Error(err)
		return event, false
	}
	payload, err := json.Marshal(event)
	if err != nil {
		l.t.Error(err)
		return event, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent[event.MsgID()] = payload
	return event, true
}

// deliver posts to the latest bridge, and returns it and whether it answered
// 200.
func (l *restartLoad) deliver(ctx context.Context, n int, d acstest.Callback) (bridge *bridgeProcess, stored bool) {
	l.mu.Lock()
	bridge = l.bridge
	l.mu.Unlock()
	a := bridge.callers[n].Send(ctx, d)
	switch a.Status {
	case http.StatusOK:
		l.mu.Lock()
		defer l.mu.Unlock()
		l.answered[d.Events[0].MsgID()] = true
		return bridge, true
	case 0, http.StatusServiceUnavailable: // it is stopping, or gone
	default:
		l.t.Errorf("a good callback was answered %d", a.Status)
	}
	return bridge, false
}

// awaitNext waits for a bridge after the given one and reports false when ctx
// ended first.
func (l *restartLoad) awaitNext(ctx context.Context, bridge *bridgeProcess) bool {
	l.mu.Lock()
	latest, started := l.bridge, l.started
	l.mu.Unlock()
	if latest != bridge {
		return true
	}
	select {
	case <-started:
		return true
	case <-ctx.Done():
		return false
	}
}

// awaitAnswers waits for so many answers 200 more.
func (l *restartLoad) awaitAnswers(more int) {
	l.t.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.answered)
	}
	want := count() + more
	natstest.Until(l.t, func() bool { return count() >= want })
}

// compare holds the stream against what was sent and answered.
func (l *restartLoad) compare() {
	stored := make(map[string]int)
	for _, m := range l.nats.Messages(schemas.Stream) {
		id := m.Header.Get(schemas.HeaderMsgID)
		stored[id]++
		if !bytes.Equal(m.Data, l.sent[id]) {
			l.t.Errorf("%s is not stored as it was sent", id)
		}
		if stored[id] == 2 {
			l.t.Errorf("%s is stored twice", id)
		}
	}
	for id := range l.answered {
		if stored[id] == 0 {
			l.t.Errorf("%s was answered 200 and is lost", id)
		}
	}
	l.t.Logf("%d sent, %d answered 200, %d stored", len(l.sent), len(l.answered), len(stored))
}

// bridgeProcess is serve as a process of its own.
type bridgeProcess struct {
	t                *testing.T
	cmd              *exec.Cmd
	callbacks, admin string // URLs
	said             chan string
	callers          []*acstest.Caller // one a sender
}

// startServe starts serve at any ports, unless args name one, and waits until it says
// where it listens.
func startServe(t *testing.T, args ...string) *bridgeProcess {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), processAtMost)
	t.Cleanup(cancel)
	b := &bridgeProcess{t: t, cmd: exec.CommandContext(ctx, "acsbridge", append([]string{"serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json"}, args...)...), said: make(chan string, 1)}
	output, err := b.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var before strings.Builder
	for lines := bufio.NewScanner(output); lines.Scan(); {
		fmt.Fprintln(&before, lines.Text())
		var entry struct{ Callbacks, Admin string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Callbacks != "" {
			b.callbacks, b.admin = entry.Callbacks, entry.Admin
			go b.listen(output)
			return b
		}
	}
	t.Fatalf("serve did not start: %v\n%s", b.cmd.Wait(), before.String())
	return nil
}

// listen keeps what the process still says.
func (b *bridgeProcess) listen(output io.Reader) {
	text, _ := io.ReadAll(output) // an error is the end as well
	b.said <- string(text)
}

// stop sends a signal and checks how the process ended: killed, or with status
// 0 of its own accord.
func (b *bridgeProcess) stop(signal syscall.Signal) {
	b.t.Helper()
	if err := b.cmd.Process.Signal(signal); err != nil {
		b.t.Error(err)
	}
	said := <-b.said
	err := b.cmd.Wait()
	status, _ := b.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if killed := status.Signaled() && status.Signal() == syscall.SIGKILL; killed != (signal == syscall.SIGKILL) || !killed && err != nil {
		b.t.Fatalf("after the signal %q: %v\n%s", signal, err, said)
	}
}
