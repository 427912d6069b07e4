package publish_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acsbridge/acsbridge/internal/fakenats"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// world is a plan that is being played.
type world struct {
	t       *testing.T
	plan    *plan
	history *history
	server  *fakenats.Server
	space   string
	senders sync.WaitGroup
	closers sync.WaitGroup // of bridges that crashed

	mu      sync.Mutex
	dir     string // the data directory
	running *instance
	started chan struct{} // closed and replaced when a bridge has started
	opened  int
}

// instance is one run of the bridge.
type instance struct {
	*publish.Publisher
	link   *natsconn.Link
	client *fakenats.Client
	cancel context.CancelFunc
	done   chan struct{} // Run has returned
	// crashed: its answers are lost from now on.
	crashed atomic.Bool
}

func newWorld(t *testing.T, p *plan, space string) *world {
	w := &world{t: t, plan: p, space: space, dir: filepath.Join(space, "0"), started: make(chan struct{})}
	w.history = newHistory()
	w.server = fakenats.New(fakenats.Options{Fate: w.fate, Trace: w.history.trace, MaxBatch: 7})
	return w
}

// open starts a bridge on the data directory.
func (w *world) open() {
	w.opened++
	name := fmt.Sprint("bridge ", w.opened)
	i := &instance{client: w.server.Client(name), done: make(chan struct{})}
	opts := w.plan.options
	opts.Dir = w.dir
	opts.Logger = slog.New(slog.NewTextHandler(w.history, &slog.HandlerOptions{Level: slog.LevelWarn})).With("by", name)
	var err error
	if i.link, err = natsconn.Connect(natsconn.Config{InProcess: i.client}, opts.Logger); err != nil {
		w.t.Fatal(err)
	}
	opts.Link, opts.InsecureLimits = i.link, true
	if i.Publisher, err = publish.Open(opts); err != nil {
		i.link.Close()
		w.t.Fatal(err)
	}
	var ctx context.Context
	ctx, i.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(i.done)
		i.Run(ctx)
	}()
	w.history.note("%s starts", name)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = i
	close(w.started)
	w.started = make(chan struct{})
}

// up reports whether a bridge runs.
func (w *world) up() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running != nil
}

// bridge returns the one that runs, once there is one.
func (w *world) bridge() *instance {
	for {
		w.mu.Lock()
		i, started := w.running, w.started
		w.mu.Unlock()
		if i != nil {
			return i
		}
		<-started
	}
}

// stop ends the bridge as SIGTERM does, in the middle of what it does.
func (w *world) stop() {
	w.mu.Lock()
	i := w.running
	w.running = nil
	w.mu.Unlock()
	w.history.note("the bridge stops")
	i.close(w.t)
}

func (i *instance) close(t *testing.T) {
	i.cancel()
	<-i.done
	if err := i.Close(); err != nil {
		t.Error(err)
	}
	i.link.Close()
}

// crash ends the bridge as SIGKILL does. What it has written stays: the next
// one gets a copy, made in an instant, of the directory as it is. The old one
// goes on for a while, cut off, and its answers are lost.
func (w *world) crash(f *fault) {
	synctest.Wait()
	w.mu.Lock()
	i := w.running
	w.running = nil
	w.mu.Unlock()
	i.crashed.Store(true)
	i.client.Sever(f.keeps)
	next := filepath.Join(w.space, fmt.Sprint(w.opened))
	if err := os.CopyFS(next, os.DirFS(w.dir)); err != nil {
		w.t.Error(err)
	}
	w.dir = next
	w.history.note("the bridge crashes")
	w.closers.Go(func() { i.close(w.t) })
}

// inject lets the plan's faults begin and end in their time.
func (w *world) inject() {
	type turn struct {
		at time.Duration
		do func()
	}
	var turns []turn
	for _, f := range w.plan.faults {
		turns = append(turns, turn{f.at, func() { w.begin(f) }}, turn{f.until, func() { w.end(f) }})
	}
	slices.SortStableFunc(turns, func(a, b turn) int { return int(a.at - b.at) })
	begin := time.Now()
	for _, turn := range turns {
		time.Sleep(time.Until(begin.Add(turn.at)))
		turn.do()
	}
}

func (w *world) begin(f *fault) {
	w.history.note("begin: %s", f.kind)
	switch f.kind {
	case breaks:
		w.server.Break(f.keeps, f.in, f.out)
	case down:
		w.server.Refuse(true)
		w.server.Break(f.keeps, 0, 0)
	case stalls:
		w.server.Stall()
	case forgets:
		// The bridge leaves half a window for clocks that differ.
		w.server.ForgetAfter(w.plan.window * 3 / 4)
	case restart:
		if w.up() {
			w.stop()
		}
	case crash:
		if w.up() {
			w.crash(f)
		}
	case power:
		if w.up() {
			w.crash(f)
		}
		w.server.Refuse(true)
		w.server.Break(false, 0, 0)
		w.server.Lose(time.Duration(f.share * float64(syncInterval)))
	default:
		f.active.Store(true)
	}
}

func (w *world) end(f *fault) {
	w.history.note("end: %s", f.kind)
	switch f.kind {
	case breaks:
	case down:
		w.server.Refuse(false)
	case stalls:
		w.server.Resume(f.keeps)
	case forgets:
		w.server.ForgetAfter(0)
	case restart, crash, power:
		if f.kind == power {
			w.server.Refuse(false)
		}
		if !w.up() {
			w.open()
		}
	default:
		f.active.Store(false)
	}
}

// outcome of an attempt, as the sender knows it.
type outcome string

const (
	answered outcome = "answered: it is durable"
	failed   outcome = "answered: unavailable"
	unknown  outcome = "not answered"
	omitted  outcome = "not sent"
)

// maxAttempts is how often a sender sends a callback that is not answered.
const maxAttempts = 4

// send is the sender of one call: it publishes one callback after another, and
// those that fail again, as often as it may.
func (w *world) send(c *call, dice *rand.Rand) {
	for i := range c.callbacks {
		cb := &c.callbacks[i]
		time.Sleep(cb.pause)
		for range maxAttempts {
			result := w.attempt(c, cb, dice)
			if result == answered || result == omitted {
				break
			}
			time.Sleep(spread(dice, 100*time.Millisecond, 2*time.Second))
		}
	}
}

// attempt publishes a callback once.
func (w *world) attempt(c *call, cb *callback, dice *rand.Rand) outcome {
	ctx := context.Background()
	if dice.IntN(8) == 0 { // a sender that disconnects
		short, cancel := context.WithTimeout(ctx, spread(dice, 0, 300*time.Millisecond))
		defer cancel()
		ctx = short
	}
	d := delivery()
	if dice.IntN(2) == 0 {
		d.Path = "tenant-7"
	}
	i := w.bridge()
	var err error
	var done func(outcome)
	if cb.quarantine != "" {
		if !w.mayRepeat(cb.quarantine) {
			return omitted
		}
		done = w.history.quarantine(cb.quarantine)
		err = i.Quarantine(ctx, claims(w.t), d, "not_json", "application/json", []byte(cb.quarantine))
	} else {
		var events []schemas.Inbound
		for _, n := range cb.events {
			if e := simulated(c.name, n); w.mayRepeat(e.MsgID()) {
				events = append(events, e)
			}
		}
		if len(events) == 0 {
			return omitted
		}
		done = w.history.publish(c.name, d, events)
		err = i.Publish(ctx, claims(w.t), d, events)
	}
	result := answered
	switch {
	case i.crashed.Load(), err != nil && ctx.Err() != nil:
		result = unknown
	case errors.Is(err, publish.ErrUnavailable):
		result = failed
	case err != nil:
		w.t.Errorf("publish: %v", err)
	}
	done(result)
	return result
}

// mayRepeat reports whether something is new, or was published so lately that
// it must be stored once although it is published again. It waits half a window
// at most without a look at the stream, see simulatedWindow.
func (w *world) mayRepeat(id string) bool {
	first := w.history.firstTry(id)
	return first.IsZero() || w.plan.repeats && time.Since(first) <= w.plan.window/4
}

// simulated returns the n-th event of a call, always the same.
func simulated(call string, n int) schemas.Inbound {
	dice := rand.New(rand.NewPCG(uint64(n), uint64(len(call))))
	e := event(call, n)
	if call == "" {
		e.ID = fmt.Sprint("none-", n)
	}
	types := []string{"CallConnected", "PlayCompleted", "ParticipantsUpdated"}
	e.Type = schemas.TypePrefix + types[dice.IntN(len(types))]
	if dice.IntN(2) == 0 {
		e.Time = "2026-03-01T12:00:00Z"
	}
	e.Raw = fmt.Appendf(nil, `{"id":%q,"data":%q}`, e.ID, strings.Repeat("x", dice.IntN(600)))
	return e
}
