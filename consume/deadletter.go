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
	outcome     *outcome // nil when the event was given up to make room
	Dead
}

// dead names the dead letter of the first event of a call: with the same id when it is
// tried again, and another one after a redrive.
func (s *slot) dead(c *call) Dead {
	if r := c.entry.Retry; r != nil && r.Dead != nil && r.about(c) && c.outcome == nil {
		return *r.Dead
	}
	d := Dead{Reason: c.bury, ID: short(fmt.Sprint(c.events[0].origin(s.opts.Stream), " ", c.bury, " ", c.entry.Epoch, " ", c.entry.Write))}
	if c.outcome != nil {
		d.Error, _ = schemas.HeaderValue(c.outcome.err.Error(), schemas.MaxHeaderValue)
	}
	return d
}

// origin names an event in a dead letter.
func (ev *event) origin(stream string) string {
	if ev.wait != "" {
		return ev.wait
	}
	return stream + "/" + ev.key()
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
	s.metrics.dead.WithLabelValues(d.Reason).Inc()
	s.letters.Log(s.opts.Logger, slog.LevelError, "an event was given up and is a dead letter: see acsbridge deadletters list --service NAME",
		slog.String("reason", d.Reason), slog.String("origin", m.Header.Get(schemas.HeaderDeadOrigin)), slog.String("stream", DeadStream(s.opts.Name)))
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
	attempts := 0
	if r := d.entry.Retry; r != nil && r.Event == d.event.key() {
		attempts = r.Attempts
	}
	if d.outcome != nil {
		attempts++
	}
	if d.Error != "" {
		m.Header.Set(schemas.HeaderDeadError, d.Error)
	}
	m.Header.Set(schemas.HeaderDeadReason, d.Reason)
	m.Header.Set(schemas.HeaderDeadAttempts, strconv.Itoa(attempts))
	m.Header.Set(schemas.HeaderDeadOrigin, d.event.origin(stream))
	m.Header.Set(schemas.HeaderDeadSubject, origin.Subject)
	m.Header.Set(schemas.HeaderDeadAt, now.UTC().Format(time.RFC3339Nano))
	if id := origin.Header.Get(schemas.HeaderMsgID); id != "" {
		m.Header.Set(schemas.HeaderDeadMsgID, id)
	}
	m.Header.Set(schemas.HeaderMsgID, d.ID)
	return m
}
