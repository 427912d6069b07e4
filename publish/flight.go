package publish

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// flight is a record between the journal and the cursor.
type flight struct {
	index  uint64
	record *record
	call   uint64    // hash of its call, zero for none
	sent   time.Time // zero when nothing was published
	folded bool      // the stream has its message id, which is being compared
	landed bool      // it is known how it ended
	// refused says why the stream can never have it, repeated that the stream
	// had it before, handed that the quarantine's journal has it.
	refused  string
	repeated bool
	handed   bool
}

// takeTurn makes a flight of a record and reports whether it is its turn.
func (s *session) takeTurn(index uint64, r *record) (fl flight, mine bool) {
	s.answers.Lock()
	defer s.answers.Unlock()
	fl = flight{index: index, record: r, call: s.turns.call(r)}
	s.flights[index%window] = fl
	return fl, s.turns.take(fl.call, index)
}

// takeDue returns the flights whose turn has come since it was last asked.
func (s *session) takeDue() []flight {
	s.answers.Lock()
	defer s.answers.Unlock()
	var flights []flight
	for _, index := range s.due {
		flights = append(flights, s.flights[index%window])
	}
	s.due = s.due[:0]
	return flights
}

// takeOff notes that a record is published next, before the stream can answer.
func (s *session) takeOff(fl *flight) {
	s.answers.Lock()
	defer s.answers.Unlock()
	fl.sent = time.Now()
	s.flights[fl.index%window] = *fl
}

// answered takes the stream's answer to one publish.
func (s *session) answered(m *nats.Msg) {
	index, err := strconv.ParseUint(m.Subject[len(s.inbox):], 10, 64)
	if err != nil || index == 0 {
		return // nobody was asked that: records are counted from 1
	}
	s.answers.Lock()
	defer s.answers.Unlock()
	fl := s.flights[index%window]
	if s.ended || fl.index != index || fl.sent.IsZero() || fl.folded || fl.landed {
		return // too late, too early, or a second answer
	}
	ack, err := s.acks.read(m)
	var api *jetstream.APIError
	switch {
	case errors.Is(err, errForeign):
		s.target.answers(ack.place) // and the right one may still come
	case errors.As(err, &api) && s.target.has(noteForeign):
		// A refusal names no domain: it may be the other stream's.
	case err != nil:
		s.failed(fl, err)
	case ack.duplicate:
		s.fold(fl, ack.sequence)
	default:
		s.settle(fl)
	}
}

// comparisons is how many are made at a time. Each has a second, and a slow link
// must manage them all within it.
const comparisons = 16

// fold has a record compared with what the stream has at a sequence, beside the
// session: neither the answers behind it wait for that nor its call, for which
// the stream has what it will have. What differs goes to quarantine. The caller
// holds answers.
func (s *session) fold(fl flight, sequence uint64) {
	s.passTurn(fl)
	fl.folded, fl.repeated, fl.call = true, true, 0
	s.flights[fl.index%window] = fl
	s.comparing.Go(func() {
		s.places <- struct{}{}
		err := s.compare(fl.record, sequence)
		<-s.places
		if errors.Is(err, errConflict) {
			if err = s.hand(fl, s.conflicting(fl.record)); err == nil {
				return
			}
		}
		s.answers.Lock()
		defer s.answers.Unlock()
		switch {
		case s.ended:
		case err != nil:
			s.failed(fl, err)
		default:
			s.settle(fl)
		}
	})
}

// compareAgain is how long nothing is compared after that has failed: most
// often the right to it is missing, and each attempt costs compareWithin.
const compareAgain = time.Minute

// compare returns errConflict when the stream's copy of a record is another
// event. When the stream does not let us look, nothing is compared for a while.
func (s *session) compare(r *record, sequence uint64) error {
	blind := s.blind.Load()
	if time.Now().UnixNano() < blind {
		return nil
	}
	err := compare(s.ctx, s.js, r, sequence)
	if err == nil || errors.Is(err, errConflict) || s.ctx.Err() != nil {
		return err
	}
	if !s.blind.CompareAndSwap(blind, time.Now().Add(compareAgain).UnixNano()) {
		return nil // another one failed meanwhile
	}
	s.logger.Warn("repeated events cannot be compared with those in the stream for a minute: direct get fails", "error", s.target.explain(err, time.Now().Add(-ackTimeout), apiSubject(s.js, "DIRECT.GET."+r.stream)))
	return nil
}

// land settles a record that was not published and never can be because of err.
// Any other error is returned.
func (s *session) land(fl flight, err error) error {
	if fl.refused = permanent(err); fl.refused == "" {
		return err
	}
	s.answers.Lock()
	defer s.answers.Unlock()
	s.settle(fl)
	return nil
}

// failed sets a record aside that can never be stored, or ends the session.
// The caller holds answers.
func (s *session) failed(fl flight, err error) {
	s.target.expiry.refused(err)
	fl.refused = permanent(err)
	if fl.refused == "" {
		s.stop(fmt.Errorf("publish: %w", err))
		return
	}
	s.settle(fl)
}

// makeDue leaves a flight to send. The caller holds answers.
func (s *session) makeDue(index uint64) {
	s.due = append(s.due, index)
	s.tell()
}

// tell wakes send.
func (s *session) tell() {
	select {
	case s.moved <- struct{}{}:
	default:
	}
}

// settle notes how a record ended, makes the one due that waited for it, and moves
// the cursor behind all those of which the end is known. The caller holds
// answers.
func (s *session) settle(fl flight) {
	fl.landed = true
	s.flights[fl.index%window] = fl
	s.passTurn(fl)
	for next := s.acked() + 1; ; next++ {
		fl := &s.flights[next%window]
		if fl.index != next || !fl.landed {
			return
		}
		switch {
		case fl.handed:
		case fl.refused != "":
			if err := s.refuse(fl.index, fl.record, fl.refused); err != nil {
				s.stop(err)
				return
			}
		default:
			// A repetition of what was sent before may be our own.
			s.metrics.stored(fl.record, fl.repeated && fl.index > s.doubtful)
		}
		fl.record = nil
		s.advance(fl.index)
		s.tell()
	}
}

// passTurn makes the record due that waits for this one of its call. The caller
// holds answers.
func (s *session) passTurn(fl flight) {
	if next := s.turns.landed(fl.call, fl.index); next > 0 {
		s.makeDue(next)
	}
}

// expire fails the oldest record when its answer is overdue. An answer that is
// here and was not looked at is not.
func (s *session) expire() {
	s.answers.Lock()
	defer s.answers.Unlock()
	if waiting, _, err := s.replies.Pending(); err == nil && waiting > 0 {
		return
	}
	next := s.acked() + 1
	fl := s.flights[next%window]
	if fl.index == next && !fl.folded && !fl.landed && !fl.sent.IsZero() && time.Since(fl.sent) > ackTimeout {
		s.failed(fl, jetstream.ErrAsyncPublishTimeout)
	}
}

// end makes answers that are still to come void: the next session has its own
// inbox, and sends again what was not answered.
func (s *session) end() {
	s.answers.Lock()
	defer s.answers.Unlock()
	s.ended = true
	for i := range s.flights {
		if fl := &s.flights[i]; !fl.sent.IsZero() {
			s.doubtful = max(s.doubtful, fl.index)
		}
	}
}
