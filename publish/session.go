package publish

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/publish/journal"
	"github.com/acsbridge/acsbridge/schemas"
)

// session is one run of ordered publishes: from the cursor on, until anything
// fails. Two goroutines work on it: send publishes, collect waits for the
// acknowledgements in the same order.
type session struct {
	*forwarder
	js      jetstream.JetStream
	flights chan flight
	turns   turns
}

// noRetries keeps the client from publishing again by itself: that would
// overtake later records.
var noRetries = jetstream.WithRetryAttempts(0)

// flight is a record between the journal and the cursor.
type flight struct {
	index   uint64
	record  record
	message *nats.Msg // what was published
	// ack is nil when nothing was published: the record is in the stream
	// already, or refused says why it can never be.
	ack     jetstream.PubAckFuture
	refused string
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
	f.prepare(ctx, js)
	s := &session{forwarder: f, js: js, flights: make(chan flight, window), turns: newTurns()}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	collected := make(chan error, 1)
	go func() {
		err := s.collect(stop)
		collected <- err
	}()
	sendErr := s.send(ctx)
	close(s.flights)
	if err := <-collected; err != nil {
		return err
	}
	return sendErr
}

// send publishes record after record. It stops at the first error.
func (s *session) send(ctx context.Context) error {
	for index := s.acked() + 1; ; index++ {
		if err := s.awaitRecord(ctx, index); err != nil {
			return err
		}
		fl, err := s.launch(ctx, index)
		if err != nil {
			return err
		}
		s.flights <- fl // collect takes them until the channel is closed
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
func (s *session) launch(ctx context.Context, index uint64) (flight, error) {
	fl := flight{index: index}
	b, err := s.journal.Read(index)
	if err == nil {
		fl.record, err = decodeRecord(b)
	}
	if errors.Is(err, journal.ErrCorrupt) {
		fl.refused = reasonCorrupt
		return fl, nil
	}
	if err != nil {
		return fl, err
	}
	if s.inDoubt(&fl) {
		stored, err := s.lookUp(ctx, &fl.record)
		if err != nil || stored {
			return fl, err
		}
	}
	if err := s.turns.await(ctx, &fl.record, index, s.acked); err != nil {
		return fl, err
	}
	if err := s.reserve(index); err != nil {
		return fl, err
	}
	fl.message = fl.record.message()
	fl.ack, err = s.js.PublishMsgAsync(fl.message, noRetries)
	if reason := permanent(err); reason != "" {
		fl.refused = reason
		return fl, nil
	}
	if err != nil {
		return fl, fmt.Errorf("publish: %w", err)
	}
	return fl, nil
}

// inDoubt reports whether the record may have been stored so long ago that the
// stream would not recognise it: it may have been sent before, and the time it
// was received, which is before it was first sent, is not surely within the
// duplicate window. Half the window is left for clocks that differ.
func (s *session) inDoubt(fl *flight) bool {
	if fl.index > s.doubtful {
		return false
	}
	age := time.Since(fl.record.receivedAt)
	return age < 0 || age > s.state.window/2
}

// lookUp searches the stream for the record by its message id, among the
// messages of its subject: those of one type and call. It takes the time it
// needs, one bounded request after another.
func (s *session) lookUp(ctx context.Context, r *record) (stored bool, err error) {
	s.metrics.inDoubt.Inc()
	stream, err := s.js.Stream(ctx, r.stream)
	if err != nil {
		return false, fmt.Errorf("look up a record in doubt: %w", err)
	}
	sequence := uint64(1)
	if r.stream == schemas.QuarantineStream || strings.HasSuffix(r.subject, "."+schemas.NoCall) {
		if sequence, err = s.searchFrom(ctx, stream, r); err != nil {
			return false, fmt.Errorf("look up a record in doubt: %w", err)
		}
	}
	id := r.msgID()
	for {
		msg, err := stream.GetMsg(ctx, sequence, jetstream.WithGetMsgSubject(r.subject))
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("look up a record in doubt: %w", err)
		case msg.Header.Get(schemas.HeaderMsgID) == id:
			return true, nil
		}
		sequence = msg.Sequence + 1
	}
}

// searchFrom returns a sequence that the record cannot be stored before: by
// bisection, the first message of its subject that is not older than the
// record. For subjects that many records share, where reading all would take
// minutes. A sequence remembered from an earlier acknowledgement would not do:
// a stream that was lost counts from 1 again. Half the duplicate window is
// left for clocks that differ.
func (s *session) searchFrom(ctx context.Context, stream jetstream.Stream, r *record) (uint64, error) {
	if r.receivedAt.After(time.Now()) {
		return 1, nil // our clock was set back: its time says nothing
	}
	since := r.receivedAt.Add(-s.state.window / 2)
	low, high := uint64(1), stream.CachedInfo().State.LastSeq+1
	for low < high {
		middle := low + (high-low)/2
		msg, err := stream.GetMsg(ctx, middle, jetstream.WithGetMsgSubject(r.subject))
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			high = middle
		case err != nil:
			return 0, err
		case msg.Time.Before(since):
			low = msg.Sequence + 1
		default:
			high = middle
		}
	}
	return low, nil
}

// collect settles the flights in order. After the first error it stops the
// session and only waits for the rest, so that no publish of this session is
// under way when the next one begins.
func (s *session) collect(stop context.CancelCauseFunc) error {
	var failed error
	var sent uint64
	for fl := range s.flights {
		sent = fl.index
		if failed != nil {
			await(fl.ack)
			continue
		}
		if failed = s.settle(&fl); failed != nil {
			stop(failed)
			continue
		}
		s.turns.moved()
		if fl.message != nil {
			messages.Put(fl.message)
		}
	}
	s.mu.Lock()
	s.doubtful = max(s.doubtful, sent)
	s.mu.Unlock()
	return failed
}

// await returns what the stream answered.
func await(ack jetstream.PubAckFuture) (*jetstream.PubAck, error) {
	if ack == nil {
		return nil, nil
	}
	select {
	case a := <-ack.Ok():
		return a, nil
	case err := <-ack.Err():
		return nil, err
	}
}

// settle moves the cursor behind a flight, or says why the session must end.
func (s *session) settle(fl *flight) error {
	r := &fl.record
	ack, err := await(fl.ack)
	if err == nil && ack != nil {
		err = r.judge(ack)
	}
	if err != nil {
		fl.refused = permanent(err)
		if fl.refused == "" && r.stream == schemas.QuarantineStream && (!transient(err) || s.forbidden(err)) {
			fl.refused = reasonQuarantine // must not hold up the events behind it
		}
		if fl.refused == "" {
			return fmt.Errorf("publish: %w", err)
		}
	}
	if fl.refused != "" {
		if err := s.refuse(fl.index, r, fl.refused); err != nil {
			return err
		}
		s.metrics.published.WithLabelValues(r.resource(), "dead_letter").Inc()
		s.advance(fl.index)
		return nil
	}
	s.stored(fl, ack)
	return nil
}

// stored counts a record that the stream has and moves the cursor behind it.
func (s *session) stored(fl *flight, ack *jetstream.PubAck) {
	// A record in doubt that turns out a duplicate was stored by us.
	s.metrics.stored(&fl.record, ack != nil && ack.Duplicate && fl.index > s.doubtful)
	s.advance(fl.index)
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
