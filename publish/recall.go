package publish

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/acsbridge/acsbridge/schemas"
)

// recall knows what a stream has held for longer than it remembers itself.
//
// The stream folds a repetition as long as its duplicate window lasts. A
// record that waits in the journal for longer, through an outage or a restart,
// may have a twin in the stream that is out of the window: it was sent before
// and its answer was lost, or the sender delivered the event twice. So before
// the first record is sent that is older than a quarter of a window, the
// message ids of the stream's tail are read back: from a window before the
// record was received to the end. What is stored later than that reading is in
// the stream's own window, and after half of it the reading goes on.
//
// So a repetition that is received within half a window of its twin's storing
// is folded, however long an outage lies between. The last quarter of the
// window is left for the way to the stream and for clocks that differ.
//
// Kept are the ids of the records that wait in the journal when the tail is read
// first, and for those that come later what was stored within the window before
// that, and since. What others stored during a long outage has no bound.
//
// It outlives sessions: a cluster whose nodes come and go ends one every few
// seconds, and reading a tail takes as long.
type recall struct {
	js      jetstream.JetStream
	backlog func(ctx context.Context, stream string, from uint64) (map[messageID]uint64, error)
	logger  *slog.Logger
	metrics *metrics
	tails   map[string]*tail // by stream
}

// tail is what was read back of one stream.
type tail struct {
	since time.Time // when the first message of it was stored, or before
	read  time.Time // when the reading began that found the last; zero in a new session
	next  uint64    // sequence to go on at, zero before the first reading
	last  messageID // of the message before next
	// ids have the sequences of what is kept, or zero for what waits in the
	// journal and the stream does not have. Of what was stored since recent, all
	// is kept.
	ids    map[messageID]uint64
	recent time.Time
}

// messageID is what is kept of a message id: enough that two never coincide.
type messageID [16]byte

func hashID(id string) messageID {
	sum := sha256.Sum256([]byte(id))
	return messageID(sum[:])
}

// Bounds of one request for a tail. What is late still takes up the link when
// the next request is made, so a link must manage one within its time.
const (
	recallMessages = 1024
	recallBytes    = 1 << 20
	recallWithin   = 10 * time.Second
)

// begin takes up a session. What was read back is believed once the stream is
// seen to hold the last of it still, and is read on to the present end.
func (c *recall) begin(js jetstream.JetStream) {
	c.js = js
	for _, t := range c.tails {
		t.read = time.Time{}
	}
}

// knows returns the sequence under which the stream has the record that the
// journal has at index, or zero. It looks only as far as the stream itself may
// have forgotten it. The window is the stream's.
func (c *recall) knows(ctx context.Context, index uint64, r *record, window time.Duration) (uint64, error) {
	age := time.Since(r.receivedAt)
	if age.Abs() <= window/8 {
		clear(c.tails) // the backlog is done with, also when records are not quite in the order of their times
	}
	if age.Abs() <= window/4 {
		return 0, nil
	}
	since := r.receivedAt.Add(-window)
	if age < 0 {
		since = time.Time{} // our clock was set back: the time says nothing
	}
	t, err := c.tail(ctx, r.stream, index, since, window)
	if err != nil {
		return 0, err
	}
	if time.Since(t.read) > window/2 {
		if err := c.readBack(ctx, r.stream, t); err != nil {
			return 0, unread(r.stream, err)
		}
	}
	return t.ids[hashID(r.msgID())], nil
}

// tail returns what was read back of a stream, or is to be, for the records of
// the journal from index on.
func (c *recall) tail(ctx context.Context, stream string, index uint64, since time.Time, window time.Duration) (*tail, error) {
	if t := c.tails[stream]; t != nil && !t.since.After(since.Add(window/2)) {
		if !t.read.IsZero() {
			return t, nil
		}
		held, err := c.holds(ctx, stream, t)
		if err != nil {
			return nil, unread(stream, err)
		}
		if held {
			return t, nil
		}
	}
	ids, err := c.backlog(ctx, stream, index)
	if err != nil {
		return nil, err
	}
	if c.tails == nil {
		c.tails = make(map[string]*tail)
	}
	t := &tail{since: since, recent: time.Now().Add(-window), ids: ids}
	c.tails[stream] = t
	return t, nil
}

// unread says that a stream's tail could not be read back because of err.
func unread(stream string, err error) error {
	return fmt.Errorf("read back what stream %s holds, before records are sent that may be there: direct get: %w", stream, err)
}

// holds reports whether the stream still has what was read of it last. One that
// was lost, or its end, has nothing there or something else.
func (c *recall) holds(ctx context.Context, stream string, t *tail) (bool, error) {
	if t.next == 0 {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, recallWithin)
	defer cancel()
	m, err := messageAt(ctx, c.js, stream, t.next-1)
	return m != nil && hashID(m.Header.Get(schemas.HeaderMsgID)) == t.last, err
}

// readBack reads the tail to the stream's end, one bounded request after
// another.
func (c *recall) readBack(ctx context.Context, stream string, t *tail) error {
	began := time.Now()
	newest := c.newest(ctx, stream, t.since)
	var messages int
	for more := true; more; {
		var n int
		var err error
		if n, more, err = c.readBatch(ctx, stream, t); err != nil {
			return err
		}
		messages += n
	}
	if newest > 0 && t.next <= newest {
		return fmt.Errorf("the replica that answered is behind: it ends before sequence %d", newest)
	}
	level := slog.LevelDebug
	if t.read.IsZero() {
		level = slog.LevelInfo
	}
	t.read = began
	c.logger.Log(ctx, level, "read back what the stream holds, for records older than a quarter of its duplicate window",
		"stream", stream, "since", t.since, "messages", messages, "duration_seconds", time.Since(began).Seconds())
	return nil
}

// newest returns the sequence of the stream's last message, or zero when it was
// stored before since, was deleted or is not to be learned. A direct get is
// answered by any replica, also by one that was cut off for long; about the
// stream itself only its leader answers.
func (c *recall) newest(ctx context.Context, stream string, since time.Time) uint64 {
	held, err := c.js.Stream(ctx, stream)
	if err != nil {
		return 0 // we may not look, or nobody leads it: then it takes nothing either
	}
	state := held.CachedInfo().State
	if state.NumDeleted > 0 {
		info, err := held.Info(ctx, jetstream.WithDeletedDetails(true))
		if err != nil || slices.Contains(info.State.Deleted, state.LastSeq) {
			return 0
		}
	}
	if state.Msgs == 0 || state.LastTime.Before(since) {
		return 0
	}
	return state.LastSeq
}

// readBatch reads at most recallMessages more. It returns how many came, and
// whether there are more of them.
func (c *recall) readBatch(ctx context.Context, stream string, t *tail) (n int, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, recallWithin)
	defer cancel()
	from := jetstreamext.GetBatchStartTime(t.since)
	if t.next > 0 {
		from = jetstreamext.GetBatchSeq(t.next)
	}
	batch, err := jetstreamext.GetBatch(ctx, c.js, stream, recallMessages, from, jetstreamext.GetBatchMaxBytes(recallBytes))
	if err != nil {
		return 0, false, err
	}
	var last, left uint64
	for msg, err := range batch {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return n, false, nil
		}
		if err != nil {
			return n, false, err
		}
		if msg.Header.Get(jetstream.StreamHeader) != stream {
			return n, false, errForeign
		}
		// Each message names the one before it in the batch (ADR-31: JetStream
		// Direct Get): one is missing when the connection broke in between.
		before, err := strconv.ParseUint(msg.Header.Get("Nats-Last-Sequence"), 10, 64)
		if err != nil || before != last {
			return n, false, fmt.Errorf("sequence %d came after %d", msg.Sequence, last)
		}
		if left, err = strconv.ParseUint(msg.Header.Get("Nats-Num-Pending"), 10, 64); err != nil {
			return n, false, err
		}
		id := hashID(msg.Header.Get(schemas.HeaderMsgID))
		if _, waits := t.ids[id]; waits || msg.Time.After(t.recent) {
			t.ids[id] = msg.Sequence
		}
		last, t.next, t.last = msg.Sequence, msg.Sequence+1, id
		n++
		c.metrics.recalled.Inc()
	}
	if n == 0 {
		return 0, false, errNoAnswer
	}
	return n, left > 0, nil // the batch may have ended early, at its time
}
