package publish

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/acsbridge/acsbridge/internal/lograte"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/publish/journal"
)

// forwarder is the one reader of a journal. It brings the records to their stream,
// through one [sender] after another, and moves the cursor behind those that the
// stream has.
type forwarder struct {
	journal *journal.Journal
	link    *natsconn.Link
	target  *target
	cursor  *cursor
	dead    *deadLetters
	// quarantine takes what belongs into quarantine; nil for its own forwarder.
	quarantine *forwarder
	// keep is how long an acknowledged record stays in the journal: as long as
	// the stream itself may lose it in a power cut.
	keep    time.Duration
	created func() // called once the stream exists; nil afterwards
	logger  *slog.Logger
	metrics *metrics
	tracer  trace.Tracer // nil without traces

	conflicts, letters lograte.Limiter // a sender with a token can cause them at will
	conflictLimit      QuarantineLimit

	// Of run's goroutine alone. maybeSent is the highest index that may have been
	// sent before the present sender: a duplicate up to there may be our own.
	lookback  lookback
	maybeSent uint64

	mu       sync.Mutex
	position uint64             // index of the last record that the stream has
	waiters  map[uint64]*waiter // by the index they wait for
	// ended has the records of the window that ended, at index modulo windowSize: also
	// those that the cursor has not reached.
	ended [windowSize]uint64
	// late says that a record needs longer than ackWait now, from the receipt of its
	// callback to the stream: the last one did, or a wait ran out since.
	late    bool
	ackWait time.Duration
	spare   sync.Pool // of *waiter: there is one for every callback
}

// newForwarder goes on where the cursor in the journal ends.
func newForwarder(f *forwarder) *forwarder {
	f.waiters = make(map[uint64]*waiter)
	f.spare.New = newWaiter
	first, last := f.journal.Bounds()
	f.position = f.cursor.acked
	if !f.cursor.valid || f.position > last || f.position+1 < first {
		f.position, f.cursor.since = max(first, 1)-1, 0
	} else if f.keep > 0 {
		// The stream may have lost the tail that it acknowledged, but what another
		// stream acknowledged is not sent to this one.
		f.position = max(first, 1) - 1
		f.position = min(max(f.position, f.cursor.since), f.cursor.acked)
	}
	f.maybeSent = last
	f.lookback = lookback{pending: f.pendingIDs, logger: f.logger, metrics: f.metrics}
	return f
}

// run forwards until ctx ends.
func (f *forwarder) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { f.maintain(ctx) })
	defer wg.Wait()
	for attempt := 1; ; attempt++ {
		js, err := f.link.JetStream(ctx)
		if err != nil {
			break
		}
		before := f.acked()
		err = f.send(ctx, js)
		if ctx.Err() != nil {
			break
		}
		f.stopWaiting()
		f.metrics.failures.Inc()
		f.logger.Debug("forwarding stopped", "stream", f.target.want.Name, "error", err, "records", f.lag())
		if f.acked() > before {
			attempt = 1
		}
		select {
		case <-time.After(natsconn.BetweenAttempts.After(attempt)):
		case <-ctx.Done():
		}
	}
	f.stopWaiting()
}

// stopWaiting ends all waits for the stream: the events are durable in the journal.
func (f *forwarder) stopWaiting() {
	f.target.stops()
	f.mu.Lock()
	defer f.mu.Unlock()
	for index := range f.waiters {
		f.wake(index)
	}
}

// waiter waits until a record has ended.
type waiter struct {
	done  chan struct{} // capacity 1
	timer *time.Timer
}

func newWaiter() any {
	w := &waiter{done: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
	w.timer.Stop()
	return w
}

// wait returns when the stream has the record at index, when the forwarder
// stops making progress, or after ackWait at most. It does not wait at all while NATS
// is disconnected, or the forwarder late or far behind.
func (f *forwarder) wait(ctx context.Context, index uint64) {
	f.mu.Lock()
	_, taken := f.waiters[index] // by a callback without records
	ended := index <= f.position || f.ended[index%windowSize] == index
	behind := f.position+maxInFlight < index
	if ended || behind || taken || f.late || f.ackWait <= 0 || !f.target.isReady() {
		f.mu.Unlock()
		return
	}
	w := f.spare.Get().(*waiter)
	defer f.spare.Put(w)
	f.waiters[index] = w
	f.mu.Unlock()

	w.timer.Reset(f.ackWait)
	defer w.timer.Stop()
	select {
	case <-w.done:
		return
	case <-w.timer.C:
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiters[index] == w {
		delete(f.waiters, index)
		f.late = true
	} else {
		<-w.done // it came in between: the next user must not find it
	}
}

// advance notes that the stream has the record at index, or never will, which was
// received so long ago, and all records up to acked.
func (f *forwarder) advance(index, acked uint64, age time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.late = age.Abs() > f.ackWait // negative: the clock was set back, and says nothing
	f.ended[index%windowSize] = index
	for f.position < acked {
		f.position++
		f.wake(f.position)
	}
	f.wake(index)
}

// wake ends the wait for a record. The caller holds mu.
func (f *forwarder) wake(index uint64) {
	if w := f.waiters[index]; w != nil {
		w.done <- struct{}{}
		delete(f.waiters, index)
	}
}

func (f *forwarder) acked() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.position
}

// lag is how many records are not acknowledged.
func (f *forwarder) lag() uint64 {
	_, last := f.journal.Bounds()
	return last - min(f.acked(), last)
}

// oldest is the age of the oldest record that is not acknowledged, zero when
// there is none.
func (f *forwarder) oldest() time.Duration {
	if f.lag() == 0 {
		return 0
	}
	r, err := f.journal.Read(f.acked() + 1)
	if err != nil {
		return 0
	}
	at, err := receivedAt(r.Data)
	if err != nil {
		return 0
	}
	return max(time.Since(at), 0)
}

// read returns the record at index, addressed as the settings of today say.
func (f *forwarder) read(index uint64) (*record, error) {
	r, err := f.readAsKept(index)
	if err == nil && !r.forQuarantine() {
		r.address(f.target.config)
	}
	return r, err
}

// readAsKept returns the record at index with the address that it was journaled
// under.
func (f *forwarder) readAsKept(index uint64) (*record, error) {
	kept, err := f.journal.Read(index)
	if err != nil {
		return nil, err
	}
	if r, ok := kept.Decoded.(*record); ok {
		return r, nil // of this process, and so of its settings
	}
	return decodeRecord(kept.Data)
}

// pendingIDs returns the message ids of a stream's records in the journal, from an
// index on.
func (f *forwarder) pendingIDs(ctx context.Context, stream string, from uint64) (map[messageID]uint64, error) {
	_, last := f.journal.Bounds()
	ids := make(map[messageID]uint64)
	for index := from; index <= last && ctx.Err() == nil; index++ {
		r, err := f.read(index)
		switch {
		case errors.Is(err, journal.ErrCorrupt): // becomes a dead letter when it is sent
		case err != nil:
			return nil, err
		case r.stream == stream:
			ids[hashID(r.msgID())] = 0
		}
	}
	return ids, ctx.Err()
}

func (f *forwarder) close() error { return errors.Join(f.journal.Close(), f.cursor.close()) }
