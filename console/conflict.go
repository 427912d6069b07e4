package console

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/replay/resend"
	"github.com/acsbridge/acsbridge/schemas"
)

// otherTimeout bounds the search for the other event of a conflict. Without that one, the
// page has the quarantined one alone.
const otherTimeout = 5 * time.Second

// storedEvent returns the event that the stream has under the id of a quarantined one, nil
// without, and what is wrong when there should be one.
func (c *Console) storedEvent(ctx context.Context, reader *replay.Reader, m *replay.StoredMessage) (stored *replay.StoredMessage, problem string) {
	if c.Decode == nil {
		return nil, ""
	}
	events, err := (&resend.Redrive{Reader: reader, Decode: c.Decode}).Messages(m)
	if err != nil || len(events) != 1 {
		return nil, "" // it has no event, which is why it is there
	}
	parts, ok := schemas.ParseSubject(events[0].Subject)
	if !ok {
		return nil, ""
	}
	ctx, cancel := context.WithTimeout(ctx, otherTimeout)
	defer cancel()
	selection := replay.Selection{CallToken: parts.Call, Types: []string{parts.Type}}
	if parts.Call == schemas.NoCall { // as of all events without a call
		selection.Since.Time, selection.Until.Time, err = storedBetween(ctx, reader, m)
	}
	if err == nil {
		stored, err = withMsgID(ctx, reader, selection, events[0].Header.Get(schemas.HeaderMsgID))
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Sprintf("the search for it took more than %s", otherTimeout)
	case err != nil:
		return nil, err.Error()
	case stored != nil || m.Header.Get(schemas.HeaderQuarantineReason) != "conflict":
		return stored, ""
	case !selection.Since.Time.IsZero():
		return nil, fmt.Sprintf("it is not among what was stored from %s to %s", date(selection.Since.Time), date(selection.Until.Time))
	}
	return nil, "the stream does not have it any more"
}

// withMsgID returns the first selected message with a message id, nil without.
func withMsgID(ctx context.Context, reader *replay.Reader, selection replay.Selection, id string) (*replay.StoredMessage, error) {
	for m, err := range reader.Read(ctx, selection) {
		if err != nil || m.Header.Get(schemas.HeaderMsgID) == id {
			return m, err
		}
	}
	return nil, nil
}

// storedBetween returns when the other event of a conflict was stored: within the stream's
// duplicate window before this one came, or twice that by a lookback (decision 9), until
// this one was set aside.
func storedBetween(ctx context.Context, reader *replay.Reader, m *replay.StoredMessage) (since, until time.Time, err error) {
	js, err := reader.JetStream(ctx)
	if err != nil {
		return since, until, err
	}
	stream, err := js.Stream(ctx, reader.Stream)
	if err != nil {
		return since, until, fmt.Errorf("stream %s: %w", reader.Stream, err)
	}
	since = m.ReceivedAt()
	if since.After(m.Time) { // by another clock
		since = m.Time
	}
	return since.Add(-2 * stream.CachedInfo().Config.Duplicates), m.Time, nil
}
