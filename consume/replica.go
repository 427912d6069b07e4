package consume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/lograte"
)

// replica is one run of a service. It decides which slots to take and to give back, and
// has the workers that run the handlers of all of them.
type replica struct {
	id        string
	opts      *options
	handle    handler
	nc        *nats.Conn
	js        jetstream.JetStream
	bucket    *bucket
	maxEntry  int64 // bytes of a message in the bucket; zero or less means no limit
	metrics   *metrics
	started   time.Time
	jobs      chan *job
	connected atomic.Uint64 // how often the connection was made anew
	paused    atomic.Int64  // until then no handler starts; in nanoseconds since started

	warnings, letters lograte.Limiter

	rank rank

	heartbeat uint64 // revision of this replica's key
	beatAt    time.Time
	owned     map[string]*ownership // by slot
	ended     chan *ownership
	running   sync.WaitGroup
	workers   sync.WaitGroup
}

// ownership is a slot that this replica has.
type ownership struct {
	slot     string
	drain    chan struct{}
	draining bool
	err      error
}

// Intervals of a replica, as parts of the lease: it reads who is there a little more
// often than once a second, and says that it is there itself four times a lease.
const (
	beatsPerLease = 4
	pollsPerLease = 20
	minPoll       = 200 * time.Millisecond
)

func run(ctx context.Context, nc *nats.Conn, o *options, h handler) error {
	js, err := newJetStream(nc, o.Domain)
	if err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	r := &replica{
		id: uuid.NewString(), opts: o, handle: h, nc: nc, js: js, bucket: newBucket(js, o.Name), metrics: newMetrics(o.Name),
		started: time.Now(), jobs: make(chan *job), owned: make(map[string]*ownership), ended: make(chan *ownership, len(slots)),
	}
	if err := r.prepare(ctx); ctx.Err() != nil {
		return nil
	} else if err != nil {
		return fmt.Errorf("consume: service %s: %w", o.Name, err)
	}
	if o.Registerer != nil {
		for _, c := range r.metrics.collectors() {
			if err := o.Registerer.Register(c); err != nil {
				return fmt.Errorf("consume: service %s: register metrics: %w", o.Name, err)
			}
			defer o.Registerer.Unregister(c)
		}
	}
	for range o.Concurrency {
		r.workers.Go(r.work)
	}
	err = r.share(ctx)
	close(r.jobs)
	r.workers.Wait()
	return err
}

// share takes and gives back slots until ctx ends or the connection is closed.
func (r *replica) share(ctx context.Context) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	changes := r.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer r.nc.RemoveStatusListener(changes)
	poll := time.NewTicker(max(r.opts.Lease/pollsPerLease, minPoll))
	defer poll.Stop()
	r.opts.Logger.Info("replica starts", slog.String("replica", r.id), slog.String("stream", r.opts.Stream))
	for {
		r.balance(work)
		select {
		case <-poll.C:
		case o := <-r.ended:
			r.lose(o)
		case status := <-changes:
			if status == nats.CLOSED {
				stop()
				r.running.Wait()
				return fmt.Errorf("consume: service %s: %w", r.opts.Name, nats.ErrConnectionClosed)
			}
			r.connected.Add(1)
		case <-ctx.Done():
			r.shutDown(stop)
			return nil
		}
	}
}

// shutDown gives all slots back, each when its handlers have ended. Those that run for too
// long are cut off.
func (r *replica) shutDown(stop context.CancelFunc) {
	timer := time.AfterFunc(r.opts.ShutdownTimeout+2*cutOffTimeout, stop) // each slot cuts them off before
	defer timer.Stop()
	for _, o := range r.owned {
		r.giveBack(o)
	}
	r.signOff() // so that the others take the slots that are free, while slow handlers go on here
	r.running.Wait()
	r.opts.Logger.Info("replica has ended", slog.String("replica", r.id))
}

// signOff removes the key of this replica.
func (r *replica) signOff() {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	m := r.bucket.message(replicaKey(r.id), nil, r.heartbeat, time.Minute)
	m.Header.Set(kvOperation, "DEL")
	if _, err := r.bucket.put(ctx, m); err != nil {
		r.opts.Logger.Warn("cannot sign off; the other replicas wait for the end of this one's lease", slog.Any("error", err))
	}
}

// pauseHandlers has no handler start for a while. A shorter pause does not end a longer one.
func (r *replica) pauseHandlers(err error, d time.Duration) {
	until := int64(time.Since(r.started) + d)
	for {
		before := r.paused.Load()
		if until <= before || r.paused.CompareAndSwap(before, until) {
			break
		}
	}
	r.warnings.Log(r.opts.Logger, slog.LevelWarn, "a handler has asked for a pause: no handler starts in this replica until it has passed",
		slog.Float64("pause_seconds", d.Seconds()), slog.Any("error", err))
}

func (r *replica) isPaused(now time.Time) bool {
	return now.Sub(r.started) < time.Duration(r.paused.Load())
}

func (r *replica) giveBack(o *ownership) {
	if !o.draining {
		o.draining = true
		close(o.drain)
	}
}

// lose notes that the loop of a slot has ended.
func (r *replica) lose(o *ownership) {
	delete(r.owned, o.slot)
	r.metrics.owned.Set(float64(len(r.owned)))
	level, text := slog.LevelInfo, "slot was given back"
	if !o.draining || o.err != nil {
		level, text = slog.LevelWarn, "slot was lost; its calls go on where it is taken next"
	}
	r.opts.Logger.Log(context.Background(), level, text, slog.String("slot", o.slot), slog.Any("error", o.err))
}

// balance compares what this replica has with its share.
func (r *replica) balance(ctx context.Context) {
	if !r.nc.IsConnected() {
		return
	}
	if err := r.beat(ctx); err != nil {
		r.warnings.Log(r.opts.Logger, slog.LevelWarn, "cannot write to the bucket; this is tried again", slog.Any("error", err))
		return
	}
	v, err := r.survey(ctx)
	if err != nil {
		r.warnings.Log(r.opts.Logger, slog.LevelWarn, "cannot read who has which slot; this is tried again", slog.Any("error", err))
		return
	}
	if v.own != r.heartbeat { // a replica of the bucket that is behind
		return
	}
	r.surveyed(v.outranked)
	have := 0
	for _, o := range r.owned {
		if !o.draining {
			have++
		}
	}
	for _, o := range r.owned {
		if have > v.share && !o.draining {
			r.giveBack(o)
			have--
		}
	}
	var free []*slot
	for _, i := range rand.Perm(len(slots)) {
		name := slots[i : i+1]
		if l := v.leases[name]; have+len(free) < v.share && r.owned[name] == nil && (l.free || l.replica == r.id) {
			free = append(free, r.newSlot(name, l.revision))
		}
	}
	r.acquire(ctx, free)
}

// beat says that this replica is there.
func (r *replica) beat(ctx context.Context) error {
	now := time.Now()
	if now.Sub(r.beatAt) < r.opts.Lease/beatsPerLease {
		return nil
	}
	value, err := json.Marshal(replicaValue{r.started, r.opts.wanted()})
	if err != nil {
		return err
	}
	m := r.bucket.message(replicaKey(r.id), value, 0, r.opts.Lease)
	m.Header.Del(jetstream.ExpectedLastSubjSeqHeader)
	revision, err := r.bucket.put(ctx, m)
	if err != nil {
		return err
	}
	r.heartbeat, r.beatAt = revision, now
	return nil
}

// newSlot returns a slot whose lease has the given revision, zero for none.
func (r *replica) newSlot(name string, revision uint64) *slot {
	s := &slot{
		replica: r, name: name, consumer: ConsumerName(r.opts.Name, name),
		inbox: r.nc.NewInbox() + ".", answers: make(chan *nats.Msg, answersSize), messages: make(chan *nats.Msg, 2*maxPrefetch),
		reports: make(chan func(time.Time) error, r.opts.Concurrency), gone: make(chan struct{}), requests: make(map[uint64]request),
	}
	s.lease.revision = revision
	return s
}

// acquire takes the leases of slots, side by side: a bucket that does not answer holds up
// the replica, and its end, for one timeout. Most often an error says that another replica
// was faster.
func (r *replica) acquire(ctx context.Context, free []*slot) {
	errs := make([]error, len(free))
	var writes sync.WaitGroup
	for i, s := range free {
		writes.Go(func() {
			sent := time.Now()
			epoch, err := r.bucket.put(ctx, s.leaseMessage())
			s.lease.epoch, errs[i] = epoch, err
			s.renewed(epoch, sent)
		})
	}
	writes.Wait()
	for i, s := range free {
		if errs[i] == nil {
			r.begin(ctx, s)
		}
	}
}

// begin runs the loop of a slot whose lease was taken.
func (r *replica) begin(ctx context.Context, s *slot) {
	s.calls = newCalls(s.lease.epoch, r.opts.limits())
	s.calls.finished = func(_ *call, o *outcome) { r.metrics.count(o) }
	o := &ownership{slot: s.name, drain: make(chan struct{})}
	r.owned[s.name] = o
	r.metrics.owned.Set(float64(len(r.owned)))
	r.metrics.taken.Inc()
	r.opts.Logger.Info("slot was taken", slog.String("slot", s.name), slog.Uint64("epoch", s.lease.epoch))
	r.running.Go(func() {
		if err := s.run(ctx, o.drain); !errors.Is(err, errDrained) {
			o.err = err
		}
		r.metrics.parked.DeleteLabelValues(s.name)
		r.metrics.lag.DeleteLabelValues(s.name)
		r.ended <- o
	})
}
