//go:build linux && faults

package consume_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// faultKind begins a fault, and returns how long it is to last, and what ends it.
type faultKind func(w *faultWorld) (lasts time.Duration, end func())

// kinds returns the faults of a round, in the order of the first one. Retention is not in
// each: what it may have taken is not checked.
func (w *faultWorld) kinds(retention bool) []faultKind {
	first := dies
	if retention {
		first = removes
	}
	list := []faultKind{first, joins, standStill, partition, dies, restart, terminates, redrive, leaves}
	if len(w.nats.servers) > 1 {
		list = append(list, stepDown, isolate)
	}
	return list
}

// inject lets a fault happen, and kills a replica in the middle of it.
func (w *faultWorld) inject(kind faultKind) {
	w.rest(600*time.Millisecond, 1500*time.Millisecond)
	lasts, end := kind(w)
	before := time.Duration(w.dice.Int64N(int64(lasts) + 1))
	<-time.After(before)
	w.kill(w.any())
	<-time.After(lasts - before)
	end()
}

// rest lets time pass: the faults come at times of their own.
func (w *faultWorld) rest(least, most time.Duration) { <-time.After(w.between(least, most)) }

func (w *faultWorld) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.dice.Int64N(int64(most-least)))
}

func (w *faultWorld) any() int { return w.dice.IntN(len(w.replicas)) }

func nothing() {}

// kill kills a replica and starts another.
func (w *faultWorld) kill(n int) {
	p := w.replicas[n]
	p.end()
	w.oracle.deaths[p.pid()] = time.Now().UnixNano()
	w.replicas[n] = w.launch()
}

// dies adds nothing to the death of a replica.
func dies(*faultWorld) (time.Duration, func()) { return 0, nothing }

// standStill stops a replica for longer than its lease, and then lets it go on.
func standStill(w *faultWorld) (time.Duration, func()) {
	p, from := w.replicas[w.any()], time.Now()
	signal := func(s os.Signal) {
		if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
			w.t.Error(err)
		}
	}
	signal(syscall.SIGSTOP)
	return w.between(faultLease+time.Second, faultLease+3*time.Second), func() {
		signal(syscall.SIGCONT)
		w.oracle.pauses[p.pid()] = append(w.oracle.pauses[p.pid()], since(from))
	}
}

// partition holds what a replica sends, or gets, or both, for longer than its lease. All
// of it arrives afterwards: saves under a lease that has ended, and acknowledgements.
func partition(w *faultWorld) (time.Duration, func()) {
	p, from := w.replicas[w.any()], time.Now()
	there, back := w.direction()
	for _, proxy := range p.proxies {
		proxy.Shape(there, back)
	}
	return w.between(faultLease+time.Second, faultLease+3*time.Second), func() {
		for _, proxy := range p.proxies {
			proxy.Clear()
		}
		w.oracle.cuts[p.pid()] = append(w.oracle.cuts[p.pid()], since(from))
	}
}

// direction returns the conditions of a network that is cut in one direction, or both.
func (w *faultWorld) direction() (there, back natstest.Conditions) {
	ways := w.dice.IntN(3)
	return natstest.Conditions{Held: ways != 1}, natstest.Conditions{Held: ways != 2}
}

// keepsUp is how many writes a replica of a stream may be behind while events come.
const keepsUp = 1000

// disturbed ends a fault of NATS: the cluster is whole again.
func (w *faultWorld) disturbed(from time.Time) {
	for _, stream := range []string{schemas.Stream, "KV_" + consume.Bucket("faults")} {
		w.nats.whole(w.js, stream, keepsUp)
	}
	w.oracle.nats = append(w.oracle.nats, since(from))
}

// restart restarts a NATS server.
func restart(w *faultWorld) (time.Duration, func()) {
	server, from := w.nats.servers[w.dice.IntN(len(w.nats.servers))], time.Now()
	server.Stop()
	return w.between(100*time.Millisecond, 2*time.Second), func() {
		server.Restart()
		w.disturbed(from)
	}
}

// isolate sets the conditions of the bytes that other servers send to one, and of those
// that it sends.
func (c *cluster) isolate(n int, into, out natstest.Conditions) {
	for pair, proxy := range c.routes {
		switch n {
		case pair[0]:
			proxy.Shape(out, into)
		case pair[1]:
			proxy.Shape(into, out)
		}
	}
}

// isolate cuts a server off from the other ones, in one direction or both.
func isolate(w *faultWorld) (time.Duration, func()) {
	n, from := w.dice.IntN(len(w.nats.servers)), time.Now()
	into, out := w.direction()
	w.nats.isolate(n, into, out)
	return w.between(2*time.Second, 6*time.Second), func() {
		w.nats.isolate(n, natstest.Conditions{}, natstest.Conditions{})
		w.disturbed(from)
	}
}

// stepDown gives the streams and some consumers other leaders.
func stepDown(w *faultWorld) (time.Duration, func()) {
	from := time.Now()
	subjects := []string{"STREAM.LEADER.STEPDOWN." + schemas.Stream, "STREAM.LEADER.STEPDOWN.KV_" + consume.Bucket("faults")}
	for _, slot := range "0123456789abcdef" {
		if w.dice.IntN(3) == 0 {
			subjects = append(subjects, "CONSUMER.LEADER.STEPDOWN."+schemas.Stream+"."+consume.ConsumerName("faults", string(slot)))
		}
	}
	for _, i := range w.dice.Perm(len(subjects)) {
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
		_, _ = w.js.Conn().RequestWithContext(ctx, "$JS.API."+subjects[i], nil) // refused while there is no leader
		cancel()
	}
	return w.between(0, time.Second), func() { w.disturbed(from) }
}

// terminates ends a replica gently and starts another.
func terminates(w *faultWorld) (time.Duration, func()) {
	n := w.any()
	if err := w.replicas[n].terminate(); err != nil {
		w.t.Error(err)
	}
	w.replicas[n] = w.launch()
	return 0, nothing
}

// joins starts up to two more replicas, and leaves ends those beyond three, gently or not.
func joins(w *faultWorld) (time.Duration, func()) {
	for range 1 + w.dice.IntN(2) {
		if len(w.replicas) < 5 {
			w.replicas = append(w.replicas, w.launch())
		}
	}
	return w.between(0, 3*time.Second), nothing
}

func leaves(w *faultWorld) (time.Duration, func()) {
	for len(w.replicas) > 3 {
		last := len(w.replicas) - 1
		p := w.replicas[last]
		w.replicas = w.replicas[:last]
		if w.dice.IntN(2) == 0 {
			p.end()
			w.oracle.deaths[p.pid()] = time.Now().UnixNano()
		} else if err := p.terminate(); err != nil {
			w.t.Error(err)
		}
	}
	return 0, nothing
}

// removes has the stream remove its oldest messages, some of which no replica has read.
func removes(w *faultWorld) (time.Duration, func()) {
	natstest.Until(w.t, func() bool { // the stream has a leader
		stream, err := w.js.Stream(w.t.Context(), schemas.Stream)
		if err != nil {
			return false
		}
		w.purged = max(w.purged, stream.CachedInfo().State.LastSeq)
		return stream.Purge(w.t.Context(), jetstream.WithPurgeSequence(w.purged)) == nil
	})
	w.oracle.removed(w.purged, w.effects())
	return 0, nothing
}

// redrive gives dead letters to the service again, which then can handle them.
func redrive(w *faultWorld) (time.Duration, func()) {
	ended, settled := ends(w.effects()), time.Now().Add(-mayBeUnhandled/2).UnixNano()
	var letters []func() error
	w.oracle.mu.Lock()
	for id, c := range w.oracle.calls {
		for _, e := range c.events {
			end := ended[id+"/"+e.id]
			if e.context != "permanent" || e.redrives > 0 || e.seq <= w.purged || end == 0 || end > settled || len(letters) == 10 {
				continue
			}
			letters = append(letters, func() error {
				w.oracle.mu.Lock()
				e.redrives++
				e.redriven = time.Now().UnixNano()
				w.oracle.mu.Unlock()
				return consume.Redrive(w.t.Context(), w.js, "faults", id, e.seq)
			})
			if err := os.WriteFile(filepath.Join(w.settings.Mended, fmt.Sprint(id, ".", e.id)), nil, 0o600); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	w.oracle.mu.Unlock()
	for _, redrive := range letters {
		for redrive() != nil && w.t.Context().Err() == nil {
			<-time.After(100 * time.Millisecond)
		}
	}
	return 0, nothing
}
