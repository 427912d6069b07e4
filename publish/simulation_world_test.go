package publish_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acsbridge/acsbridge/internal/fakenats"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/publish"
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
