package replay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/internal/directget"
	"github.com/acsbridge/acsbridge/schemas"
)

const (
	// maxAttempts is how often in a row a request may fail. A reading that follows
	// goes on trying, with a warning.
	maxAttempts = 5
	// infoTimeout bounds a request for the stream's state. Without the right to it
	// there is no answer.
	infoTimeout = 3 * time.Second
	// truncatedAfter is the pause between two requests in which the limits of a
	// stream can have deleted messages before they were read.
	truncatedAfter = time.Second
	// infoIntervals is how many intervals pass until a reading that follows checks
	// again that the stream is still the same.
	infoIntervals = 50
)

var retryBackoff = backoff.Doubling{First: 100 * time.Millisecond, Last: 5 * time.Second}

// MissedError reports messages that should have been read and that the stream does
// not hold any more: its limits deleted them before they were read, or an operator
// did.
type MissedError struct {
	Stream      string
	First, Last uint64 // sequences
	// Filtered means that it is not known whether messages of the selection were
	// among them.
	Filtered bool
}

func (e *MissedError) Error() string {
	if e.Filtered {
		return fmt.Sprintf("stream %s does not hold sequences %d to %d any more; the events of the selection among them are missed", e.Stream, e.First, e.Last)
	}
	if e.First == e.Last {
		return fmt.Sprintf("stream %s does not hold sequence %d any more", e.Stream, e.First)
	}
	return fmt.Sprintf("stream %s does not hold sequences %d to %d any more", e.Stream, e.First, e.Last)
}

// StoppedError reports a reading that ended early and can be continued.
type StoppedError struct {
	Stream string
	Next   uint64 // sequence to continue at; zero when nothing was read yet
	Err    error
}

func (e *StoppedError) Error() string {
	return fmt.Sprintf("read stream %s from sequence %d on: %v", e.Stream, max(e.Next, 1), e.Err)
}

func (e *StoppedError) Unwrap() error { return e.Err }

// ErrRecreated reports a stream that ends before what was read of it.
var ErrRecreated = errors.New("the stream ends before what was read of it: it was created again, or lost messages; read it from the start")

var errBehind = errors.New("the replica that answers is behind the stream")

// Info returns the state and the configuration of the stream, as its leader knows
// them. It needs the right to $JS.API.STREAM.INFO.<stream>.
func (r *Reader) Info(ctx context.Context) (*jetstream.StreamInfo, error) {
	stream, err := r.stream(ctx)
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}

func (r *Reader) stream(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	js, err := r.JetStream(ctx)
	if err != nil {
		return nil, err
	}
	return js.Stream(ctx, r.Stream)
}

// stream returns the stream with its state, or nil when that is not to be had. It
// is not asked for again when the first request failed: the right is missing.
func (c *cursor) stream(ctx context.Context) jetstream.Stream {
	if c.infoTried && !c.infoAllowed {
		return nil
	}
	stream, err := c.reader.stream(ctx)
	if ctx.Err() == nil {
		c.infoTried = true
	}
	if err != nil {
		return nil
	}
	c.infoAllowed = true
	return stream
}

// checkTruncated warns when the stream's limits have deleted messages that a filtered
// reading has not reached: one that was delayed, or begins in the middle. Without a
// filter the next message says so.
func (c *cursor) checkTruncated(ctx context.Context) {
	held := c.answeredAt.IsZero() || c.more && time.Since(c.answeredAt) > truncatedAfter
	if c.subject == "" || !c.exact || !held {
		return
	}
	stream := c.stream(ctx)
	if stream == nil {
		return
	}
	if first := stream.CachedInfo().State.FirstSeq; first > c.next {
		c.reader.warn(&MissedError{Stream: c.reader.Stream, First: c.next, Last: first - 1, Filtered: true})
		c.next = first
	}
}

// atEnd handles an answer after which the replica has no more messages.
func (c *cursor) atEnd(ctx context.Context) error {
	if c.selection.Follow {
		if time.Since(c.infoAt) < infoIntervals*c.interval() {
			return nil
		}
		c.infoAt = time.Now()
		if stream := c.stream(ctx); stream != nil && c.read > 0 && stream.CachedInfo().State.LastSeq+1 < c.next {
			return ErrRecreated
		}
		return nil
	}
	if !c.endKnown {
		stream := c.stream(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.endKnown = true
		switch {
		case stream == nil:
		case c.subject != "":
			c.warnOfLag(stream.CachedInfo())
		case c.next > 0:
			c.end = directget.LastSequence(ctx, stream, time.Time{})
		default:
			c.end = directget.LastSequence(ctx, stream, c.selection.Since.Time)
		}
	}
	if c.end > 0 && c.next <= c.end {
		return errBehind
	}
	c.done = true
	return nil
}

// warnOfLag warns that a replica may have answered that lacks the last messages. In a
// reading with a filter nothing else shows it.
func (c *cursor) warnOfLag(info *jetstream.StreamInfo) {
	if info.Cluster == nil {
		return
	}
	for _, replica := range info.Cluster.Replicas {
		if !replica.Current || replica.Offline {
			c.reader.warn(fmt.Errorf("replica %s of stream %s is behind: if it has answered, the events stored last are missing here; ask again",
				replica.Name, c.reader.Stream))
		}
	}
}

// retry waits before another request is made. An error ends the reading.
func (c *cursor) retry(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, ErrRecreated) {
		return fmt.Errorf("stream %s: %w", c.reader.Stream, err)
	}
	if c.failures++; c.answeredAt.IsZero() || errors.Is(err, directget.ErrUnsupported) {
		return fmt.Errorf("read stream %s: %w", c.reader.Stream, c.explain(ctx, err))
	}
	if c.failures > maxAttempts && !c.selection.Follow {
		return &StoppedError{Stream: c.reader.Stream, Next: c.next, Err: err}
	}
	if c.failures == maxAttempts+1 {
		c.reader.warn(fmt.Errorf("read stream %s: %w; the reading continues when that is over", c.reader.Stream, c.explain(ctx, err)))
	}
	return backoff.Wait(ctx, retryBackoff.After(c.failures))
}

// explain adds to the error of a request what to do, as far as that can be found out.
func (c *cursor) explain(ctx context.Context, err error) error {
	if errors.Is(err, directget.ErrUnsupported) {
		return fmt.Errorf("%w; it needs nats-server 2.11 or newer", err)
	}
	info, infoErr := c.reader.Info(ctx)
	switch {
	case errors.Is(infoErr, jetstream.ErrStreamNotFound):
		return fmt.Errorf("%w; there is no stream %s: another name, account or domain?", err, c.reader.Stream)
	case infoErr != nil:
		return fmt.Errorf("%w; it needs direct get and the right to $JS.API.DIRECT.GET.%s", err, c.reader.Stream)
	case !info.Config.AllowDirect:
		return fmt.Errorf("%w; the stream has no direct get: nats stream edit %s --allow-direct", err, c.reader.Stream)
	}
	return err
}

// OldSubjectsError reports a stream with subjects of the form before there were
// slots: acs.<resource>.<EventType>.<callConnectionId>. A filter does not find them.
type OldSubjectsError struct{ Stream, Prefix string }

func (e *OldSubjectsError) Error() string {
	return fmt.Sprintf("stream %[1]s holds events with subjects of the old form %[2]s.<resource>.<EventType>.<callConnectionId>, without a slot, which filters do not find. "+
		"To keep them: acsbridge replay --since all --to file:FILE; what is sent from that file has subjects of today. To remove them: nats stream purge %[1]s --subject '%[2]s.*.*.*'",
		e.Stream, e.Prefix)
}

// checkOldSubject warns once of a message without a slot in its subject.
func (c *cursor) checkOldSubject(m *StoredMessage) {
	if !c.oldSubjects && strings.HasPrefix(m.Subject, c.reader.Prefix+".") && schemas.WithSlot(m.Subject) != m.Subject {
		c.oldSubjects = true
		c.reader.warn(&OldSubjectsError{c.reader.Stream, c.reader.Prefix})
	}
}

// findOldSubjects asks once whether the stream has events that a selection by
// resource, type or call misses because their subjects have no slot.
func (c *cursor) findOldSubjects(ctx context.Context) {
	s := c.selection
	if c.oldSubjects || s.Resource == "" && len(s.Types) == 0 && s.Call == "" {
		return
	}
	c.oldSubjects = true
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	js, err := c.reader.JetStream(ctx)
	if err != nil {
		return
	}
	q := directget.Request{Stream: c.reader.Stream, Seq: 1, Subject: c.reader.Prefix + ".*.*.*", Limit: 1}
	_, _ = directget.Get(ctx, js, q, func(*jetstream.RawStreamMsg) bool { // without an answer there is nothing to warn of
		c.reader.warn(&OldSubjectsError{c.reader.Stream, c.reader.Prefix})
		return false
	})
}
