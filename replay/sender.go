package replay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"

	"github.com/acsbridge/acsbridge/schemas"
)

// Target is where messages are sent: [Copies], [Posts] or a [Capture].
type Target interface {
	// Send begins to send a message. It calls done once, from any goroutine, when
	// it is known what came of it: nil when the target has it, a [*RejectedError]
	// when the target does not take this one, any other error when nothing can be
	// sent any more. When ctx ends, what is under way is finished and what waits
	// to be tried again is given up.
	Send(ctx context.Context, m *Message, done func(error))

	// Flush makes sure that what the target has outlives this process.
	Flush() error
}

// RejectedError reports one message that the target did not take. Others may
// fare better.
type RejectedError struct {
	Sequence uint64
	Err      error
}

func (e *RejectedError) Error() string { return fmt.Sprintf("sequence %d: %v", e.Sequence, e.Err) }
func (e *RejectedError) Unwrap() error { return e.Err }

// Bounds of what is read and not settled, so that one slow call does not hold
// up the others soon, and that large events do not fill the memory.
const (
	windowMessages = 2048
	windowBytes    = 16 << 20
)

// rejectedInRow is how many rejected messages in a row end the sending.
const rejectedInRow = 10

// Sender sends messages to a target: those of one call one after another, each
// when the target has the one before it; those of different calls side by side.
type Sender struct {
	Target Target
	Pace   Pace

	// Patient goes on however many messages are rejected. Otherwise ten in a row
	// end the sending: the target is taken to be out of order.
	Patient bool

	// OneByOne sends also the messages of different calls one after another.
	OneByOne bool

	// InFlight is how many messages are sent at a time. Zero means 512.
	InFlight int

	// Settled is told what came of each message, one at a time. Nil means nobody
	// wants to know.
	Settled func(*Message, error)

	mu       sync.Mutex
	changed  *sync.Cond
	order    []*parcel        // read and not settled, or settled behind one that is not
	lanes    map[string]*lane // by call
	ready    []*lane          // whose first parcel may be sent
	bytes    int              // of the parcels that are not settled
	waiting  int              // parcels that are not settled
	flying   int              // of those, with the target
	progress Progress
	row      int     // rejected in a row
	rowFirst *parcel // the earliest of them
	failed   error   // why nothing more is sent
}

// Progress is how far a sender is.
type Progress struct {
	Taken    int // by the target
	Rejected int // by the target, or not sent
	// Truncated is how many of the rejected ones were not sent, with
	// [ErrTruncatedURL].
	Truncated int
	Before    int    // messages before Next
	Next      uint64 // sequence to go on at: all before it are settled. Zero before the first message
}

// parcel is one message on its way.
type parcel struct {
	*Message
	number  int // of messages before it
	lane    *lane
	settled bool
}

// lane is what is on its way of one call, in order. Its first parcel is with the
// target, or ready to be sent.
type lane struct {
	call  string
	queue []*parcel
}

// defaultInFlight is enough to keep a stream busy that is some milliseconds away.
const defaultInFlight = 512

// Send sends the messages, and returns when all are settled. When messages ends
// with an error, the target fails or ctx ends, it finishes what is under way and
// returns that error; [Sender.Progress] says where to go on. A Sender is used
// once.
func (s *Sender) Send(ctx context.Context, messages iter.Seq2[*Message, error]) error {
	s.changed = sync.NewCond(&s.mu)
	s.lanes = make(map[string]*lane)
	if s.InFlight == 0 {
		s.InFlight = defaultInFlight
	}
	sending, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(sending, s.wake)()

	err := s.take(sending, stop, messages)
	if err != nil {
		stop(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.flying > 0 || s.waiting > 0 && sending.Err() == nil {
		s.changed.Wait()
	}
	if s.row >= rejectedInRow && !s.Patient && s.rowFirst.number < s.progress.Before {
		s.progress.Next, s.progress.Before = s.rowFirst.Sequence, s.rowFirst.number
	}
	if s.failed != nil {
		return s.failed
	}
	if err != nil {
		return err
	}
	return ctx.Err()
}

// take reads the messages and hands them to their lanes.
func (s *Sender) take(ctx context.Context, stop context.CancelCauseFunc, messages iter.Seq2[*Message, error]) error {
	pace := pacer{Pace: s.Pace}
	for m, err := range messages {
		if err != nil {
			return err
		}
		if err := pace.wait(ctx, m); err != nil {
			return err
		}
		if !s.admit(ctx, m) {
			return ctx.Err()
		}
		s.pump(ctx, stop)
	}
	return nil
}

// admit puts a message into its lane as soon as there is room. It reports false
// when ctx ended first.
func (s *Sender) admit(ctx context.Context, m *Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ctx.Err() == nil && (len(s.order) >= windowMessages || s.bytes >= windowBytes) {
		s.changed.Wait()
	}
	if ctx.Err() != nil {
		return false
	}
	call := m.call()
	if s.OneByOne {
		call = schemas.NoCall // the same for all
	}
	l := s.lanes[call]
	if l == nil {
		l = &lane{call: call}
		if call != "" { // what belongs to no call has no order
			s.lanes[call] = l
		}
	}
	p := &parcel{Message: m, number: s.progress.Before + len(s.order), lane: l}
	if s.progress.Next == 0 {
		s.progress.Next = m.Sequence
	}
	s.order = append(s.order, p)
	s.bytes += len(m.Data)
	s.waiting++
	if l.queue = append(l.queue, p); len(l.queue) == 1 {
		s.ready = append(s.ready, l)
	}
	return true
}

// pump sends what may be sent.
func (s *Sender) pump(ctx context.Context, stop context.CancelCauseFunc) {
	for {
		s.mu.Lock()
		if ctx.Err() != nil || len(s.ready) == 0 || s.flying >= s.InFlight {
			s.mu.Unlock()
			return
		}
		p := s.ready[0].queue[0]
		s.ready = s.ready[1:]
		s.flying++
		s.mu.Unlock()
		s.Target.Send(ctx, p.Message, func(err error) {
			if err := s.settle(ctx, p, err); err != nil {
				stop(err)
			}
			s.pump(ctx, stop)
		})
	}
}

// settle notes what came of a parcel and frees its lane. The error says why
// nothing more is to be sent.
func (s *Sender) settle(ctx context.Context, p *parcel, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.changed.Broadcast()
	s.flying--
	_, rejected := errors.AsType[*RejectedError](err)
	if err != nil && !rejected {
		if s.failed == nil && ctx.Err() == nil { // else it was given up
			s.failed = err
		}
		return err
	}
	if s.Settled != nil {
		s.Settled(p.Message, err)
	}
	s.free(p)
	if !rejected {
		s.row = 0
		s.progress.Taken++
		return nil
	}
	s.progress.Rejected++
	if errors.Is(err, ErrTruncatedURL) { // which says nothing about the target
		s.progress.Truncated++
		return nil
	}
	if s.row == 0 || p.number < s.rowFirst.number {
		s.rowFirst = p
	}
	s.row++
	if s.row < rejectedInRow || s.Patient {
		return nil
	}
	s.failed = fmt.Errorf("%d messages in a row were not taken, the last one: %w", s.row, err)
	return s.failed
}

// free takes a settled parcel out of its lane, makes the next one ready, and
// moves on what is settled as a whole. The caller holds mu.
func (s *Sender) free(p *parcel) {
	p.settled = true
	s.waiting--
	s.bytes -= len(p.Data)
	l := p.lane
	if l.queue = l.queue[1:]; len(l.queue) > 0 {
		s.ready = append(s.ready, l)
	} else {
		delete(s.lanes, l.call)
	}
	for len(s.order) > 0 && s.order[0].settled {
		s.progress.Next = s.order[0].Sequence + 1
		s.progress.Before++
		s.order = s.order[1:]
	}
	if len(s.order) > 0 {
		s.progress.Next = s.order[0].Sequence
	}
}

// Progress returns how far the sender is. Safe for concurrent use.
func (s *Sender) Progress() Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.progress
}

func (s *Sender) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
}

// call returns the call that a message belongs to as its subject has it, or ""
// for none.
func (m *Message) call() string {
	call := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	if call == schemas.NoCall {
		return ""
	}
	return call
}
