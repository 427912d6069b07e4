//go:build linux && faults

package consume_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
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
	faultKills = flag.Int("consume.kills", 0, "how often a world of the fault suite kills a replica; 0 is once with each fault")
	faultSeed  = flag.Uint64("consume.seed", 0, "of the fault suite's decisions; 0 picks one")
)

// TestFaults runs three to five replicas as processes, with one NATS server and with
// three, while events come of which some fail, take long, come twice, or are waited for.
// The faults are those of faultKinds; during each of them a replica is killed. Then all
// effects must be as the oracle says. The long form:
//
//	go test -tags faults ./consume -run 'TestFaults$' -consume.kills 100 -timeout 30m -v
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{1, 3} {
		t.Run(fmt.Sprint("nodes=", nodes), func(t *testing.T) {
			t.Parallel()
			w := newFaultWorld(t, nodes, "")
			round := w.kinds(true)
			for i := range max(*faultKills, len(round)) {
				if i >= len(round) && i%len(round) == 0 {
					round = w.kinds(i/len(round)%4 == 0)
					w.dice.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
				}
				w.inject(round[i%len(round)])
			}
			for _, violation := range w.finish(90 * time.Second) {
				t.Error(violation)
			}
		})
	}
}

// TestFaults_broken runs the suite on a package that lacks one of its guards. The suite
// must find that:
//
//	fence   saves are not compared, and a lease that has ended does not matter
//	ack     an event is acknowledged before it is saved
//	order   an event that failed is tried again after those that follow it
//	waits   a new owner does not know the waits
//	reset   a new owner goes on behind what the consumer has delivered
func TestFaults_broken(t *testing.T) {
	t.Parallel()
	for guard, kind := range map[string]faultKind{
		"fence": standStill, "ack": dies, "order": dies, "waits": dies, "reset": dies,
	} {
		t.Run(guard, func(t *testing.T) {
			t.Parallel()
			w := newFaultWorld(t, 1, guard)
			var violations []string
			for range 5 {
				if w.inject(kind); len(violations) == 0 {
					violations = w.oracle.check(w.effects())
				}
				if len(violations) > 0 {
					break
				}
			}
			if len(violations) == 0 {
				violations = w.finish(15 * time.Second)
			} else {
				w.endSending()
			}
			if len(violations) == 0 {
				t.Fatal("the suite has found nothing")
			}
			t.Logf("%d violations; the first one: %s", len(violations), violations[0])
		})
	}
}

// faultWorld is NATS, the replicas, and what was sent.
type faultWorld struct {
	t        *testing.T
	dice     *rand.Rand
	nats     *cluster
	js       jetstream.JetStream
	settings replicaSettings
	broken   string
	replicas []*process
	oracle   *oracle

	log     io.ReadSeeker // of effects
	read    []effect
	purged  uint64 // the stream has removed all before it
	sending sync.WaitGroup
	stop    chan struct{}
}

func newFaultWorld(t *testing.T, nodes int, broken string) *faultWorld {
	seed := *faultSeed
	if seed == 0 {
		seed = rand.Uint64()>>1 | 1
	}
	t.Logf("-consume.seed=%d", seed)
	dir := t.TempDir()
	w := &faultWorld{
		t: t, dice: rand.New(rand.NewPCG(seed, 0)), nats: newCluster(t, nodes), broken: broken, stop: make(chan struct{}), oracle: newOracle(),
		settings: replicaSettings{Effects: filepath.Join(dir, "effects"), Log: filepath.Join(dir, "log"), Mended: dir},
	}
	var err error
	if w.js, err = jetstream.New(connect(t, w.nats.urls())); err != nil {
		t.Fatal(err)
	}
	// A short duplicate window: repeated events are stored twice.
	w.nats.createStream(w.js, jetstream.StreamConfig{
		Name: schemas.Stream, Subjects: []string{"acs.>"}, AllowDirect: true, Duplicates: 100 * time.Millisecond,
	})
	log, err := os.OpenFile(w.settings.Effects, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	w.log = log
	t.Cleanup(func() {
		for _, p := range w.replicas {
			p.end()
		}
		log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(w.settings.Log)
			t.Logf("log of the replicas:\n%s", text[max(len(text)-30_000, 0):])
		}
	})
	for range 3 {
		w.replicas = append(w.replicas, w.launch())
	}
	ready(t, w.js, "faults")
	dice := rand.New(rand.NewPCG(seed, 1))
	w.sending.Go(func() { w.send(dice) })
	return w
}

// process is one replica.
type process struct {
	cmd     *exec.Cmd
	stdin   *os.File
	proxies []*natstest.Proxy // between it and the NATS servers
}

// launch starts a replica.
func (w *faultWorld) launch() *process {
	p := new(process)
	of := w.settings
	of.Ping = []time.Duration{time.Second, 2 * time.Minute}[w.dice.IntN(2)]
	var urls []string
	for _, s := range w.nats.servers {
		proxy := natstest.NewProxy(w.t, strings.TrimPrefix(s.URL(), "nats://"))
		p.proxies, urls = append(p.proxies, proxy), append(urls, proxy.URL())
	}
	of.URL = strings.Join(urls, ",")
	settings, err := json.Marshal(of)
	if err != nil {
		w.t.Fatal(err)
	}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), replicaVariable+"="+string(settings))
	if w.broken != "" {
		p.cmd.Env = append(p.cmd.Env, "ACSBRIDGE_BROKEN="+w.broken)
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Stderr = os.Stderr
	read, write, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	p.cmd.Stdin, p.stdin = read, write
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	read.Close()
	return p
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// end kills the process. It may stand still.
func (p *process) end() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it was killed
	p.stdin.Close()
}

// terminate ends the process gently, and reports whether it did so.
func (p *process) terminate() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	defer p.stdin.Close()
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("replica %d ended with %w after SIGTERM", p.pid(), err)
	}
	return nil
}

// send stores the events of calls until stop, and then completes the calls that have
// begun.
func (w *faultWorld) send(dice *rand.Rand) {
	var open []*sentCall
	for n, stopped := 0, false; !stopped || len(open) > 0; {
		select {
		case <-w.stop:
			stopped = true
		case <-time.After(time.Duration(dice.IntN(16)) * time.Millisecond):
		}
		if !stopped && len(open) < 60 {
			open = append(open, w.oracle.newCall(fmt.Sprintf("call-%d", n), dice))
			n++
		}
		if len(open) == 0 {
			continue
		}
		i := dice.IntN(len(open))
		c := open[i]
		m := c.next()
		for {
			ack, err := w.js.PublishMsg(w.t.Context(), m)
			if err == nil {
				w.oracle.stored(c, ack.Sequence)
				break
			}
			if w.t.Context().Err() != nil {
				return
			}
			<-time.After(50 * time.Millisecond) // NATS is away; a stored copy may be there already
		}
		if c.sent == len(c.events) {
			open = slices.Delete(open, i, i+1)
		}
	}
}

func (w *faultWorld) endSending() {
	close(w.stop)
	w.sending.Wait()
}

// finish completes the calls, waits until all is handled, so long at most, and returns
// what is wrong.
func (w *faultWorld) finish(within time.Duration) (violations []string) {
	w.endSending()
	deadline := time.Now().Add(within)
	for len(w.oracle.missing(w.effects())) > 0 && time.Now().Before(deadline) {
		<-time.After(200 * time.Millisecond)
	}
	<-time.After(500 * time.Millisecond) // what should not happen may still come
	for _, p := range w.replicas {
		if err := p.terminate(); err != nil {
			violations = append(violations, err.Error())
		}
	}
	effects := w.effects()
	w.t.Logf("%d processes died, %d stood still, %d were cut off, NATS was disturbed %d times; %s",
		len(w.oracle.deaths), len(w.oracle.pauses), len(w.oracle.cuts), len(w.oracle.nats), w.oracle.summary(effects))
	return slices.Concat(violations, w.oracle.check(effects), w.oracle.missing(effects), w.states())
}

// effects returns the log of effects.
func (w *faultWorld) effects() []effect {
	text, err := io.ReadAll(w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var e effect
		if err := json.Unmarshal(line, &e); err != nil {
			w.t.Fatal(err)
		}
		w.read = append(w.read, e)
	}
	return w.read
}
