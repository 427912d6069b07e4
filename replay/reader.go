package replay

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/internal/directget"
)

// Reader reads one stream. Any number of readings can run at a time.
type Reader struct {
	// JetStream returns the connection to JetStream; it waits while NATS is disconnected, and
	// fails when its context ends.
	JetStream func(context.Context) (jetstream.JetStream, error)

	Stream string // such as [schemas.Stream]
	Prefix string // first token of its subjects, such as [schemas.SubjectPrefix]

	// Index has the ids of the latest events; nil without one. See [Reader.Story].
	Index *Index

	// Interval is how long a reading that follows waits at the end of the stream
	// before it asks again; longer when answers are slow. Zero means 200 ms.
	Interval time.Duration

	// OnWarning is called with each fault that a reading continues after: a
	// [*MissedError], an [*OldSubjectsError], an outage, a replica that is behind. It
	// may be nil.
	OnWarning func(error)
}

const (
	defaultInterval = 200 * time.Millisecond
	// idleFactor is how much longer the pause is than the answer took. A filtered
	// request can cost the server many milliseconds in a stream of a million
	// subjects; so it spends at most a tenth of one processor on a reading that
	// follows.
	idleFactor = 10
)

// Read returns the selected messages in the order of the stream. A reading that
// fails ends with an error, a [*StoppedError] when it can be continued; when ctx
// ends, with the context's error. It is one batch ahead of the loop over it.
func (r *Reader) Read(ctx context.Context, s Selection) iter.Seq2[*StoredMessage, error] {
	return func(yield func(*StoredMessage, error) bool) {
		c := &cursor{reader: r, selection: s, subject: s.filter(r.Prefix), next: s.Since.Sequence, exact: s.Since.Sequence > 0}
		inner, cancel := context.WithCancel(ctx)
		batches := make(chan batch)
		go c.run(inner, batches)
		defer func() {
			cancel()
			for range batches { // until run has ended
			}
		}()
		for b := range batches {
			for _, e := range b.entries {
				if e.missed != nil {
					r.warn(e.missed)
				}
				if !yield(e.message, nil) {
					return
				}
			}
			if b.err != nil {
				yield(nil, b.err)
				return
			}
		}
		if err := ctx.Err(); err != nil && !c.done {
			yield(nil, err)
		}
	}
}

func (r *Reader) warn(err error) {
	if r.OnWarning != nil {
		r.OnWarning(err)
	}
}

// batch holds the messages of one request.
type batch struct {
	entries []entry
	err     error // ends the reading
}

type entry struct {
	message *StoredMessage
	missed  error // a [*MissedError] about the messages before it
}

// cursor is the place of one reading in the stream.
type cursor struct {
	reader    *Reader
	selection Selection
	subject   string // filter, or "" when everything is read

	next  uint64 // sequence to continue at; zero when only Since.Time is known
	exact bool   // next follows the message before it: the sequences up to the next message are missed
	read  int    // messages so far
	done  bool

	answeredAt time.Time // when an answer was complete last
	more       bool      // the stream held more then
	failures   int       // requests in a row that failed

	end      uint64 // the last sequence that a reading which does not follow must reach
	endKnown bool

	infoAt                 time.Time // when a reading that follows asked for the stream's state
	infoTried, infoAllowed bool

	oldSubjects bool // whether subjects without a slot were looked for, or found
}

// run makes one request after another until the reading ends.
func (c *cursor) run(ctx context.Context, out chan<- batch) {
	defer close(out)
	for !c.done {
		entries, err := c.nextBatch(ctx)
		select {
		case out <- batch{entries, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// nextBatch makes one request, and waits when it brings nothing. An error ends the
// reading.
func (c *cursor) nextBatch(ctx context.Context) ([]entry, error) {
	c.checkTruncated(ctx)
	asked := time.Now()
	entries, more, err := c.request(ctx)
	c.read += len(entries)
	if c.done || ctx.Err() != nil {
		return entries, ctx.Err()
	}
	if err == nil {
		c.answeredAt, c.more = time.Now(), more
		c.findOldSubjects(ctx)
	}
	if err == nil && !more {
		err = c.atEnd(ctx)
	}
	if err != nil {
		if len(entries) > 0 {
			c.failures = 0
		}
		return entries, c.retry(ctx, err)
	}
	if c.failures > maxAttempts {
		c.reader.warn(fmt.Errorf("the reading of stream %s continues", c.reader.Stream))
	}
	c.failures = 0
	if more || c.done || len(entries) > 0 { // messages are handed on before a pause
		return entries, nil
	}
	if u := c.selection.Until.Time; !u.IsZero() && asked.After(u) {
		c.done = true
		return nil, nil
	}
	return nil, backoff.Wait(ctx, max(c.interval(), idleFactor*time.Since(asked)))
}

func (c *cursor) interval() time.Duration { return cmp.Or(c.reader.Interval, defaultInterval) }

// request asks for one batch. More means that the stream holds more messages; the
// error says why the answer ended early, after the messages returned.
func (c *cursor) request(ctx context.Context) (entries []entry, more bool, err error) {
	within, cancel := context.WithTimeout(ctx, directget.Timeout)
	defer cancel()
	js, err := c.reader.JetStream(within)
	if err != nil {
		return nil, false, err
	}
	q := directget.Request{Stream: c.reader.Stream, Seq: c.next, Since: c.selection.Since.Time, Subject: c.subject}
	several := len(c.selection.Types) > 1 // which the subject does not select
	limit := 0
	if c.selection.Limit > 0 {
		limit = c.selection.Limit - c.read
	}
	if !several {
		q.Limit = limit
	}
	more, err = directget.Get(ctx, js, q, func(raw *jetstream.RawStreamMsg) bool {
		directget.StripHeaders(raw.Header)
		m := &StoredMessage{Stream: c.reader.Stream, Sequence: raw.Sequence, Time: raw.Time, Subject: raw.Subject, Header: raw.Header, Data: raw.Data}
		if c.selection.after(m) {
			c.done = true
			return false
		}
		e := entry{message: m}
		if c.subject == "" && c.exact && m.Sequence > c.next {
			e.missed = &MissedError{Stream: m.Stream, First: c.next, Last: m.Sequence - 1}
		}
		c.checkOldSubject(m)
		if !several || c.selection.selectsType(m) {
			entries = append(entries, e)
		} else if e.missed != nil {
			c.reader.warn(e.missed)
		}
		c.next, c.exact = m.Sequence+1, true
		c.done = limit > 0 && len(entries) == limit || m.Sequence == c.selection.Until.Sequence
		return !c.done
	})
	return entries, more, err
}
