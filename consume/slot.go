package consume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/failpoint"
)

// errLeaseEnded reports that the lease of a slot could not be renewed in time.
var errLeaseEnded = errors.New("the lease could not be renewed in time")

const (
	requestTimeout = 5 * time.Second
	slotTick       = 100 * time.Millisecond
	// keepAfter is how long an event may hold the position of its slot before it is
	// kept in the entry of its call.
	keepAfter = 10 * time.Second
	// maxUnacknowledged is how many finished events wait for an acknowledgement, or
	// for the next tick.
	maxUnacknowledged = 64
	answersSize       = 4096
)

// infoInterval is how often a slot is compared with its consumer. Tests change it.
var infoInterval = 10 * time.Second

// slot is one that this replica owns. Its loop alone has the lease, the feed and the
// calls; everything else runs beside it and reports to it.
type slot struct {
	*replica
	name     string // hex digit
	consumer string
	calls    *calls
	lease    lease

	inbox    string // write n is answered at inbox + n
	answers  chan *nats.Msg
	messages chan *nats.Msg
	reports  chan func(now time.Time) error
	gone     chan struct{} // closed when the loop has ended
	requests map[uint64]request
	number   uint64 // of the last request

	feed        *feed
	barrier     *barrier
	resetting   bool
	retryFeedAt time.Time

	offered   *job // waits for a worker
	running   int  // handlers
	paused    []*call
	acked     uint64 // floor that was acknowledged
	read      uint64 // everything up to here was received
	readSaved uint64
	infoAt    time.Time
	woken     uint64 // revision of the newest wake key that was seen
	connects  uint64 // of the connection, when it was looked at last
}

// lease is the right to a slot.
type lease struct {
	epoch, revision uint64
	until           atomic.Int64 // in nanoseconds since the replica's start
	end             *time.Timer  // at until
	renewal         uint64       // number of the request under way; zero for none
	renewedAt       time.Time    // when the last one was sent
}

// request is a write whose answer has not come.
type request struct {
	call *call // nil for the lease
	next *Entry
	sent time.Time
}

// errDrained ends the loop of a slot that was given back, errCutOff that of one where a
// handler does not return, or a write is not answered.
var (
	errDrained = errors.New("given back")
	errCutOff  = errors.New("given back, and not all was stored that its handlers did")
)

// cutOffTimeout is how long handlers have to return after their contexts have ended, and
// their outcomes to be stored. Then the lease is not renewed any more.
const cutOffTimeout = 2 * time.Second

// run takes the slot, whose lease was just taken, and handles its calls until ctx ends,
// the slot is lost, or drain is closed and the running handlers have ended.
func (s *slot) run(ctx context.Context, drain <-chan struct{}) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer func() {
		cancel(nil)
		s.stopFeed()
		close(s.gone)
	}()
	answers, err := s.nc.ChanSubscribe(s.inbox+"*", s.answers)
	if err != nil {
		return fmt.Errorf("listen for answers: %w", err)
	}
	defer answers.Unsubscribe()
	taking, taken := context.WithCancel(ctx)
	go func() {
		select {
		case <-drain:
			taken()
		case <-taking.Done():
		}
	}()
	err = s.take(taking)
	switch {
	case err == nil:
		taken()
		defer s.endLease(cancel)()
		err = s.loop(ctx, drain)
	case taking.Err() != nil && ctx.Err() == nil: // it was given back meanwhile
		err = errDrained
	}
	taken()
	cancel(err) // of the handlers
	s.awaitHandlers()
	if errors.Is(err, errFenced) || !s.lease.valid(s.replica, time.Now()) {
		return err
	}
	s.acknowledge(1)
	s.saveRead()
	if problem := s.release(); problem != nil && errors.Is(err, errDrained) {
		return problem
	}
	return err
}

// loop does what the slot brings, and returns why it has ended. Handlers that run for too
// long in a slot that is given back are cut off: no other starts while they are waited for.
func (s *slot) loop(ctx context.Context, drain <-chan struct{}) (err error) {
	handlers, cutOff := context.WithCancel(ctx)
	defer cutOff()
	tick := time.NewTicker(slotTick)
	defer tick.Stop()
	s.connects = s.connected.Load()
	var deadline, end <-chan time.Time
	for err == nil {
		now := time.Now()
		s.perform(ctx)
		s.acknowledge(maxUnacknowledged)
		s.pull(now)
		select {
		case m := <-s.answers:
			err = s.answered(ctx, m)
		case m := <-s.messages:
			s.received(ctx, m, now)
			s.passBarrier(now)
		case report := <-s.reports:
			err = report(time.Now())
		case s.offer(handlers, now) <- s.offered:
			s.offered.call.began = now
			s.offered = nil
			s.running++
		case <-tick.C:
			err = s.tick(ctx, time.Now())
		case <-drain:
			drain, deadline = nil, time.After(s.opts.ShutdownTimeout)
			s.drain()
		case <-deadline:
			end = time.After(cutOffTimeout)
			cutOff()
		case <-end:
			err = errCutOff
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if err == nil && s.drained() {
			err = errDrained
		}
	}
	return err
}

// drained reports whether nothing of a slot that is given back is under way.
func (s *slot) drained() bool {
	if !s.calls.draining || s.running > 0 {
		return false
	}
	for _, c := range s.calls.byToken {
		if c.io != ioNone || c.outcome != nil {
			return false
		}
	}
	return true
}

// take prepares the slot in the order that leaves no event out: after the reset,
// whatever a former owner has not acknowledged comes again; what it acknowledged before
// is in the entries that are then read.
func (s *slot) take(ctx context.Context) error {
	reset := func() error {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		if failpoint.Broken("reset") {
			return s.followFeed(ctx)
		}
		answer, err := s.js.ResetConsumer(ctx, s.opts.Stream, s.consumer)
		if err != nil {
			return fmt.Errorf("reset consumer %s: %w", s.consumer, err)
		}
		return s.beginFeed(answer.ConsumerInfo)
	}
	if err := reset(); err != nil {
		return err
	}
	sent := time.Now()
	revision, err := s.bucket.put(ctx, s.leaseMessage())
	if err != nil {
		return fmt.Errorf("renew lease of slot %s: %w", s.name, err)
	}
	s.renewed(revision, sent)
	return s.renewDuring(ctx, func(ctx context.Context) error { return s.readEntries(ctx, revision) })
}

// readEntries reads what the bucket has of the slot. A later renewal of the lease shows as
// well as this one that the answer is not behind: all that was stored before is read then.
func (s *slot) readEntries(ctx context.Context, renewal uint64) error {
	return s.bucket.scan(ctx, s.name, renewal, func(m *jetstream.RawStreamMsg) {
		key := s.bucket.key(m.Subject)
		if key == readKey(s.name) {
			read, _ := strconv.ParseUint(string(m.Data), 10, 64)
			s.read, s.readSaved = max(s.read, read), read
			return
		}
		e := new(Entry)
		if !strings.HasPrefix(key, callKey(s.name, "")) || removed(m.Header) || json.Unmarshal(m.Data, e) != nil {
			return
		}
		s.calls.remember(callOf(key), e, m.Sequence)
	})
}

// offer returns the channel to the workers when there is an event for them.
func (s *slot) offer(ctx context.Context, now time.Time) chan<- *job {
	if s.offered == nil && !s.calls.draining {
		if c := s.calls.takeReady(); c != nil {
			s.offered = s.newJob(ctx, c)
		}
	}
	if s.offered == nil || s.isPaused(now) || !s.lease.valid(s.replica, now) {
		return nil
	}
	return s.jobs
}

// drain stops taking and starting events.
func (s *slot) drain() {
	if s.offered != nil {
		s.offered.call.busy = false
		s.offered = nil
	}
	s.calls.stopReady()
	s.stopFeed()
}

// awaitHandlers waits for the handlers that still run, so that this replica does not take
// the slot again before they have ended. One that ignores the end of its context holds up
// the slot for one more lease: then any replica can take it.
func (s *slot) awaitHandlers() {
	late := time.After(s.opts.Lease)
	for s.running > 0 {
		select {
		case report := <-s.reports:
			_ = report(time.Now())
		case <-late:
			return
		}
	}
}

// post hands a report to the loop, unless that has ended.
func (s *slot) post(report func(now time.Time) error) {
	select {
	case s.reports <- report:
	case <-s.gone:
	}
}

// perform carries out what the calls need.
func (s *slot) perform(ctx context.Context) {
	for _, c := range s.calls.commands {
		switch c.io {
		case ioWriting:
			s.write(c.call)
		case ioReading:
			s.readEntry(ctx, c.call)
		case ioBurying:
			s.bury(ctx, c.call)
		}
	}
	s.calls.commands = s.calls.commands[:0]
}

// readEntry reads the entry of a call and reports it.
func (s *slot) readEntry(ctx context.Context, c *call) {
	go func() {
		e, revision, err := s.bucket.entry(ctx, s.name, c.token)
		s.post(func(now time.Time) error {
			if err != nil {
				s.pause(c, "cannot read the entry of a call; this is tried again", err)
				return nil
			}
			return s.calls.loaded(c, e, revision, now)
		})
	}()
}

// pause tries a request for a call again at the next tick.
func (s *slot) pause(c *call, text string, err error) {
	s.calls.failed(c)
	s.paused = append(s.paused, c)
	s.warn(text, err)
}

func (s *slot) warn(text string, err error) {
	s.warnings.Log(s.opts.Logger, slog.LevelWarn, text, slog.String("slot", s.name), slog.Any("error", err))
}

// bury publishes the first event of a call as a dead letter.
func (s *slot) bury(ctx context.Context, c *call) {
	letter := &deadLetter{slot: s.name, token: c.token, event: c.events[0], entry: c.entry, outcome: c.outcome, Dead: s.dead(c)}
	go func() {
		err := s.publishDeadLetter(ctx, letter)
		s.post(func(now time.Time) error {
			if err != nil {
				s.warn("cannot store a dead letter; its call waits until this has worked", err)
				s.calls.notBuried(c, &letter.Dead, now)
				return nil
			}
			s.calls.buried(c, now)
			return nil
		})
	}()
}

// acknowledge tells the consumer how far the slot is, when at least so many finished
// events make it worth a message.
func (s *slot) acknowledge(least int) {
	w := &s.calls.window
	if w.reply == "" || w.moved < least {
		return
	}
	if s.nc.Publish(w.reply, ackBody) == nil {
		s.acked, w.reply, w.moved = w.floor, "", 0
	}
}

var ackBody = []byte("+ACK")
