package publish

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/directget"
	"github.com/acsbridge/acsbridge/schemas"
)

// lookback finds records that the stream has already, for longer than the stream
// remembers their message ids itself.
//
// The stream deduplicates within its duplicate window. A record that waits in the
// journal for longer, through an outage or a restart, may be in the stream and
// outside of the window: it was sent before and its acknowledgement was lost, or the
// sender delivered the event twice. So before a record is sent that is older than a
// quarter of a window, the message ids at the end of the stream are read: from one
// window before the record was received. What is stored after that is in the stream's
// own window, and after half a window the reading goes on.
//
// So a duplicate that is received within half a window after the first one was stored
// is found, however long an outage lies between. The last quarter of the window is
// left for the way to the stream and for clocks that differ.
//
// Kept are the ids of the records that are pending when the stream is read first,
// from the cursor on: records overtake one another. For records that are appended
// later it keeps what was stored within the window before that, and since. What
// others stored during a long outage has no bound.
//
// It outlives senders: a cluster whose nodes come and go ends one every few seconds,
// and reading a long stretch takes as long. It is used by one goroutine.
type lookback struct {
	js      jetstream.JetStream
	pending func(ctx context.Context, stream string, from uint64) (map[messageID]uint64, error)
	logger  *slog.Logger
	metrics *metrics
	ends    map[string]*streamEnd // by stream
}

// streamEnd is what was read of the end of one stream.
type streamEnd struct {
	since time.Time // when the first message of it was stored, or before
	read  time.Time // when the reading began that found the last; zero for a new sender
	next  uint64    // sequence to go on at, zero before the first reading
	last  messageID // of the message before next

	messages int // how many were read
	// ids have the sequences of what is kept, or zero for records that are pending and
	// not in the stream. Of what was stored since recent, all is kept.
	ids    map[messageID]uint64
	recent time.Time
}

// messageID is what is kept of a message id: enough that two never coincide.
type messageID [16]byte

func hashID(id string) messageID {
	sum := sha256.Sum256([]byte(id))
	return messageID(sum[:])
}

// begin prepares for a new sender. What was read counts once the stream is seen to
// hold the last of it still, and is read on to the present end.
func (l *lookback) begin(js jetstream.JetStream) {
	l.js = js
	for _, t := range l.ends {
		t.read = time.Time{}
	}
}

// find returns the sequence under which the stream has a record that is sent next, or
// zero. It reads only as far as the stream itself may have forgotten it. The window is
// the stream's.
//
// What was read is forgotten when the oldest pending record is young. The one that is
// sent next may be young long before: records overtake those of a call that has many.
func (l *lookback) find(ctx context.Context, r *record, oldest *entry, window time.Duration) (sequence uint64, err error) {
	now := time.Now()
	if now.Sub(oldest.record.receivedAt).Abs() <= window/8 {
		clear(l.ends) // not at a quarter: records are not quite in the order of their times
	}
	age := now.Sub(r.receivedAt)
	if age.Abs() <= window/4 {
		return 0, nil
	}
	since := r.receivedAt.Add(-window)
	if age < 0 {
		since = time.Time{} // our clock was set back: the time says nothing
	}
	t, err := l.endOf(ctx, r.stream, oldest.index, since, window)
	if err != nil {
		return 0, err
	}
	if time.Since(t.read) > window/2 {
		if err := l.read(ctx, r.stream, t); err != nil {
			return 0, lookbackError(r.stream, err)
		}
	}
	return t.ids[hashID(r.msgID())], nil
}

// endOf returns what was read of a stream, or is to be, for records that were received
// one window after since. From is the index of the oldest pending record.
func (l *lookback) endOf(ctx context.Context, stream string, from uint64, since time.Time, window time.Duration) (*streamEnd, error) {
	if t := l.ends[stream]; t != nil && !t.since.After(since.Add(window/2)) {
		if !t.read.IsZero() {
			return t, nil
		}
		held, err := l.holds(ctx, stream, t)
		if err != nil {
			return nil, lookbackError(stream, err)
		}
		if held {
			return t, nil
		}
	}
	ids, err := l.pending(ctx, stream, from)
	if err != nil {
		return nil, err
	}
	if l.ends == nil {
		l.ends = make(map[string]*streamEnd)
	}
	t := &streamEnd{since: since, recent: time.Now().Add(-window), ids: ids}
	l.ends[stream] = t
	return t, nil
}

// lookbackError says what could not be done because of err.
func lookbackError(stream string, err error) error {
	return fmt.Errorf("look back in stream %s, before records are sent that it may have: direct get: %w", stream, err)
}

// holds reports whether the stream still has what was read of it last. One that
// was lost, or its end, has nothing there or something else.
func (l *lookback) holds(ctx context.Context, stream string, t *streamEnd) (bool, error) {
	if t.next == 0 {
		return false, nil
	}
	m, err := messageAt(ctx, l.js, stream, t.next-1)
	return m != nil && hashID(m.Header.Get(schemas.HeaderMsgID)) == t.last, err
}

// read reads to the stream's end, one bounded request after another.
func (l *lookback) read(ctx context.Context, stream string, t *streamEnd) error {
	began := time.Now()
	var newest uint64 // zero also when the right is missing, or the stream has no leader: then it takes nothing either
	if held, err := l.js.Stream(ctx, stream); err == nil {
		newest = directget.LastSequence(ctx, held, t.since)
	}
	before := t.messages
	for more := true; more; {
		var err error
		if more, err = l.readBatch(ctx, stream, t); err != nil {
			return err
		}
	}
	if newest > 0 && t.next <= newest {
		return fmt.Errorf("the replica that answered is behind: it ends before sequence %d", newest)
	}
	level := slog.LevelDebug
	if t.read.IsZero() {
		level = slog.LevelInfo
	}
	t.read = began
	l.logger.Log(ctx, level, "looked back in the stream for records older than a quarter of its duplicate window",
		"stream", stream, "since", t.since, "messages", t.messages-before, "duration_seconds", time.Since(began).Seconds())
	return nil
}

// readBatch makes one request, and reports whether the stream holds more.
func (l *lookback) readBatch(ctx context.Context, stream string, t *streamEnd) (more bool, err error) {
	foreign := false
	more, err = directget.Get(ctx, l.js, directget.Request{Stream: stream, Seq: t.next, Since: t.since}, func(m *jetstream.RawStreamMsg) bool {
		if foreign = m.Header.Get(jetstream.StreamHeader) != stream; foreign {
			return false
		}
		id := hashID(m.Header.Get(schemas.HeaderMsgID))
		if _, waits := t.ids[id]; waits || m.Time.After(t.recent) {
			t.ids[id] = m.Sequence
		}
		t.next, t.last = m.Sequence+1, id
		t.messages++
		l.metrics.lookback.Inc()
		return true
	})
	if foreign {
		return false, errForeign
	}
	return more, err
}
