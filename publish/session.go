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

	"github.com/acsbridge/acsbridge/internal/crash"
	"github.com/acsbridge/acsbridge/publish/journal"
	"github.com/acsbridge/acsbridge/schemas"
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
	message *nats.Msg       // what is published, used again each time
	recall  recall
	turns   turns
	ctx     context.Context // of the session, ended by stop
	stop    context.CancelCauseFunc
	replies *nats.Subscription

	answers sync.Mutex
	flights [window]flight // at index modulo window
	ended   bool           // answers are of no use any more

	blind atomic.Int64 // until then, in nanoseconds since 1970, nothing is compared
}

// flight is a record between the journal and the cursor.
type flight struct {
	index  uint64
	record *record
	sent   time.Time // zero when nothing was published
	landed bool      // it is known how it ended
	// refused says why the stream can never have it, repeated that the stream
	// had it before.
	refused  string
	repeated bool
}

// Reasons for the dead-letter file: a closed set, used as a metric label.
const (
	reasonCorrupt    = "corrupt"     // the journal's bytes are not what was written
	reasonTooLarge   = "too_large"   // for the server or the stream
	reasonBadSubject = "bad_subject" // not one that NATS can carry
	reasonQuarantine = "quarantine"  // the quarantine stream does not take it
)

// session forwards until something fails or ctx ends. It always returns an
// error.
func (f *forwarder) session(ctx context.Context, js jetstream.JetStream) error {
	nc := js.Conn()
	s := &session{
		forwarder: f, js: js, nc: nc, began: nc.Stats(), inbox: nc.NewInbox() + ".",
		message: &nats.Msg{Header: make(nats.Header, maxHeaders)},
		recall:  recall{js: js, backlog: f.backlog, logger: f.logger, metrics: f.metrics}, turns: newTurns(),
	}
	f.prepare(ctx, js)
	var err error
	if s.replies, err = nc.Subscribe(s.inbox+"*", s.answered); err != nil {
		return fmt.Errorf("listen for acknowledgements: %w", err)
	}
	s.ctx, s.stop = context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { s.watch(s.ctx) })
	err = s.send(s.ctx)
	s.stop(err)
	watching.Wait()
	s.end()
	return errors.Join(context.Cause(s.ctx), s.replies.Unsubscribe())
}

// send publishes record after record. It stops at the first error.
func (s *session) send(ctx context.Context) error {
	for index := s.acked() + 1; ; index++ {
		if err := s.awaitRecord(ctx, index); err != nil {
			return err
		}
		if index > window {
			if err := s.turns.reach(ctx, index-window, s.acked); err != nil {
				return err
			}
		}
		if err := s.launch(ctx, index); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// awaitRecord returns when the journal has a record at index.
func (s *session) awaitRecord(ctx context.Context, index uint64) error {
	for {
		if _, last := s.journal.Bounds(); index <= last {
			return nil
		}
		select {
		case <-s.journal.Changed():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// launch publishes one record, unless the stream has it already or can never
// take it.
func (s *session) launch(ctx context.Context, index uint64) error {
	r, err := s.read(index)
	if err != nil {
		return s.land(flight{index: index, record: &record{}}, err)
	}
	twin, err := s.recall.knows(ctx, index, r, s.state.window)
	if err != nil {
		return err
	}
	if twin > 0 {
		err := s.compare(r, twin)
		if !errors.Is(err, errConflict) {
			return s.land(flight{index: index, record: r, repeated: true}, err)
		}
		r = s.conflicting(r)
	}
	if err := s.turns.await(ctx, r, index, s.acked); err != nil {
		return err
	}
	s.takeOff(index, r)
	crash.At("before-publish")
	if err := s.nc.PublishMsg(s.message); err != nil {
		return s.land(flight{index: index, record: r}, fmt.Errorf("publish: %w", err))
	}
	return nil
}

// takeOff notes that a record is under way and makes its message, before the
// stream can answer.
func (s *session) takeOff(index uint64, r *record) {
	r.fill(s.message)
	s.message.Reply = s.inbox + strconv.FormatUint(index, 10)
	s.answers.Lock()
	defer s.answers.Unlock()
	s.flights[index%window] = flight{index: index, record: r, sent: time.Now()}
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
	if s.ended || fl.index != index || fl.landed {
		return // too late, or a second answer
	}
	ack, err := readAck(m, fl.record.stream)
	if err == nil {
		err = fl.record.judge(ack)
	}
	if err == nil && ack.duplicate {
		fl.repeated = true
		s.answers.Unlock() // the session goes on while this waits for the server
		err = s.compare(fl.record, ack.sequence)
		s.answers.Lock()
		if now := s.flights[index%window]; s.ended || now.index != index || now.landed {
			return
		}
	}
	if errors.Is(err, errConflict) {
		fl = flight{index: index, record: s.conflicting(fl.record), sent: time.Now()}
		s.flights[index%window] = fl
		again := fl.record.message()
		again.Reply = m.Subject
		if err = s.nc.PublishMsg(again); err == nil {
			return // its answer settles it
		}
	}
	if err != nil {
		s.failed(fl, err)
		return
	}
	s.settle(fl)
}

// conflicting returns what is stored of a record in the place of which the
// stream has another.
func (s *session) conflicting(r *record) *record {
	s.metrics.conflicts.Inc()
	s.logger.Warn("event has the id of another one and goes to quarantine", "resource", r.resource())
	return r.quarantined(reasonConflict)
}

// compareAgain is how long nothing is compared after that has failed: most
// often the right to it is missing, and each attempt costs compareWithin.
const compareAgain = time.Minute

// compare returns errConflict when the stream's copy of a record is another
// event. When the stream does not let us look, nothing is compared for a while.
func (s *session) compare(r *record, sequence uint64) error {
	if time.Now().UnixNano() < s.blind.Load() {
		return nil
	}
	err := compare(s.ctx, s.js, r, sequence)
	if err == nil || errors.Is(err, errConflict) || s.ctx.Err() != nil {
		return err
	}
	s.blind.Store(time.Now().Add(compareAgain).UnixNano())
	s.logger.Warn("repeated events cannot be compared with those in the stream (needs nats-server 2.11, direct get, and the right to $JS.API.DIRECT.GET."+r.stream+")", "error", err)
	return nil
}

// failed sets a record aside that can never be stored, or ends the session.
// The caller holds answers.
func (s *session) failed(fl flight, err error) {
	fl.refused = permanent(err)
	if fl.refused == "" && fl.record.stream == schemas.QuarantineStream && (!transient(err) || s.forbidden(err)) {
		fl.refused = reasonQuarantine // must not hold up the events behind it
	}
	if fl.refused == "" {
		s.stop(fmt.Errorf("publish: %w", err))
		return
	}
	s.settle(fl)
}

// land settles a record that was not published: the stream has it, or can never
// take it because of err. Any other error is returned.
func (s *session) land(fl flight, err error) error {
	if fl.refused = permanent(err); err != nil && fl.refused == "" {
		return err
	}
	s.answers.Lock()
	defer s.answers.Unlock()
	s.settle(fl)
	return nil
}

// settle notes how a record ended, and moves the cursor behind all those of
// which that is known. The caller holds answers.
func (s *session) settle(fl flight) {
	fl.landed = true
	s.flights[fl.index%window] = fl
	for next := s.acked() + 1; ; next++ {
		fl := &s.flights[next%window]
		if fl.index != next || !fl.landed {
			return
		}
		if fl.refused != "" {
			if err := s.refuse(fl.index, fl.record, fl.refused); err != nil {
				s.stop(err)
				return
			}
		} else {
			// A repetition of what was sent before may be our own.
			s.metrics.stored(fl.record, fl.repeated && fl.index > s.doubtful)
		}
		fl.record = nil
		s.advance(fl.index)
		s.turns.moved()
	}
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

// expire fails the oldest record when its answer is overdue. An answer that is
// here and waits for others to be compared is not.
func (s *session) expire() {
	s.answers.Lock()
	defer s.answers.Unlock()
	if waiting, _, err := s.replies.Pending(); err == nil && waiting > 0 {
		return
	}
	next := s.acked() + 1
	fl := s.flights[next%window]
	if fl.index == next && !fl.landed && time.Since(fl.sent) > ackTimeout {
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
		s.doubtful = max(s.doubtful, s.flights[i].index)
	}
}

// Codes of JetStream's errors that a record can never get past.
const (
	codeMessageTooLarge = 10054
	codeHeaderTooLarge  = 10097
)

// permanent returns why a record can never be stored, or "". Errors that
// concern every record, like missing rights or a stream of another name, are
// not among them: those are mended by an operator, and the journal waits.
func permanent(err error) (reason string) {
	var api *jetstream.APIError
	var js jetstream.JetStreamError
	if errors.As(err, &js) {
		api = js.APIError()
	}
	switch {
	case err == nil:
		return ""
	case errors.Is(err, journal.ErrCorrupt):
		return reasonCorrupt
	case errors.Is(err, nats.ErrMaxPayload):
		return reasonTooLarge
	case errors.Is(err, nats.ErrBadSubject), errors.Is(err, jetstream.ErrInvalidSubject):
		return reasonBadSubject
	case api != nil && (api.ErrorCode == codeMessageTooLarge || api.ErrorCode == codeHeaderTooLarge):
		return reasonTooLarge
	}
	return ""
}

// forbidden reports whether a publish was probably not answered because the
// right to it is missing: the server says that apart from the publish.
func (s *session) forbidden(err error) bool {
	_, problem := s.link.State()
	return errors.Is(err, jetstream.ErrAsyncPublishTimeout) && errors.Is(problem, nats.ErrPermissionViolation)
}

// transient reports whether an error comes from the connection, so that the
// record may yet be stored.
func transient(err error) bool {
	return errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrConnectionClosed) ||
		errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrConnectionReconnecting) ||
		errors.Is(err, jetstream.ErrAsyncPublishTimeout) || errors.Is(err, jetstream.ErrJetStreamPublisherClosed)
}
