//go:build linux

package consume_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

var (
	faultKills = flag.Int("consume.kills", 4, "how often the fault suite kills a replica")
	faultSeed  = flag.Uint64("consume.seed", 0, "of the fault suite's decisions; 0 picks one")
)

// TestFaults runs three replicas as processes, kills them, lets one stand still and cuts
// one off for longer than their lease, and restarts NATS, while events come, some of which fail, take
// long, come twice, or are waited for. Then all effects must be as the oracle says. The
// long form:
//
//	go test ./consume -run TestFaults -consume.kills=100 -timeout 1h -v
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	w := newFaultWorld(t, 3, "")
	w.play(*faultKills)
	for _, violation := range w.finish(time.Minute) {
		t.Error(violation)
	}
}

// faultWorld is NATS, the replicas, and what was sent.
type faultWorld struct {
	t        *testing.T
	dice     *rand.Rand
	server   *natstest.Server
	js       jetstream.JetStream
	settings replicaSettings
	broken   string
	replicas []*process
	oracle   *oracle

	stop chan struct{}
	sent sync.WaitGroup
}

// process is one replica.
type process struct {
	cmd   *exec.Cmd
	stdin *os.File
	proxy *natstest.Proxy // between it and NATS
}

func newFaultWorld(t *testing.T, replicas int, broken string) *faultWorld {
	seed := *faultSeed
	if seed == 0 {
		seed = rand.Uint64()>>1 | 1
	}
	t.Logf("-consume.seed=%d", seed)
	dir := t.TempDir()
	server := natstest.Start(t)
	w := &faultWorld{
		t: t, dice: rand.New(rand.NewPCG(seed, 0)), server: server, js: server.JetStream(), broken: broken,
		settings: replicaSettings{Effects: filepath.Join(dir, "effects"), Log: filepath.Join(dir, "log")}, stop: make(chan struct{}),
		oracle: newOracle(),
	}
	// A short duplicate window: repeated events are stored twice.
	if _, err := w.js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: schemas.Stream, Subjects: []string{"acs.>"}, AllowDirect: true, Duplicates: 100 * time.Millisecond,
	}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.settings.Effects, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, p := range w.replicas {
			p.end()
		}
		if t.Failed() {
			log, _ := os.ReadFile(w.settings.Log)
			t.Logf("log of the replicas:\n%s", log[max(len(log)-30_000, 0):])
		}
	})
	for range replicas {
		w.replicas = append(w.replicas, w.launch())
	}
	ready(t, w.js, "faults")
	return w
}

// launch starts a replica.
func (w *faultWorld) launch() *process {
	proxy := natstest.NewProxy(w.t, strings.TrimPrefix(w.server.URL(), "nats://"))
	of := w.settings
	of.URL = proxy.URL()
	settings, err := json.Marshal(of)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), replicaVariable+"="+string(settings))
	if w.broken != "" {
		cmd.Env = append(cmd.Env, "ACSBRIDGE_BROKEN="+w.broken)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	read, write, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.Stdin = read
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	read.Close()
	return &process{cmd, write, proxy}
}

// end kills the process. It may stand still.
func (p *process) end() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it was killed
	p.stdin.Close()
}

// play sends events while replicas are killed so many times, and other faults happen in
// between.
func (w *faultWorld) play(kills int) {
	dice := rand.New(rand.NewPCG(w.dice.Uint64(), 1))
	w.sent.Go(func() { w.send(dice) })
	for i := range kills {
		w.rest(800*time.Millisecond, 2*time.Second)
		switch n := w.dice.IntN(len(w.replicas)); i % 4 {
		case 1:
			w.standStill(n)
		case 2:
			w.partition(n)
		case 3:
			w.server.Stop()
			w.rest(200*time.Millisecond, 2*time.Second)
			w.server.Restart()
		}
		w.kill(w.dice.IntN(len(w.replicas)))
	}
	w.rest(time.Second, 2*time.Second)
	close(w.stop)
	w.sent.Wait()
}

// rest lets time pass: the faults come at times of their own.
func (w *faultWorld) rest(least, most time.Duration) {
	<-time.After(least + time.Duration(w.dice.Int64N(int64(most-least))))
}

// kill kills a replica and starts another.
func (w *faultWorld) kill(n int) {
	p := w.replicas[n]
	p.end()
	w.oracle.died(p.cmd.Process.Pid, time.Now())
	w.replicas[n] = w.launch()
}

// standStill stops a replica for longer than its lease, and then lets it go on.
func (w *faultWorld) standStill(n int) {
	p := w.replicas[n].cmd.Process
	from := time.Now()
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		w.t.Fatal(err)
	}
	w.rest(faultLease+3*time.Second, faultLease+5*time.Second)
	if err := p.Signal(syscall.SIGCONT); err != nil {
		w.t.Fatal(err)
	}
	w.oracle.stoodStill(p.Pid, from, time.Now())
}

// partition holds what a replica sends and gets for longer than its lease. All of it
// arrives afterwards: saves under a lease that has ended, and acknowledgements.
func (w *faultWorld) partition(n int) {
	p := w.replicas[n].proxy
	p.Shape(natstest.Conditions{Held: true}, natstest.Conditions{Held: true})
	w.rest(faultLease+2*time.Second, faultLease+4*time.Second)
	p.Clear()
}

// contexts are what events ask of the handler; most ask for nothing.
var contexts = []string{"", "", "", "", "", "", "fail 1", "fail 2", "permanent", "slow 50ms", "slow 400ms"}

// send stores the events of calls until stop, and then completes the calls that have
// begun.
func (w *faultWorld) send(dice *rand.Rand) {
	js := natstest.JetStream(w.t, w.server.URL())
	var open []*sentCall
	for n, stopped := 0, false; !stopped || len(open) > 0; {
		select {
		case <-w.stop:
			stopped = true
		case <-time.After(time.Duration(dice.IntN(8)) * time.Millisecond):
		}
		if !stopped && len(open) < 60 {
			open = append(open, w.oracle.newCall(fmt.Sprintf("call-%d", n), dice))
			n++
		}
		i := dice.IntN(len(open))
		c := open[i]
		m := c.next()
		for ack, err := js.PublishMsg(w.t.Context(), m); ; ack, err = js.PublishMsg(w.t.Context(), m) {
			if err == nil {
				c.stored(ack.Sequence, time.Now())
				break
			}
			<-time.After(50 * time.Millisecond) // NATS is away; a stored copy may be there already
		}
		if c.complete() {
			open = append(open[:i], open[i+1:]...)
		}
	}
}

// finish waits until all is handled, so long at most, and returns what is wrong.
func (w *faultWorld) finish(within time.Duration) []string {
	deadline := time.Now().Add(within)
	for w.oracle.missing(w.effects()) > 0 && time.Now().Before(deadline) {
		<-time.After(100 * time.Millisecond)
	}
	<-time.After(500 * time.Millisecond) // what should not happen may still come
	for _, p := range w.replicas {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	var violations []string
	for _, p := range w.replicas {
		late := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
		if err := p.cmd.Wait(); err != nil {
			violations = append(violations, fmt.Sprintf("replica %d ended with %v after SIGTERM", p.cmd.Process.Pid, err))
		}
		late.Stop()
	}
	effects := w.effects()
	w.t.Logf("%d calls, %d effects, %d processes died, %d stood still", len(w.oracle.calls), len(effects), len(w.oracle.deaths), len(w.oracle.pauses))
	return slices.Concat(violations, w.oracle.check(effects), w.states())
}

// effects reads the log of effects.
func (w *faultWorld) effects() (list []effect) {
	file, err := os.Open(w.settings.Effects)
	if err != nil {
		w.t.Fatal(err)
	}
	defer file.Close()
	for d := json.NewDecoder(file); d.More(); {
		var e effect
		if err := d.Decode(&e); err != nil {
			w.t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}
