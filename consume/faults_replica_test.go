//go:build linux && faults

package consume_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestMain is also the process of a replica in the fault suite.
func TestMain(m *testing.M) {
	if settings := os.Getenv(replicaVariable); settings != "" {
		if err := runReplica(settings); err != nil {
			fmt.Fprintln(os.Stderr, "replica:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// replicaVariable has the settings of a replica that is a process of its own.
const replicaVariable = "CONSUME_TEST_REPLICA"

// replicaSettings are those of a process.
type replicaSettings struct {
	URL     string
	Effects string // file
	Log     string // file
	Mended  string // directory
	Ping    time.Duration
}

// Settings of the service.
const (
	faultLease         = 3 * time.Second // the shortest
	faultHandleTimeout = 2 * time.Second
	faultLastRetry     = time.Second
)

// effect is one line of the log of effects, which is outside of all replicas.
type effect struct {
	At      int64  `json:"at"` // Unix time in nanoseconds
	PID     int    `json:"pid"`
	Kind    string `json:"kind"` // begin, end, failed, cut
	Call    string `json:"call"`
	Event   string `json:"event"`
	ID      string `json:"id"` // EffectID
	Attempt int    `json:"attempt"`
}

// runReplica is a replica of the service of the fault suite. It ends with its standard
// input, or at SIGTERM.
func runReplica(settings string) error {
	var s replicaSettings
	if err := json.Unmarshal([]byte(settings), &s); err != nil {
		return err
	}
	effects, err := os.OpenFile(s.Effects, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	nc, err := nats.Connect(s.URL, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.RetryOnFailedConnect(true),
		nats.PingInterval(s.Ping), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1) // the test has ended
	}()
	w := &worker{effects, s.Mended}
	for {
		err = consume.Run(ctx, nc, consume.Service[tally]{
			Name: "faults", Handle: w.handle, Lease: faultLease, Concurrency: 16, HandleTimeout: faultHandleTimeout,
			FirstRetry: 200 * time.Millisecond, LastRetry: faultLastRetry, HandleStale: true,
			Logger: slog.New(slog.NewTextHandler(log, nil)).With("pid", os.Getpid()),
		})
		if err == nil || errors.Is(err, nats.ErrConnectionClosed) {
			return err
		}
		fmt.Fprintln(log, "start:", err) // NATS is away
		time.Sleep(200 * time.Millisecond)
	}
}

// worker has the handler of the suite. What an event asks for is its operationContext:
//
//	fail 2        the first two attempts fail
//	permanent     it can never be handled, unless it is among the mended ones
//	slow 300ms    the handler takes so long
//	deaf 2500ms   the same, and it does not end with its context
//	expect 2s     a wait for RecognizeCompleted begins
type worker struct {
	effects *os.File
	mended  string
}

func (w *worker) note(kind string, call *consume.Call[tally], event string) {
	line, err := json.Marshal(effect{time.Now().UnixNano(), os.Getpid(), kind, call.ID, event, call.EffectID("effect"), call.Attempt})
	if err != nil {
		panic(err)
	}
	if _, err := w.effects.Write(append(line, '\n')); err != nil { // one write: it is there also when the process is killed
		panic(err)
	}
}

func (w *worker) handle(ctx context.Context, call *consume.Call[tally], m *schemas.Message) error {
	event := m.Event.ID
	if m.Event.Type == consume.TimeoutType {
		event = timeoutEvent
	}
	w.note("begin", call, event)
	verb, value, _ := strings.Cut(m.Event.OperationContext(), " ")
	var took time.Duration
	switch verb {
	case "fail":
		if fmt.Sprint(call.Attempt) <= value {
			w.note("failed", call, event)
			return errors.New("fails as asked")
		}
	case "permanent":
		if _, err := os.Stat(filepath.Join(w.mended, call.ID+"."+event)); err != nil {
			w.note("end", call, event)
			return consume.Permanent(errors.New("can never be handled"))
		}
	case "slow", "deaf":
		took, _ = time.ParseDuration(value)
	case "expect":
		timeout, _ := time.ParseDuration(value)
		call.Expect(timeout, "RecognizeCompleted")
	}
	if verb == "deaf" {
		ctx = context.WithoutCancel(ctx)
	}
	select {
	case <-time.After(took):
	case <-ctx.Done():
		w.note("cut", call, event)
		return ctx.Err()
	}
	call.State.Events = append(call.State.Events, event)
	w.note("end", call, event)
	return nil
}

// timeoutEvent stands for the event of a wait that has timed out.
const timeoutEvent = "timeout"
