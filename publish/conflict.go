package publish

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/acsbridge/acsbridge/schemas"
)

// errConflict reports an event that the stream folded although it is not the
// one that is stored under its id.
//
// The body of a callback is not signed. Whoever holds a token could send an
// event with the id of one that is still to come, and make the real one look
// like a repetition: answered 200, and lost. So what was folded is compared
// with what is stored, and goes to quarantine when it differs. See
// docs/decisions/0010-compare-deduplicated-events-with-the-stored-ones.md.
var errConflict = errors.New("the stream has another event under the same id")

// reasonConflict is why such an event is in quarantine.
const reasonConflict = "conflict"

// Bounds of one comparison. A replica may have a message some milliseconds after
// its leader has answered for it.
const (
	compareWithin   = time.Second
	compareAttempts = 3
	comparePause    = 20 * time.Millisecond
)

// compare returns errConflict when the message at a sequence of the stream is
// another event than the record. Other errors say that it cannot be told.
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
// answers knows of nothing there.
func messageAt(ctx context.Context, js jetstream.JetStream, stream string, sequence uint64) (*jetstream.RawStreamMsg, error) {
	batch, err := jetstreamext.GetBatch(ctx, js, stream, 1, jetstreamext.GetBatchSeq(sequence))
	if err != nil {
		return nil, err
	}
	for msg, err := range batch {
		switch {
		case errors.Is(err, jetstreamext.ErrNoMessages):
			return nil, nil
		case err != nil:
			return nil, err
		case msg.Header.Get(jetstream.StreamHeader) != stream:
			return nil, errForeign
		case msg.Sequence != sequence: // the next one that there is
			return nil, nil
		}
		return msg, nil
	}
	return nil, errNoAnswer
}
