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
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/schemas"
)

// replicaVariable has the settings of a replica that is a process of its own.
const replicaVariable = "CONSUME_TEST_REPLICA"

// replicaSettings are those of a process.
type replicaSettings struct {
	URL     string
	Effects string // file
	Log     string // file
}

// faultLease is the lease of the suite: the shortest.
const faultLease = 3 * time.Second

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
	nc, err := nats.Connect(s.URL, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.RetryOnFailedConnect(true))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1) // the test has ended
	}()
	w := &worker{effects}
	for {
		err = consume.Run(ctx, nc, consume.Service[tally]{
			Name: "faults", Handle: w.handle, Lease: faultLease, Concurrency: 16, HandleTimeout: 2 * time.Second,
			FirstRetry: 200 * time.Millisecond, LastRetry: time.Second, HandleStale: true,
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
//	permanent     it can never be handled
//	slow 300ms    the handler takes so long
//	expect 2s     a wait for RecognizeCompleted begins
type worker struct{ effects *os.File }

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
		event = "timeout"
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
		w.note("end", call, event)
		return consume.Permanent(errors.New("can never be handled"))
	case "slow":
		took, _ = time.ParseDuration(value)
	case "expect":
		timeout, _ := time.ParseDuration(value)
		call.Expect(timeout, "RecognizeCompleted")
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
