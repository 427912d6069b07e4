package consume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/internal/failpoint"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// job is the first event of a call, for a worker.
type job struct {
	ctx   context.Context // ends with the right to the slot
	slot  *slot
	call  *call
	event *event
	entry *Entry
}

func (s *slot) newJob(ctx context.Context, c *call) *job {
	return &job{ctx, s, c, c.events[0], c.entry}
}

// work handles events until jobs is closed. When a handler ends the goroutine
// (runtime.Goexit, such as by t.FailNow), its event has failed, and another worker goes on.
func (r *replica) work() {
	var current *job
	defer func() {
		if current != nil {
			o := &outcome{event: current.event}
			o.fail(errors.New("the handler has ended its goroutine"))
			r.workers.Go(r.work)
			current.report(o)
		}
	}()
	for current = range r.jobs {
		current.report(current.run())
		current = nil
	}
}

// report hands the outcome to the loop of the slot.
func (j *job) report(o *outcome) {
	j.slot.post(func(now time.Time) error {
		j.slot.running--
		j.slot.calls.handled(j.call, o, now)
		return nil
	})
}

// staleAfter is how old an event is before the stream is asked whether its call is over.
// Tests change it.
var staleAfter = time.Minute

// run handles the event.
func (j *job) run() *outcome {
	s, o := j.slot, &outcome{event: j.event, state: j.entry.State}
	msg := j.event.msg
	if msg == nil && j.event.wait == "" {
		var err error
		switch msg, err = s.fetch(j.ctx, j.event.seq); {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			o.skipped = skippedLost
			return o
		case err != nil:
			return j.postpone(o, err)
		}
	}
	a := &attempt{service: s.opts.Name, results: j.entry.Results, waiting: len(j.entry.Waits)}
	m, err := j.message(msg, a, o)
	if err != nil {
		o.fail(err)
		return o
	}
	if o.skipped == "" {
		o.skipped, err = j.stale(msg, m)
	}
	switch {
	case err != nil:
		return j.postpone(o, err)
	case o.skipped != "":
		return o
	case s.isPaused(time.Now()), !s.lease.valid(s.replica, time.Now()) && !failpoint.Broken("fence"):
		o.notRun = true
		return o
	}
	j.handle(m, a, o)
	return o
}

// errMaybeWanted reports an event of a type that another version of the service may want.
var errMaybeWanted = errors.New("another version of the service may want the event")

// postpone gives the event back, since it is not known what to do with it.
func (j *job) postpone(o *outcome, err error) *outcome {
	if !errors.Is(err, errMaybeWanted) {
		j.slot.warn("cannot read the stream; this is tried again", err)
	}
	_ = backoff.Wait(j.ctx, readPause) // ends with the right to the slot
	o.notRun = true
	return o
}

// readPause is how long a worker waits before it gives such an event back.
const readPause = 200 * time.Millisecond

// message reads the event, and notes what an entry keeps of it.
func (j *job) message(msg *nats.Msg, a *attempt, o *outcome) (*schemas.Message, error) {
	if j.event.wait != "" {
		i := slices.IndexFunc(j.entry.Waits, func(w Wait) bool { return w.ID == j.event.wait })
		if i < 0 { // an event before it has ended the wait
			o.skipped = skippedSatisfied
			return nil, nil
		}
		w := &j.entry.Waits[i]
		a.id, a.resource, o.shortType = w.ID, w.Resource, TimeoutType
		return timeoutMessage(j.slot.opts.Name, j.call.token, w), nil
	}
	subject, _ := schemas.ParseSubject(msg.Subject)
	a.id, a.resource, o.shortType = msg.Header.Get(schemas.HeaderMsgID), subject.Resource, subject.Type
	if a.id == "" {
		a.id = j.slot.opts.Stream + "/" + strconv.FormatUint(j.event.seq, 10)
	}
	o.id = short(a.id)
	a.stored = &replay.StoredMessage{
		Stream: j.slot.opts.Stream, Sequence: j.event.seq, Subject: msg.Subject, Header: msg.Header, Data: msg.Data,
	}
	if slices.Contains(j.entry.Recent, o.id) {
		o.skipped, o.id = skippedDuplicate, ""
		return nil, nil
	}
	m, err := schemas.Parse(msg.Header, msg.Data)
	if err != nil {
		return nil, Permanent(err)
	}
	o.context = m.Event.OperationContext()
	o.ended = o.shortType == callDisconnected
	return m, nil
}

const callDisconnected = "CallDisconnected"

// stale returns why the handler should not get the event, or "".
func (j *job) stale(msg *nats.Msg, m *schemas.Message) (reason string, err error) {
	if msg == nil {
		return "", nil
	}
	s := j.slot
	subject, ok := schemas.ParseSubject(msg.Subject)
	switch {
	case !s.opts.wants(subject.Type):
		if subject.Type != callDisconnected && !s.maySkip(subject.Type, time.Now()) {
			return "", errMaybeWanted
		}
		return skippedType, nil
	case !s.opts.HandleReplays && msg.Header.Get(schemas.HeaderReplayID) != "":
		return skippedReplay, nil
	case s.opts.HandleStale:
		return "", nil
	case !m.Delivery.ExpiresAt.IsZero() && time.Now().After(m.Delivery.ExpiresAt):
		return skippedExpired, nil
	}
	meta, err := msg.Metadata()
	if err != nil || !ok || subject.Call == schemas.NoCall || subject.Type == callDisconnected || time.Since(meta.Timestamp) < staleAfter {
		return "", nil // an event that was parked is handled however long that took
	}
	_, err = leaderGet(j.ctx, s.js, s.opts.Stream, leaderGetRequest{
		LastFor: schemas.SubjectFilter(s.opts.Prefix, subject.Resource, callDisconnected, subject.Call),
	})
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("find out whether the call is over: %w", err)
	}
	return skippedOver, nil
}

// handle calls the service's handler.
func (j *job) handle(m *schemas.Message, a *attempt, o *outcome) {
	s := j.slot
	ctx, cancel := context.WithTimeout(j.ctx, s.opts.HandleTimeout)
	defer cancel()
	ctx = otel.GetTextMapPropagator().Extract(ctx, propagation.MapCarrier{schemas.HeaderTraceparent: m.Delivery.Traceparent})
	ctx, span := otel.Tracer("github.com/acsbridge/acsbridge/consume").Start(ctx, "handle "+o.shortType,
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
			attribute.String("messaging.system", "nats"), attribute.String("messaging.consumer.group.name", s.opts.Name),
			attribute.String("messaging.operation.type", "process"), attribute.String("messaging.operation.name", "handle"),
			attribute.String("messaging.destination.name", s.opts.Stream), attribute.String("messaging.destination.partition.id", s.name)))
	defer span.End()
	number := 1
	if r := j.entry.Retry; r != nil && r.Event == j.event.key() {
		number += r.Attempts
	}
	o.began = time.Now()
	state, err := j.protect(ctx, m, a, number)
	s.metrics.duration.Observe(time.Since(o.began).Seconds())
	if err != nil {
		span.SetStatus(codes.Error, "handler failed")
		o.fail(err)
		var pause *pauseError
		if errors.As(err, &pause) {
			s.pauseHandlers(err, pause.pause)
		}
		if pause != nil || j.ctx.Err() != nil { // not tried, or cut off
			o.err, o.notRun = nil, true
		}
		return
	}
	failpoint.At("consume-handled")
	if err := j.fits(state, a.waits); err != nil {
		s.opts.Logger.Error("the state of a call is too large to be stored: its event becomes a dead letter, and the call goes on with the state of before",
			slog.String("type", m.Event.Type), slog.Uint64("sequence", j.event.seq), slog.Any("error", err))
		o.fail(Permanent(err))
		return
	}
	o.state, o.waits = state, a.waits
}

// entryReserve is what an entry needs beside state and waits: its queue most of all, for
// which there must be room when the call is parked later.
const entryReserve = 32 << 10

// fits reports whether the bucket can store an entry with this state and these waits.
func (j *job) fits(state []byte, waits []Wait) error {
	waits = slices.Concat(j.entry.Waits, waits)
	text, err := json.Marshal(waits)
	if err != nil {
		return err
	}
	r := j.slot.replica
	most := r.nc.MaxPayload()
	if r.maxEntry > 0 {
		most = min(most, r.maxEntry)
	}
	if most -= min(entryReserve, most/2); int64(len(state)+len(text)) > most {
		return fmt.Errorf("the state of the call, with its waits, has %d bytes, and %d fit: keep less in it, or raise max_payload of the server", len(state)+len(text), most)
	}
	return nil
}

// protect turns a panic of the handler into an error.
func (j *job) protect(ctx context.Context, m *schemas.Message, a *attempt, number int) (state []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			j.slot.opts.Logger.Error("the handler panicked; its event is tried again",
				slog.String("type", m.Event.Type), slog.String("stack", string(debug.Stack())))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return j.slot.handle(ctx, j.call.token, j.entry, j.event.seq, number, a, m)
}

// fetch reads an event again that is in the entry of its call.
func (s *slot) fetch(ctx context.Context, seq uint64) (*nats.Msg, error) {
	raw, err := leaderGet(ctx, s.js, s.opts.Stream, leaderGetRequest{Seq: seq})
	if err != nil {
		return nil, err
	}
	return &nats.Msg{Subject: raw.Subject, Header: raw.Header, Data: raw.Data}, nil
}
