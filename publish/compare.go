package publish

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/directget"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/schemas"
)

// errConflict reports that the stream has another event under a record's message id.
//
// The body of a callback is not signed. A client with a token could send an event
// with the id of one that is still to come, and make the real one look like a
// duplicate: answered 200, and lost. So what the stream deduplicated is compared with
// what it has stored, and goes to quarantine when it differs. See
// docs/decisions/0010-compare-deduplicated-events-with-the-stored-ones.md.
var errConflict = errors.New("the stream has another event under the same id")

// reasonConflict is why such an event is in quarantine.
const reasonConflict = "conflict"

const (
	// maxCompares is how many comparisons are made at a time: a slow link must
	// manage all of them within compareWithin.
	maxCompares = 16
	// compareAgain is how long nothing is compared after a comparison failed: most
	// often the right is missing, and each attempt costs compareWithin.
	compareAgain = time.Minute
	// Bounds of one comparison. A replica may have a message some milliseconds after
	// its leader has answered for it.
	compareWithin   = time.Second
	compareAttempts = 3
	comparePause    = 20 * time.Millisecond
)

// comparer compares records that the stream deduplicated with what it has stored,
// beside the sender.
type comparer struct {
	forwarder *forwarder
	js        jetstream.JetStream
	results   chan comparison // has room for one of each record in flight
	running   sync.WaitGroup
	sem       chan struct{}
	// disabledUntil is when comparing is tried again, in nanoseconds since 1970.
	disabledUntil atomic.Int64
}

// comparison is how a compared record ended: it is stored, unless it was handed
// over to the quarantine or refused, or the comparison failed.
type comparison struct {
	index   uint64
	record  *record // what is in quarantine, after a conflict
	handed  bool
	refused string
	err     error
}

func newComparer(f *forwarder, js jetstream.JetStream) *comparer {
	return &comparer{forwarder: f, js: js, results: make(chan comparison, maxInFlight), sem: make(chan struct{}, maxCompares)}
}

// start compares a record with the message at a sequence of the stream. What differs
// is handed over to the quarantine, within the limit of its resource.
func (c *comparer) start(ctx context.Context, index uint64, r *record, sequence uint64) {
	c.running.Go(func() {
		c.sem <- struct{}{}
		defer func() { <-c.sem }()
		result := comparison{index: index, record: r}
		if result.err = c.compare(ctx, r, sequence); errors.Is(result.err, errConflict) {
			f := c.forwarder
			f.metrics.conflicts.Inc()
			f.conflicts.Log(f.logger, slog.LevelWarn, "event has the id of another one and goes to quarantine", slog.String("resource", r.resource()))
			q := r.quarantined(reasonConflict)
			result = comparison{index: index, record: q, refused: reasonQuarantine}
			if f.conflictLimit.Allow(q.resource(), len(q.payload), time.Now()) {
				result.handed, result.refused, result.err = f.handOver(ctx, q)
			}
		}
		c.results <- result
	})
}

// compare compares a record, unless comparing is disabled: when the stream does not
// permit it, the record counts as stored.
func (c *comparer) compare(ctx context.Context, r *record, sequence uint64) error {
	disabledUntil := c.disabledUntil.Load()
	if time.Now().UnixNano() < disabledUntil {
		return nil
	}
	err := compare(ctx, c.js, r, sequence)
	if err == nil || errors.Is(err, errConflict) || ctx.Err() != nil {
		return err
	}
	if !c.disabledUntil.CompareAndSwap(disabledUntil, time.Now().Add(compareAgain).UnixNano()) {
		return nil // another comparison failed meanwhile
	}
	err = c.forwarder.target.explain(err, time.Now().Add(-natsconn.RequestTimeout), apiSubject(c.js, "DIRECT.GET."+r.stream))
	c.forwarder.logger.Warn("repeated events cannot be compared with those in the stream for a minute: direct get fails", "error", err)
	return nil
}

// compare returns errConflict when the message at a sequence of the stream is
// another event than the record. Other errors say that the comparison failed.
func compare(ctx context.Context, js jetstream.JetStream, r *record, sequence uint64) error {
	if r.stream == schemas.QuarantineStream {
		return nil // its ids are made of the content
	}
	ctx, cancel := context.WithTimeout(ctx, compareWithin)
	defer cancel()
	for attempt := 1; ; attempt++ {
		stored, err := messageAt(ctx, js, r.stream, sequence)
		switch {
		case err != nil:
			return err
		case stored != nil && !bytes.Equal(stored.Data, r.payload):
			return errConflict
		case stored != nil || attempt == compareAttempts: // what is not there was removed since
			return nil
		}
		select {
		case <-time.After(comparePause):
		case <-ctx.Done():
		}
	}
}

// messageAt returns what the stream has at a sequence, nil when the replica that
// answers has nothing there.
func messageAt(ctx context.Context, js jetstream.JetStream, stream string, sequence uint64) (found *jetstream.RawStreamMsg, err error) {
	_, err = directget.Get(ctx, js, directget.Request{Stream: stream, Seq: sequence, Limit: 1}, func(m *jetstream.RawStreamMsg) bool {
		found = m
		return true
	})
	switch {
	case err != nil || found == nil || found.Sequence != sequence: // the next one that there is
		return nil, err
	case found.Header.Get(jetstream.StreamHeader) != stream:
		return nil, errForeign
	}
	return found, nil
}
