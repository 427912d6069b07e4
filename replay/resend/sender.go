package resend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// Target is where messages are sent: [Copies], [Posts] or a [Capture].
type Target interface {
	// Send begins to send a message. It calls done once, from any goroutine, with
	// the outcome: nil when the target has accepted it, a [*RejectedError] when the
	// target does not accept this one, any other error when nothing more can be
	// sent. When ctx ends, what is in flight is finished, and what waits for another
	// attempt is given up.
	Send(ctx context.Context, m *replay.StoredMessage, done func(error))

	// Flush makes sure that what the target has accepted outlives this process.
	Flush() error
}

// RejectedError reports one message that the target did not accept. It may accept
// others.
type RejectedError struct {
	Sequence uint64
	Err      error
}

func (e *RejectedError) Error() string { return fmt.Sprintf("sequence %d: %v", e.Sequence, e.Err) }
func (e *RejectedError) Unwrap() error { return e.Err }

const (
	// maxPending and maxPendingBytes bound the messages that are read and not done,
	// so that one slow call does not hold up the others soon, and large events do not
	// fill the memory.
	maxPending      = 2048
	maxPendingBytes = 16 << 20
	// defaultInFlight keeps a stream busy that is some milliseconds away.
	defaultInFlight = 512
	// maxConsecutiveRejects is how many rejected messages in a row end the sending:
	// the target is likely to be out of order.
	maxConsecutiveRejects = 10
)

// Sender sends messages to a target: those of one call one after another, each when
// the target has accepted or rejected the one before it; those of different calls at
// the same time. A Sender is used once.
type Sender struct {
	Target Target
	Pace   Pace

	// IgnoreRejections continues however many messages are rejected in a row.
	IgnoreRejections bool

	// Sequential sends also the messages of different calls one after another.
	Sequential bool

	// MaxInFlight is how many messages are sent at a time. Zero means 512.
	MaxInFlight int

	// OnDone is called with the outcome of each message, one call at a time. It may
	// be nil.
	OnDone func(*replay.StoredMessage, error)

	mu           sync.Mutex
	changed      *sync.Cond
	pending      []*item           // in the order of the messages, from the first that is not done
	pendingBytes int               // of the messages that are not done
	queues       map[string]*queue // by call
	ready        []*queue          // whose first item may be sent
	inFlight     int
	progress     Progress
	rejects      int   // in a row
	firstReject  *item // the earliest of them
	failed       error // why nothing more is sent
}

// Progress is how far a sender is.
type Progress struct {
	Accepted int
	Rejected int
	// Truncated is how many of the rejected ones were not sent, with
	// [ErrTruncatedURL].
	Truncated int
	// Next is the sequence to continue at: all before it are done. Zero before the
	// first message. Before is how many messages were before it.
	Next   uint64
	Before int
}

// item is one message.
type item struct {
	message *replay.StoredMessage
	number  int // of messages before it
	queue   *queue
	done    bool
}

// queue holds the items of one call. Its first item is in flight or ready.
type queue struct {
	call  string
	items []*item
}

// Send sends the messages, and returns when all are done. When messages ends with an
// error, the target fails or ctx ends, it finishes what is in flight and returns that
// error; [Sender.Progress] says where to continue.
func (s *Sender) Send(ctx context.Context, messages iter.Seq2[*replay.StoredMessage, error]) error {
	s.changed = sync.NewCond(&s.mu)
	s.queues = make(map[string]*queue)
	s.MaxInFlight = cmp.Or(s.MaxInFlight, defaultInFlight)
	sending, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(sending, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})()

	err := s.read(sending, stop, messages)
	if err != nil {
		stop(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.inFlight > 0 || len(s.pending) > 0 && sending.Err() == nil {
		s.changed.Wait()
	}
	if s.rejects >= maxConsecutiveRejects && !s.IgnoreRejections && s.firstReject.number < s.progress.Before {
		s.progress.Next, s.progress.Before = s.firstReject.message.Sequence, s.firstReject.number
	}
	return cmp.Or(s.failed, err, ctx.Err())
}

// read adds the messages to the queues of their calls.
func (s *Sender) read(ctx context.Context, stop context.CancelCauseFunc, messages iter.Seq2[*replay.StoredMessage, error]) error {
	pace := pacer{Pace: s.Pace}
	for m, err := range messages {
		if err != nil {
			return err
		}
		if err := pace.wait(ctx, m); err != nil {
			return err
		}
		if err := s.add(ctx, m); err != nil {
			return err
		}
		s.sendReady(ctx, stop)
	}
	return nil
}

// add adds a message to its queue as soon as there is room.
func (s *Sender) add(ctx context.Context, m *replay.StoredMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ctx.Err() == nil && (len(s.pending) >= maxPending || s.pendingBytes >= maxPendingBytes) {
		s.changed.Wait()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	call := m.CallToken()
	if s.Sequential {
		call = schemas.NoCall // the same for all
	}
	q := s.queues[call]
	if q == nil {
		q = &queue{call: call}
		if call != "" { // events without a call have no order
			s.queues[call] = q
		}
	}
	i := &item{message: m, number: s.progress.Before + len(s.pending), queue: q}
	if s.progress.Next == 0 {
		s.progress.Next = m.Sequence
	}
	s.pending = append(s.pending, i)
	s.pendingBytes += len(m.Data)
	if q.items = append(q.items, i); len(q.items) == 1 {
		s.ready = append(s.ready, q)
	}
	return nil
}

// sendReady sends the first items of the ready queues.
func (s *Sender) sendReady(ctx context.Context, stop context.CancelCauseFunc) {
	for {
		s.mu.Lock()
		if ctx.Err() != nil || len(s.ready) == 0 || s.inFlight >= s.MaxInFlight {
			s.mu.Unlock()
			return
		}
		i := s.ready[0].items[0]
		s.ready = s.ready[1:]
		s.inFlight++
		s.mu.Unlock()
		s.Target.Send(ctx, i.message, func(err error) {
			if err := s.done(ctx, i, err); err != nil {
				stop(err)
			}
			s.sendReady(ctx, stop)
		})
	}
}

// done records the outcome of an item and makes the next one of its call ready. The
// error says why nothing more is to be sent.
func (s *Sender) done(ctx context.Context, i *item, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.changed.Broadcast()
	s.inFlight--
	_, rejected := errors.AsType[*RejectedError](err)
	if err != nil && !rejected {
		if s.failed == nil && ctx.Err() == nil { // otherwise the item was given up
			s.failed = err
		}
		return err
	}
	if s.OnDone != nil {
		s.OnDone(i.message, err)
	}

	i.done = true
	s.pendingBytes -= len(i.message.Data)
	if i.queue.items = i.queue.items[1:]; len(i.queue.items) > 0 {
		s.ready = append(s.ready, i.queue)
	} else {
		delete(s.queues, i.queue.call)
	}
	for len(s.pending) > 0 && s.pending[0].done {
		s.progress.Next = s.pending[0].message.Sequence + 1
		s.progress.Before++
		s.pending = s.pending[1:]
	}
	if len(s.pending) > 0 {
		s.progress.Next = s.pending[0].message.Sequence
	}

	switch {
	case !rejected:
		s.rejects = 0
		s.progress.Accepted++
		return nil
	case errors.Is(err, ErrTruncatedURL): // which says nothing about the target
		s.progress.Rejected++
		s.progress.Truncated++
		return nil
	}
	s.progress.Rejected++
	if s.rejects == 0 || i.number < s.firstReject.number {
		s.firstReject = i
	}
	if s.rejects++; s.rejects < maxConsecutiveRejects || s.IgnoreRejections {
		return nil
	}
	s.failed = fmt.Errorf("%d messages in a row were not accepted, the last one: %w", s.rejects, err)
	return s.failed
}

// Progress returns how far the sender is. Safe for concurrent use.
func (s *Sender) Progress() Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.progress
}
