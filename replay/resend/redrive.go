package resend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// Redrive publishes quarantined callbacks and dead letters as events.
//
// It cannot verify a token again, since that expires within minutes. Like every reader
// of the stream it trusts that only the bridge writes to the quarantine stream and to
// the dead-letter file. It checks everything else: that the headers are those of a
// verified callback, that the body consists of events by the present rules, and that
// subject and message id are theirs. The resource is that of the token, never one that
// the body names.
type Redrive struct {
	Reader *replay.Reader // of the event stream

	// Decode reads a body as the bridge does: that of a callback, or that of a
	// delivery of Event Grid.
	Decode func(grid bool, contentType string, body []byte) ([]schemas.Inbound, error)

	// NewID stores an event under a message id of its own when the stream has another
	// event with its id. Otherwise such an event is refused.
	NewID bool
}

// ErrOtherEvent reports that another event in the stream has the id of an event.
var ErrOtherEvent = errors.New("the stream has another event under this id")

// tokenHeaders are set by the bridge for every token.
var tokenHeaders = []string{
	schemas.HeaderTokenIssuer, schemas.HeaderTokenAudience, schemas.HeaderTokenKeyID, schemas.HeaderTokenExpires,
}

// tokenGrace is how long after the expiry of its token a callback can have arrived:
// the longest leeway of the bridge.
const tokenGrace = 5 * time.Minute

// Messages returns the events that a quarantined callback holds, as the bridge
// would have published them, or says why it holds none.
func (r *Redrive) Messages(m *replay.StoredMessage) ([]*nats.Msg, error) {
	tokens := strings.Split(m.Subject, ".")
	if m.Stream != schemas.QuarantineStream || len(tokens) != 3 || tokens[0] != schemas.QuarantinePrefix ||
		tokens[2] != m.Header.Get(schemas.HeaderQuarantineReason) {
		return nil, errors.New("it is not a callback in quarantine")
	}
	if err := verified(m.Header, tokens[1]); err != nil {
		return nil, err
	}
	events, err := r.decode(m)
	if err != nil {
		return nil, err
	}
	list := make([]*nats.Msg, len(events))
	for i := range events {
		list[i] = r.message(m, tokens[1], events, i)
	}
	return list, nil
}

// message returns one event of a quarantined callback.
func (r *Redrive) message(m *replay.StoredMessage, resource string, events []schemas.Inbound, i int) *nats.Msg {
	e := &events[i]
	out := nats.NewMsg(schemas.Subject(r.Reader.Prefix, resource, e))
	out.Data = e.Raw
	for name, values := range m.Header {
		if schemas.CallbackHeader(name) {
			out.Header[name] = values
		}
	}
	received, _ := time.Parse(time.RFC3339Nano, m.Header.Get(schemas.HeaderReceivedAt)) // verified has read it
	h := schemas.Headers{Truncated: slices.DeleteFunc(m.Truncated(), func(name string) bool { return !schemas.CallbackHeader(name) })}
	h.Event(e, r.Reader.Stream, i, len(events), received)
	h.Add(schemas.HeaderRedrivenFrom, m.Stream+"/"+strconv.FormatUint(m.Sequence, 10))
	for _, header := range h.Finish() {
		out.Header.Set(header.Name, header.Value)
	}
	if r.NewID {
		out.Header.Set(schemas.HeaderMsgID, m.Header.Get(schemas.HeaderMsgID)+"#"+strconv.Itoa(i))
	}
	return out
}

// Letter returns the message of a dead letter, for the present stream and prefix. A
// letter whose parts contradict each other was not written by the bridge.
func (r *Redrive) Letter(m *replay.StoredMessage) (*nats.Msg, error) {
	out := &nats.Msg{Subject: m.Subject, Header: maps.Clone(m.Header), Data: m.Data}
	tokens := strings.Split(m.Subject, ".")
	switch {
	case m.Subject == "":
		return nil, errors.New("its content is lost; ask ACS for the event")
	case len(tokens) < 3 || m.Header.Get(schemas.HeaderExpectedStream) != m.Stream:
		return nil, errors.New("its subject and its headers are not those of a record")
	}
	if err := verified(m.Header, tokens[1]); err != nil {
		return nil, err
	}
	if m.Stream == schemas.QuarantineStream {
		if m.Subject != schemas.QuarantineSubject(tokens[1], m.Header.Get(schemas.HeaderQuarantineReason)) {
			return nil, errors.New("its subject is not that of its reason")
		}
		return out, nil
	}
	events, err := r.decode(m)
	if err != nil {
		return nil, err
	}
	e := &events[0]
	out.Subject = schemas.Subject(r.Reader.Prefix, tokens[1], e)
	switch {
	case len(events) != 1 || !subjectOf(m.Subject, out.Subject):
		return nil, errors.New("its subject is not that of its event")
	case m.Header.Get(schemas.HeaderMsgID) != e.MsgID():
		return nil, errors.New("its message id is not that of its event")
	}
	out.Header.Set(schemas.HeaderExpectedStream, r.Reader.Stream)
	return out, nil
}

// subjectOf reports whether a subject is that of an event by the rules of today, or
// was by earlier ones: without a slot, with a GUID in capitals, or no id where one is
// found now. Its prefix may be another.
func subjectOf(subject, want string) bool {
	had, ok := schemas.ParseSubject(subject)
	has, _ := schemas.ParseSubject(want)
	return ok && had.Resource == has.Resource && had.Type == has.Type &&
		(schemas.NormalizeID(had.Call) == has.Call || had.Call == schemas.NoCall)
}

func (r *Redrive) decode(m *replay.StoredMessage) ([]schemas.Inbound, error) {
	return r.Decode(fromGrid(m.Header), m.Header.Get(schemas.HeaderContentType), m.Data)
}

// fromGrid reports whether Event Grid has delivered it, which says so.
func fromGrid(h nats.Header) bool {
	return h.Get(schemas.HeaderGridSubscription) != "" || h.Get(schemas.HeaderGridDeliveryCount) != ""
}

// verified holds headers against those that the bridge gives to a callback that it
// has verified for a resource. Only a delivery of Event Grid can have come with a
// key in the place of a token.
func verified(h nats.Header, resource string) error {
	for _, name := range []string{schemas.HeaderDeliveryID, schemas.HeaderReceivedAt} {
		if h.Get(name) == "" {
			return fmt.Errorf("header %s is missing, which every verified callback has", name)
		}
	}
	if h.Get(schemas.HeaderResource) != resource {
		return fmt.Errorf("header %s is not the resource of its subject", schemas.HeaderResource)
	}
	received, err := time.Parse(time.RFC3339Nano, h.Get(schemas.HeaderReceivedAt))
	if err != nil {
		return fmt.Errorf("header %s is not a time", schemas.HeaderReceivedAt)
	}
	tokenless := !slices.ContainsFunc(tokenHeaders, func(name string) bool { return h.Get(name) != "" })
	if tokenless && fromGrid(h) {
		return nil
	}
	for _, name := range tokenHeaders {
		if h.Get(name) == "" {
			return fmt.Errorf("header %s is missing, which every verified callback has", name)
		}
	}
	exp, err := strconv.ParseInt(h.Get(schemas.HeaderTokenExpires), 10, 64)
	if err != nil {
		return fmt.Errorf("header %s is not a date", schemas.HeaderTokenExpires)
	}
	if received.After(time.Unix(exp, 0).Add(tokenGrace)) {
		return errors.New("it came after its token had expired")
	}
	return nil
}

// Check returns why [Redrive.Publish] would refuse an event for what the stream has. It
// stores nothing.
func (r *Redrive) Check(ctx context.Context, m *nats.Msg) error {
	_, err := r.known(ctx, m)
	return err
}

// known reports whether the stream has an event, or ErrOtherEvent.
func (r *Redrive) known(ctx context.Context, m *nats.Msg) (bool, error) {
	if m.Header.Get(schemas.HeaderExpectedStream) != r.Reader.Stream {
		return false, nil
	}
	held, err := r.held(ctx, m.Subject, m.Header.Get(schemas.HeaderMsgID))
	if err != nil || held == nil {
		return false, err
	}
	return true, compare(held, m)
}

// Publish stores an event unless the stream has it already, also long after the
// duplicate window. It returns ErrOtherEvent when another event in the stream has its
// id.
func (r *Redrive) Publish(ctx context.Context, m *nats.Msg) error {
	if known, err := r.known(ctx, m); err != nil || known {
		return err
	}
	stream := m.Header.Get(schemas.HeaderExpectedStream)
	js, err := r.Reader.JetStream(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, ackWithin)
	defer cancel()
	ack, err := js.PublishMsg(ctx, m)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if ack.Stream != stream || ack.Sequence == 0 {
		return &foreignError{ack.Stream}
	}
	if ack.Duplicate && stream == r.Reader.Stream { // it came in between
		held, err := r.held(ctx, m.Subject, m.Header.Get(schemas.HeaderMsgID))
		if err != nil {
			return err
		}
		return compare(held, m)
	}
	return nil
}

// held returns what the stream has under a subject and a message id, or nil.
func (r *Redrive) held(ctx context.Context, subject, id string) (*replay.StoredMessage, error) {
	parts, ok := schemas.ParseSubject(subject)
	if !ok {
		return nil, errors.New("the subject is not that of an event")
	}
	s := replay.Selection{Resource: parts.Resource, Types: []string{parts.Type}, CallToken: parts.Call}
	for m, err := range r.Reader.Read(ctx, s) {
		if err != nil || m.Header.Get(schemas.HeaderMsgID) == id {
			return m, err
		}
	}
	return nil, nil
}

func compare(held *replay.StoredMessage, m *nats.Msg) error {
	if held == nil || !bytes.Equal(held.Data, m.Data) {
		return ErrOtherEvent
	}
	return nil
}
