package consume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/schemas"
)

// Reasons of dead letters: a closed set, used as a metric label.
const (
	reasonPermanent     = "permanent"       // the handler said that no attempt can help
	reasonAttempts      = "attempts"        // so many have failed
	reasonAge           = "age"             // it has failed for so long
	reasonQueueFull     = "queue_full"      // too many events wait behind it
	reasonTooManyParked = "too_many_parked" // of all calls this one was parked for longest
)

// deadLetter is an event that is given up.
type deadLetter struct {
	slot, token string
	event       *event
	entry       *Entry
	outcome     *outcome // nil when the event was given up for its place
	reason      string
}

// publishDeadLetter stores a dead letter. The same one can be published again: the
// message id finds it.
func (s *slot) publishDeadLetter(ctx context.Context, d *deadLetter) error {
	origin, err := s.original(ctx, d)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		s.metrics.lost.Inc() // the stream has removed it
		return nil
	}
	if err != nil {
		return err
	}
	m := deadMessage(s.opts.Name, s.opts.Stream, d, origin, time.Now())
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if _, err := s.js.PublishMsg(ctx, m); err != nil {
		return fmt.Errorf("stream %s: %w", DeadStream(s.opts.Name), err)
	}
	s.metrics.dead.WithLabelValues(d.reason).Inc()
	s.letters.Log(s.opts.Logger, slog.LevelError, "an event was given up and is a dead letter: see acsbridge deadletters list",
		slog.String("reason", d.reason), slog.String("origin", m.Header.Get(schemas.HeaderDeadOrigin)), slog.String("stream", DeadStream(s.opts.Name)))
	return nil
}

// original returns the event of a dead letter; for a timeout, one made of its wait.
func (s *slot) original(ctx context.Context, d *deadLetter) (*nats.Msg, error) {
	if d.event.wait == "" {
		if d.event.msg != nil {
			return d.event.msg, nil
		}
		return s.fetch(ctx, d.event.seq)
	}
	i := slices.IndexFunc(d.entry.Waits, func(w Wait) bool { return w.ID == d.event.wait })
	if i < 0 {
		return nil, jetstream.ErrMsgNotFound
	}
	w := &d.entry.Waits[i]
	m := timeoutMessage(s.opts.Name, d.token, w)
	data, err := json.Marshal(m.Event)
	if err != nil {
		return nil, err
	}
	return &nats.Msg{
		Subject: strings.Join([]string{s.opts.Prefix, w.Resource, TimeoutType, d.slot, d.token}, "."),
		Header:  nats.Header{schemas.HeaderContentType: {"application/cloudevents+json"}},
		Data:    data,
	}, nil
}

// deadMessage returns the dead letter of an event. It has the event's headers but those
// that tell a stream how to store it: they would have it refused.
func deadMessage(service, stream string, d *deadLetter, origin *nats.Msg, now time.Time) *nats.Msg {
	_, rest, _ := strings.Cut(origin.Subject, ".")
	m := &nats.Msg{Subject: schemas.DeadPrefix + "." + service + "." + rest, Data: origin.Data, Header: make(nats.Header)}
	for name, values := range origin.Header {
		if !strings.HasPrefix(name, "Nats-") {
			m.Header[name] = values
		}
	}
	at := d.event.wait
	if at == "" {
		at = stream + "/" + strconv.FormatUint(d.event.seq, 10)
	}
	attempts := 0
	if r := d.entry.Retry; r != nil && r.Event == d.event.key() {
		attempts = r.Attempts
	}
	if d.outcome != nil {
		attempts++
		text, _ := schemas.HeaderValue(d.outcome.err.Error(), schemas.MaxHeaderValue)
		m.Header.Set(schemas.HeaderDeadError, text)
	}
	m.Header.Set(schemas.HeaderDeadReason, d.reason)
	m.Header.Set(schemas.HeaderDeadAttempts, strconv.Itoa(attempts))
	m.Header.Set(schemas.HeaderDeadOrigin, at)
	m.Header.Set(schemas.HeaderDeadSubject, origin.Subject)
	m.Header.Set(schemas.HeaderDeadAt, now.UTC().Format(time.RFC3339Nano))
	if id := origin.Header.Get(schemas.HeaderMsgID); id != "" {
		m.Header.Set(schemas.HeaderDeadMsgID, id)
	}
	// The same when this is tried again, and another one after a redrive.
	m.Header.Set(schemas.HeaderMsgID, short(fmt.Sprint(at, " ", d.reason, " ", d.entry.Epoch, " ", d.entry.Write)))
	return m
}
