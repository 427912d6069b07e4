package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/acsbridge/acsbridge/schemas"
)

// Reader reads one stream. Any number of readings can go on at a time.
type Reader struct {
	// JetStream returns the way to NATS; it waits while NATS is away, and fails
	// when its context ends.
	JetStream func(context.Context) (jetstream.JetStream, error)

	Stream string // such as [schemas.Stream]
	Prefix string // first token of its subjects, such as [schemas.SubjectPrefix]

	// Interval is how long a reading that follows waits at the end of the stream
	// before it asks again; longer when answers are slow. Zero means 200 ms.
	Interval time.Duration

	// Notice is told what a reading goes on in spite of: a [*MissedError], an
	// [*OldSubjectsError], an outage, a replica that is behind. Nil means nobody
	// wants to know.
	Notice func(error)
}

// Bounds of one request. What is late still takes up the link when the next
// request is made, so a link must manage one within its time.
const (
	batchMessages = 1024
	batchBytes    = 1 << 20
	answerWithin  = 10 * time.Second
)

const (
	defaultInterval = 200 * time.Millisecond
	// load is how much longer the pause is than the answer took. A filtered
	// request can cost the server many milliseconds in a stream of a million
	// subjects; so it spends at most a tenth of one processor on a reading that
	// follows.
	load = 10
)

// Read returns the selected messages in the order of the stream. A reading that
// fails ends with an error, a [*StoppedError] when it can go on; when ctx ends,
// with the context's error. It is one batch ahead of the loop over it.
func (r *Reader) Read(ctx context.Context, s Selection) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		p := &passage{Reader: r, Selection: s, subject: s.filter(r.Prefix), next: s.Since.Sequence, exact: s.Since.Sequence > 0}
		inner, cancel := context.WithCancel(ctx)
		batches := make(chan batch)
		go p.run(inner, batches)
		defer func() {
			cancel()
			for range batches { // until it has ended
			}
		}()
		for b := range batches {
			for _, m := range b.messages {
				if m.missed != nil {
					r.notice(m.missed)
				}
				if !yield(m, nil) {
					return
				}
			}
			if b.err != nil {
				yield(nil, b.err)
				return
			}
		}
		if err := ctx.Err(); err != nil && !p.done {
			yield(nil, err)
		}
	}
}

// batch is what one request has brought.
type batch struct {
	messages []*Message
	err      error // ends the reading
}

// passage is one reading on its way through the stream.
type passage struct {
	*Reader
	Selection
	subject string // filter, or "" when everything is read

	next  uint64 // sequence to go on at; zero when only Since.Time is known
	exact bool   // next is the next one indeed: what is between it and an answer is missed
	read  int    // messages so far
	done  bool

	answered time.Time // when an answer was complete last
	more     bool      // the stream held more then
	failed   int       // requests in a row

	end    uint64    // the last sequence that a reading must reach that does not follow
	ended  bool      // end is known
	looked time.Time // at the stream, when following

	sighted, blind bool // whether the stream can be looked at

	oldSubjects bool // looked for, or found, subjects without a slot
}

// run makes one request after another until the reading ends.
func (p *passage) run(ctx context.Context, out chan<- batch) {
	defer close(out)
	for !p.done {
		messages, err := p.advance(ctx)
		select {
		case out <- batch{messages, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// advance makes one request, pauses when there was nothing to be had, and
// returns the messages to hand on. An error ends the reading.
func (p *passage) advance(ctx context.Context) ([]*Message, error) {
	p.overtaken(ctx)
	asked := time.Now()
	batch, more, err := p.request(ctx)
	p.read += len(batch)
	if p.done || ctx.Err() != nil {
		return batch, ctx.Err()
	}
	if err == nil {
		p.answered, p.more = time.Now(), more
		p.noticeOldSubjects(ctx)
	}
	if err == nil && !more {
		err = p.atEnd(ctx)
	}
	if err != nil {
		if len(batch) > 0 {
			p.failed = 0
		}
		return batch, p.again(ctx, err)
	}
	if p.failed > attempts {
		p.notice(fmt.Errorf("the reading of stream %s goes on", p.Stream))
	}
	p.failed = 0
	if more || p.done || len(batch) > 0 { // what is at hand goes out before a pause
		return batch, nil
	}
	if u := p.Until.Time; !u.IsZero() && asked.After(u) {
		p.done = true
		return nil, nil
	}
	return nil, pause(ctx, max(p.interval(), load*time.Since(asked)))
}

func (p *passage) interval() time.Duration {
	if p.Interval > 0 {
		return p.Interval
	}
	return defaultInterval
}

// request asks for one batch. More means that the stream holds more of them;
// the error says why the answer ended early, after the messages returned.
func (p *passage) request(ctx context.Context) (messages []*Message, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	js, err := p.JetStream(ctx)
	if err != nil {
		return nil, false, err
	}
	size := batchMessages
	if p.Limit > 0 {
		size = min(size, p.Limit-p.read)
	}
	ctx, broken := context.WithCancelCause(ctx)
	defer whenBroken(js.Conn(), func() { broken(errBroken) })()
	answer, err := jetstreamext.GetBatch(ctx, js, p.Stream, size, p.from()...)
	if err != nil {
		return nil, false, err
	}
	var last, left uint64
	for raw, err := range answer {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return nil, false, nil
		}
		if err != nil {
			return messages, false, cmp.Or(context.Cause(ctx), err)
		}
		// Each message names the one before it in the answer (ADR-31): one is
		// missing when the connection broke in between.
		before, err := strconv.ParseUint(raw.Header.Get(headerLast), 10, 64)
		if err != nil || before != last || raw.Sequence < p.next {
			return messages, false, fmt.Errorf("sequence %d came after %d", raw.Sequence, last)
		}
		if left, err = strconv.ParseUint(raw.Header.Get(headerPending), 10, 64); err != nil {
			return messages, false, fmt.Errorf("header %s: %w", headerPending, err)
		}
		last = raw.Sequence
		if !p.take(newMessage(p.Stream, raw), &messages) {
			return messages, false, nil
		}
	}
	if last == 0 {
		return nil, false, errNoAnswer
	}
	return messages, left > 0, nil // the answer may have ended early, at its time
}

// whenBroken calls f when the connection breaks before done is called: what was
// not answered by then never is.
func whenBroken(nc *nats.Conn, f func()) (done func()) {
	changes := nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	go func() {
		if _, changed := <-changes; changed {
			f()
		}
	}()
	return func() { nc.RemoveStatusListener(changes) }
}

// from says where the next batch begins.
func (p *passage) from() []jetstreamext.GetBatchOpt {
	options := []jetstreamext.GetBatchOpt{jetstreamext.GetBatchMaxBytes(batchBytes)}
	switch {
	case p.next > 0:
		options = append(options, jetstreamext.GetBatchSeq(p.next))
	case !p.Since.Time.IsZero():
		options = append(options, jetstreamext.GetBatchStartTime(p.Since.Time))
	}
	if p.subject != "" {
		options = append(options, jetstreamext.GetBatchSubject(p.subject))
	}
	return options
}

// take adds a message to those to hand on. It reports whether there can be
// more.
func (p *passage) take(m *Message, messages *[]*Message) bool {
	if p.after(m) {
		p.done = true
		return false
	}
	if p.subject == "" && p.exact && m.Sequence > p.next {
		m.missed = &MissedError{Stream: p.Stream, First: p.next, Last: m.Sequence - 1}
	}
	if !p.oldSubjects && strings.HasPrefix(m.Subject, p.Prefix+".") && schemas.WithSlot(m.Subject) != m.Subject {
		p.oldSubjects = true
		p.notice(&OldSubjectsError{p.Stream, p.Prefix})
	}
	p.next, p.exact = m.Sequence+1, true
	*messages = append(*messages, m)
	p.done = p.Limit > 0 && p.read+len(*messages) >= p.Limit || m.Sequence == p.Until.Sequence
	return !p.done
}

func (r *Reader) notice(err error) {
	if r.Notice != nil {
		r.Notice(err)
	}
}

// pause waits, or ends with ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
