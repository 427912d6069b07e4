package publish

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/failpoint"
)

// session is one run of ordered publishes: from the cursor on, until anything
// fails. Its own goroutine publishes record after record, the client's brings
// the stream's answers, and a third one watches connection and clock. The
// client's futures would do the same for a timer, a map entry and two channels
// a record; see docs/benchmarks.md.
type session struct {
	*forwarder
	js      jetstream.JetStream
	nc      *nats.Conn
	began   nats.Statistics // of the connection, when the session began
	inbox   string          // the stream answers record n at inbox + n
	acks    acks            // reads the answers
	window  time.Duration   // the stream's duplicate window
	message *nats.Msg       // what is published, used again each time
	moved   chan struct{}   // capacity 1: the cursor has moved, or a turn has come
	ctx     context.Context // of the session, ended by stop
	stop    context.CancelCauseFunc
	replies *nats.Subscription

	answers sync.Mutex     // guards what follows
	flights [window]flight // at index modulo window
	turns   turns
	due     []uint64 // indexes of flights whose turn has come
	ended   bool     // answers are of no use any more

	comparing sync.WaitGroup
	places    chan struct{} // of comparisons

	blind atomic.Int64 // until then, in nanoseconds since 1970, nothing is compared
}

// session forwards until something fails or ctx ends. It always returns an
// error.
func (f *forwarder) session(ctx context.Context, js jetstream.JetStream) error {
	nc := js.Conn()
	s := &session{
		forwarder: f, js: js, nc: nc, began: nc.Stats(), inbox: nc.NewInbox() + ".",
		message: &nats.Msg{Header: make(nats.Header, maxHeaders)},
		turns:   newTurns(), moved: make(chan struct{}, 1), places: make(chan struct{}, comparisons),
	}
	f.recall.begin(js)
	replies, err := nc.Subscribe(s.inbox+"*", s.answered)
	if err != nil {
		return fmt.Errorf("listen for acknowledgements: %w", err)
	}
	s.replies = replies
	s.ctx, s.stop = context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { s.watch(s.ctx) })
	state, err := f.prepare(s.ctx, js)
	if err == nil {
		s.acks, s.window = acksOf(state.place), state.window
		watching.Go(func() {
			if err := f.target.survey(s.ctx, js, state); err != nil {
				s.stop(err)
			}
		})
		if err = s.send(s.ctx); ctx.Err() == nil {
			f.target.fails(err, time.Now().Add(-2*ackTimeout))
		}
	}
	s.stop(err)
	watching.Wait()
	s.end()
	s.comparing.Wait()
	return errors.Join(context.Cause(s.ctx), s.replies.Unsubscribe())
}

// send publishes record after record. One that has to wait for its turn holds up
// those behind it, since events are stored in the order in which they became
// durable. It stops at the first error.
func (s *session) send(ctx context.Context) error {
	var waits uint64 // index of the record that has to
	for next := s.acked() + 1; ctx.Err() == nil; {
		for _, fl := range s.takeDue() {
			if fl.index == waits {
				waits = 0
			}
			if err := s.fly(ctx, fl); err != nil {
				return err
			}
		}
		if _, last := s.journal.Bounds(); waits == 0 && next <= last && next <= s.acked()+window {
			mine, err := s.launch(ctx, next)
			if err != nil {
				return err
			}
			if !mine {
				waits = next
			}
			next++
			continue
		}
		select {
		case <-s.journal.Changed():
		case <-s.moved:
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}

// launch publishes the record at index if it is its turn. Otherwise it is due
// when the one of its call before it has landed.
func (s *session) launch(ctx context.Context, index uint64) (mine bool, err error) {
	r, err := s.read(index)
	if err != nil {
		return true, s.land(flight{index: index, record: &record{}}, err)
	}
	if s.quarantine != nil && r.forQuarantine() { // of a version with one journal for both
		return true, s.hand(flight{index: index, record: r}, r)
	}
	fl, mine := s.takeTurn(index, r)
	if mine {
		err = s.fly(ctx, fl)
	}
	return mine, err
}

// fly publishes a record whose turn it is, unless the stream has it already or
// can never take it.
func (s *session) fly(ctx context.Context, fl flight) error {
	twin, err := s.recall.knows(ctx, fl.index, fl.record, s.window)
	if err != nil {
		return err
	}
	if twin > 0 {
		s.answers.Lock()
		defer s.answers.Unlock()
		s.fold(fl, twin)
		return nil
	}
	s.takeOff(&fl)
	fl.record.fill(s.message)
	s.target.expiry.set(s.message, fl.record, time.Now())
	s.message.Reply = s.inbox + strconv.FormatUint(fl.index, 10)
	failpoint.At("before-publish")
	if err := s.nc.PublishMsg(s.message); err != nil {
		if errors.Is(err, nats.ErrMaxPayload) && s.link.refresh() {
			return fmt.Errorf("publish: %w, as far as is known", err)
		}
		return s.land(fl, fmt.Errorf("publish: %w", err))
	}
	return nil
}

// watch ends the session when the connection breaks, or when an answer stays
// away for too long.
func (s *session) watch(ctx context.Context) {
	tick := time.NewTicker(ackTimeout / 10)
	defer tick.Stop()
	for {
		changed := s.link.changes()
		if !s.nc.IsConnected() || s.nc.Stats().Reconnects != s.began.Reconnects {
			s.stop(nats.ErrDisconnected) // answers to what was sent are lost
			return
		}
		select {
		case <-changed:
		case <-tick.C:
			s.expire()
		case <-ctx.Done():
			return
		}
	}
}
