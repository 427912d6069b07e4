package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/failpoint"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/publish/journal"
)

// maxAnswers is how many answers of the stream wait for the sender. Each record in
// flight has one, and another from each further stream that takes the subjects. The
// client drops what is more; a dropped acknowledgement only costs another try.
const maxAnswers = 8 * maxInFlight

// sender publishes the records behind the cursor over one connection, until
// anything fails. Its loop alone owns the pending window; only comparisons run
// beside it, and report to it. Package jetstream's futures would do the same for a
// timer, a map entry and two channels a record; see docs/benchmarks.md.
type sender struct {
	forwarder  *forwarder
	js         jetstream.JetStream
	inbox      string        // the stream answers record n at inbox + n
	acks       acks          // reads the answers
	duplicates time.Duration // the stream's duplicate window
	pending    *pending
	message    *nats.Msg // is published, and used again each time
	answers    chan *nats.Msg
	comparer   *comparer
}

// send publishes records until anything fails or ctx ends. It always returns an
// error. What was not acknowledged is sent again by the next sender, which has
// another inbox: late answers reach nothing.
func (f *forwarder) send(ctx context.Context, js jetstream.JetStream) error {
	ctx, stop := f.link.During(ctx)
	defer stop(nil)
	state, err := f.target.prepare(ctx, js)
	if err != nil {
		return err
	}
	if f.created != nil {
		f.created()
		f.created = nil
	}
	s := &sender{
		forwarder: f, js: js, inbox: js.Conn().NewInbox() + ".", acks: acksOf(state.place), duplicates: state.window,
		pending: newPending(f.acked()), message: &nats.Msg{Header: make(nats.Header, maxHeaders)},
		answers: make(chan *nats.Msg, maxAnswers), comparer: newComparer(f, js),
	}
	answers, err := js.Conn().ChanSubscribe(s.inbox+"*", s.answers)
	if err != nil {
		return fmt.Errorf("listen for acknowledgements: %w", err)
	}
	f.lookback.begin(js)
	surveyed := make(chan struct{})
	go func() {
		defer close(surveyed)
		if err := f.target.survey(ctx, js, state); err != nil {
			stop(err)
		}
	}()
	err = s.run(ctx)
	if ctx.Err() == nil {
		f.target.fails(err, time.Now().Add(-2*natsconn.RequestTimeout))
	}
	stop(err)
	<-surveyed
	s.comparer.running.Wait()
	s.pending.endTraces()
	f.maybeSent = max(f.maybeSent, s.pending.maybeSent())
	return errors.Join(err, answers.Unsubscribe())
}

// run is the sender's loop.
func (s *sender) run(ctx context.Context) error {
	tick := time.NewTicker(natsconn.RequestTimeout / 10)
	defer tick.Stop()
	for ctx.Err() == nil {
		var err error
		select { // answers come first: what has arrived counts, even if the connection breaks next
		case m := <-s.answers:
			err = s.answered(ctx, m)
		default:
			var published bool
			if published, err = s.publishNext(ctx); published || err != nil {
				break
			}
			select {
			case m := <-s.answers:
				err = s.answered(ctx, m)
			case c := <-s.comparer.results:
				err = s.compared(c)
			case <-s.forwarder.journal.Changed():
			case <-tick.C:
				err = s.overdue()
			case <-ctx.Done():
			}
		}
		if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// publishNext publishes the next record that is ready, and admits records from the
// journal until one is. It reports whether there was one.
func (s *sender) publishNext(ctx context.Context) (published bool, err error) {
	f := s.forwarder
	for {
		if e := s.pending.takeReady(); e != nil {
			return true, s.publish(ctx, e)
		}
		if _, last := f.journal.Bounds(); s.pending.last >= last || !s.pending.hasRoom() {
			return false, nil
		}
		r, err := f.read(s.pending.last + 1)
		handed, refused := false, ""
		if err == nil && f.quarantine != nil && r.forQuarantine() { // a version with one journal for both has left it
			handed, refused, err = f.handOver(ctx, r)
		}
		switch {
		case permanent(err) != "":
			err = s.refuse(s.pending.admit(&record{}), err)
		case err != nil && s.pending.inFlight > 0:
			return false, nil // the records before it are stored first
		case err != nil:
		case handed || refused != "":
			e := s.pending.admit(r)
			e.handed, e.refused = handed, refused
			err = s.finish(e)
		default:
			s.pending.admit(r)
		}
		if err != nil {
			return false, err
		}
	}
}

// publish sends a record, unless the stream has it already or can never take it.
func (s *sender) publish(ctx context.Context, e *entry) error {
	f := s.forwarder
	sequence, err := f.lookback.find(ctx, e.record, s.pending.first(), s.duplicates)
	if err != nil {
		return err
	}
	if sequence > 0 {
		s.compare(ctx, e, sequence)
		return nil
	}
	s.pending.begin(e, sent)
	e.sent = time.Now()
	e.record.fill(s.message)
	if f.tracer != nil {
		e.span = startPublish(f.tracer, e.record, s.message)
	}
	f.target.setTTL(s.message, e.record, e.sent)
	s.message.Reply = s.inbox + strconv.FormatUint(e.index, 10)
	failpoint.At("before-publish")
	if err := s.js.Conn().PublishMsg(s.message); err != nil {
		err = fmt.Errorf("publish: %w", err)
		if errors.Is(err, nats.ErrMaxPayload) && f.link.Refresh() {
			return fmt.Errorf("%w, as far as is known", err)
		}
		return s.refuse(e, err)
	}
	return nil
}

// answered takes the stream's answer to one publish.
func (s *sender) answered(ctx context.Context, m *nats.Msg) error {
	index, err := strconv.ParseUint(m.Subject[len(s.inbox):], 10, 64)
	if err != nil {
		return nil // not an answer to a record
	}
	e := s.pending.awaiting(index)
	if e == nil {
		return nil
	}
	t := s.forwarder.target
	ack, err := s.acks.read(m)
	var api *jetstream.APIError
	switch {
	case errors.Is(err, errForeign):
		t.answers(ack.place) // and the right one may still come
		return nil
	case errors.As(err, &api) && t.has(noteForeign):
		return nil // a refusal names no domain: it may be the other stream's
	case err != nil:
		t.refused(err)
		return s.refuse(e, fmt.Errorf("publish: %w", err))
	case ack.duplicate:
		s.compare(ctx, e, ack.sequence)
		return nil
	}
	return s.finish(e)
}

// compare has a record compared with what the stream has under its message id. The
// rest of its call does not wait for that: the stream has what it will have.
func (s *sender) compare(ctx context.Context, e *entry, sequence uint64) {
	s.pending.release(e)
	s.pending.begin(e, comparing)
	e.duplicate = true
	s.comparer.start(ctx, e.index, e.record, sequence)
}

// compared takes the result of a comparison.
func (s *sender) compared(c comparison) error {
	if c.err != nil {
		return c.err
	}
	e := &s.pending.ring[c.index%windowSize]
	e.record, e.handed, e.refused = c.record, c.handed, c.refused
	return s.finish(e)
}

// refuse ends a record that can never be stored because of err. Any other error is
// returned.
func (s *sender) refuse(e *entry, err error) error {
	if e.refused = permanent(err); e.refused == "" {
		return err
	}
	return s.finish(e)
}

// finish notes that it is known how a record ended, and moves the cursor
// behind the records in front that are done.
func (s *sender) finish(e *entry) (err error) {
	f := s.forwarder
	s.pending.finish(e)
	e.endTrace()
	index, age, before := e.index, time.Since(e.record.receivedAt), s.pending.acked
	for e = s.pending.first(); e != nil && e.state == done; e = s.pending.first() {
		switch {
		case e.handed:
		case e.refused != "":
			err = f.deadLetter(e.index, e.record, e.refused)
		default:
			f.metrics.stored(e.record, e.duplicate && e.index > f.maybeSent)
		}
		if err != nil {
			break
		}
		s.pending.advance()
	}
	if s.pending.acked > before {
		f.target.works()
		failpoint.At("before-advance")
	}
	f.advance(index, s.pending.acked, age)
	return err
}

// overdue returns an error when a record waits for its acknowledgement for too long.
// After this process stood still, answers and time come at once: what has arrived is not
// overdue.
func (s *sender) overdue() error {
	if len(s.answers) > 0 || !s.pending.sentBefore(time.Now().Add(-natsconn.RequestTimeout)) {
		return nil
	}
	return fmt.Errorf("publish: %w", jetstream.ErrAsyncPublishTimeout)
}

// deadLetter writes a record to the dead-letter file that the stream can never take.
func (f *forwarder) deadLetter(index uint64, r *record, reason string) error {
	if err := f.dead.add(index, r, reason); err != nil {
		return fmt.Errorf("move record %d to the dead-letter file: %w", index, err)
	}
	f.metrics.deadLetters.WithLabelValues(reason).Inc()
	f.metrics.published.WithLabelValues(r.resource(), outcomeDeadLetter).Inc()
	f.letters.Log(f.logger, slog.LevelError, "record can never be stored and went to the dead-letter file",
		slog.Uint64("index", index), slog.String("reason", reason), slog.String("file", f.dead.path()))
	return nil
}

// Reasons for the dead-letter file: a closed set, used as a metric label.
const (
	reasonCorrupt    = "corrupt" // the journal's bytes are not what was written
	reasonTooLarge   = natsconn.TooLarge
	reasonBadSubject = natsconn.BadSubject
	reasonQuarantine = "quarantine" // the journal of the quarantine has no room, or a resource has too many conflicts
)

// permanent returns why a record can never be stored, or "": then an operator can
// mend it, and the journal waits.
func permanent(err error) (reason string) {
	if errors.Is(err, journal.ErrCorrupt) {
		return reasonCorrupt
	}
	return natsconn.Final(err)
}
