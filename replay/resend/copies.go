package resend

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// Copies publishes copies of messages under another prefix, or under their own.
//
// A copy has the payload and the headers of its original, without those that are
// instructions to the server, and three of its own: the id of the replay, the stream
// and sequence of the original, and the time of sending. Its message id is made of the
// first two. So a copy that is sent twice within the duplicate window is stored once,
// and the copies of a second replay are not duplicates of the first.
type Copies struct {
	// JetStream returns the connection to JetStream; see [replay.Reader].
	JetStream func(context.Context) (jetstream.JetStream, error)

	ID     string // of the replay
	Prefix string // replaces the first token of the subject; it can be several tokens

	// Source is the stream of the originals. Copies may be stored there only when
	// Live is set, and then nowhere else.
	Source string
	Live   bool
}

// Retries of one copy.
const (
	copyAttempts = 8
	ackWithin    = 5 * time.Second
)

var copyBackoff = backoff.Doubling{First: 100 * time.Millisecond, Last: 5 * time.Second}

// serverHeaders is the prefix of headers that are instructions to the server (ADR-4).
const serverHeaders = "Nats-"

// Copy returns the copy of a message that is sent at a time.
func (c *Copies) Copy(m *replay.StoredMessage, at time.Time) *nats.Msg {
	_, rest, _ := strings.Cut(schemas.WithSlot(m.Subject), ".")
	out := &nats.Msg{Subject: c.Prefix + "." + rest, Header: make(nats.Header, len(m.Header)+4), Data: m.Data}
	for name, values := range m.Header {
		if !strings.HasPrefix(name, serverHeaders) {
			out.Header[name] = values
		}
	}
	of := m.Stream + "/" + strconv.FormatUint(m.Sequence, 10)
	out.Header.Set(schemas.HeaderMsgID, c.ID+"#"+of)
	out.Header.Set(schemas.HeaderReplayID, c.ID)
	out.Header.Set(schemas.HeaderReplayOf, of)
	out.Header.Set(schemas.HeaderReplayAt, at.UTC().Format(time.RFC3339Nano))
	if c.Live {
		out.Header.Set(schemas.HeaderExpectedStream, c.Source)
	}
	return out
}

// Send publishes a copy and waits for its acknowledgement in another goroutine.
func (c *Copies) Send(ctx context.Context, m *replay.StoredMessage, done func(error)) {
	future, err := c.publish(ctx, m)
	go func() { done(c.await(ctx, m, future, err)) }()
}

// Flush has nothing to do: a copy that is acknowledged is stored.
func (c *Copies) Flush() error { return nil }

func (c *Copies) publish(ctx context.Context, m *replay.StoredMessage) (jetstream.PubAckFuture, error) {
	js, err := c.JetStream(ctx)
	if err != nil {
		return nil, err
	}
	return js.PublishMsgAsync(c.Copy(m, time.Now()), jetstream.WithRetryAttempts(0))
}

// await waits for the acknowledgement of a copy and publishes it again as often as
// that helps.
func (c *Copies) await(ctx context.Context, m *replay.StoredMessage, future jetstream.PubAckFuture, err error) error {
	for attempt := 1; ; attempt++ {
		if err == nil {
			err = c.acknowledged(future)
		}
		if err == nil || foreign(err) || ctx.Err() != nil {
			return err
		}
		if natsconn.Final(err) != "" {
			return &RejectedError{m.Sequence, fmt.Errorf("publish: %w", err)}
		}
		if attempt >= attemptsAfter(err) {
			return c.explain(m, err)
		}
		if backoff.Wait(ctx, copyBackoff.After(attempt)) != nil {
			return err
		}
		future, err = c.publish(ctx, m)
	}
}

// attemptsAfter returns how often a copy is published at most. When no stream answers
// for seconds, a permanent fault is likely: the election of a leader takes a second.
func attemptsAfter(err error) int {
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return 5
	case errors.Is(err, jetstream.ErrAsyncPublishTimeout):
		return 3
	}
	return copyAttempts
}

// acknowledged waits for the answer to a publish, also when the replay ends meanwhile:
// only the answer says whether the copy is stored.
func (c *Copies) acknowledged(future jetstream.PubAckFuture) error {
	timer := time.NewTimer(ackWithin)
	defer timer.Stop()
	select {
	case ack := <-future.Ok():
		if ack.Sequence == 0 || c.Live != (ack.Stream == c.Source) {
			return &foreignError{ack.Stream}
		}
		return nil
	case err := <-future.Err():
		return err
	case <-timer.C:
		return jetstream.ErrAsyncPublishTimeout
	}
}

// foreignError reports an acknowledgement of a stream that must not have the copy.
type foreignError struct{ stream string }

func (e *foreignError) Error() string {
	return fmt.Sprintf("stream %s stored a copy that was meant for another; the replay ends here", e.stream)
}

func foreign(err error) bool {
	_, ok := errors.AsType[*foreignError](err)
	return ok
}

// explain says what to do about a copy that could not be published.
func (c *Copies) explain(m *replay.StoredMessage, err error) error {
	err = fmt.Errorf("publish a copy of sequence %d: %w", m.Sequence, err)
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return fmt.Errorf("%w; no stream has this subject: nats stream add --subjects '%s.>' --defaults makes one", err, c.Prefix)
	case errors.Is(err, jetstream.ErrAsyncPublishTimeout):
		return fmt.Errorf("%w; is the right to publish on %s.> missing?", err, c.Prefix)
	}
	return err
}
