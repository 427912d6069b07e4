package publish

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
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
// the first record is sent that is older than half a window, the message ids
// of the stream's tail are read back: from a window before the record was
// received to the end. What is stored later than that reading is in the
// stream's own window, for as long as half of it; then the reading goes on.
//
// So a repetition that is received within half a window of its twin's storing
// is folded, however long an outage lies between. The other half of the window
// is left for clocks that differ.
type recall struct {
	js      jetstream.JetStream
	logger  *slog.Logger
	metrics *metrics
	tails   map[string]*tail // by stream
}

// tail is what was read back of one stream.
type tail struct {
	since time.Time            // when the first message of it was stored, or before
	read  time.Time            // when the reading began that found the last
	next  uint64               // sequence to go on at, zero before the first reading
	ids   map[messageID]uint64 // sequences
}

// messageID is what is kept of a message id: enough that two never coincide,
// 16 bytes for each event of the last hours in a large backlog.
type messageID [16]byte

func hashID(id string) messageID {
	sum := sha256.Sum256([]byte(id))
	return messageID(sum[:])
}

// Bounds of one request for a tail.
const (
	recallMessages = 1024
	recallBytes    = 4 << 20
)

// knows returns the sequence under which the stream has the record, or zero. It
// looks only as far as the stream itself may have forgotten it. The window is
// the stream's.
func (c *recall) knows(ctx context.Context, r *record, window time.Duration) (uint64, error) {
	age := time.Since(r.receivedAt)
	if age.Abs() <= window/2 {
		clear(c.tails) // the backlog is done with
		return 0, nil
	}
	since := r.receivedAt.Add(-window)
	if age < 0 {
		since = time.Time{} // our clock was set back: the time says nothing
	}
	t := c.tails[r.stream]
	if t == nil || t.since.After(since.Add(window/2)) {
		t = &tail{since: since, ids: make(map[messageID]uint64)}
		if c.tails == nil {
			c.tails = make(map[string]*tail)
		}
		c.tails[r.stream] = t
	}
	if time.Since(t.read) > window/2 {
		if err := c.readBack(ctx, r.stream, t); err != nil {
			delete(c.tails, r.stream)
			return 0, fmt.Errorf("read stream %s back after an outage (needs nats-server 2.11, direct get, and the right to $JS.API.DIRECT.GET.%s): %w", r.stream, r.stream, err)
		}
	}
	return t.ids[hashID(r.msgID())], nil
}

// readBack reads the tail to the stream's end, one bounded request after
// another.
func (c *recall) readBack(ctx context.Context, stream string, t *tail) error {
	began := time.Now()
	for more := true; more; {
		var err error
		if more, err = c.readBatch(ctx, stream, t); err != nil {
			return err
		}
	}
	t.read = began
	c.logger.Info("read back what the stream holds, for records older than half its duplicate window",
		"stream", stream, "since", t.since, "messages", len(t.ids), "took", time.Since(began))
	return nil
}

// readBatch reads at most recallMessages more, and reports whether there are
// more of them.
func (c *recall) readBatch(ctx context.Context, stream string, t *tail) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	from := jetstreamext.GetBatchStartTime(t.since)
	if t.next > 0 {
		from = jetstreamext.GetBatchSeq(t.next)
	}
	batch, err := jetstreamext.GetBatch(ctx, c.js, stream, recallMessages, from, jetstreamext.GetBatchMaxBytes(recallBytes))
	if err != nil {
		return false, err
	}
	var left string
	for msg, err := range batch {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		t.ids[hashID(msg.Header.Get(schemas.HeaderMsgID))] = msg.Sequence
		t.next = msg.Sequence + 1
		left = msg.Header.Get("Nats-Num-Pending")
		c.metrics.recalled.Inc()
	}
	if left == "" {
		return false, errors.New("no answer")
	}
	pending, err := strconv.ParseUint(left, 10, 64)
	return pending > 0, err
}
