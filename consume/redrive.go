package consume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/directget"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

const (
	wakeLifetime    = 5 * time.Minute // of the key that tells the owner of a slot
	redriveAttempts = 20              // the owner of the slot writes the same entry
)

// Redrive gives events of a call, by their sequences in the stream, to a service once
// more, before those of the call that wait, and lets a call go on that is held. Without
// sequences it does the latter alone. No other service gets them. [schemas.HeaderDeadOrigin] of a
// dead letter has the sequence. The service's next replica that looks, within ten
// seconds, takes them up; an event that the stream has removed by then is counted as
// skipped. An event that the service has not had yet is an error. It needs the right to
// read and write the service's bucket.
func Redrive(ctx context.Context, js jetstream.JetStream, service, call string, sequences ...uint64) (err error) {
	b, token := newBucket(js, service), schemas.CallToken(call)
	slot := schemas.Slot(token)
	for range redriveAttempts {
		if err = b.redrive(ctx, slot, token, sequences); natsconn.Code(err) != jetstream.JSErrCodeStreamWrongLastSequence {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("consume: redrive to service %s: %w", service, err)
	}
	wake := b.message(wakeKey(slot, token), nil, 0, wakeLifetime)
	wake.Header.Del(jetstream.ExpectedLastSubjSeqHeader)
	if _, err := b.put(ctx, wake); err != nil {
		return fmt.Errorf("consume: redrive to service %s: the entry was changed, and is taken up when the slot has another owner: %w", service, err)
	}
	return nil
}

// ErrNoEntry reports a call that the service does not know.
var ErrNoEntry = errors.New("the bucket has no entry of this call")

// redrive changes the entry of a call, when no other writes it at the same time.
func (b *bucket) redrive(ctx context.Context, slot, token string, sequences []uint64) error {
	e, revision, err := b.entry(ctx, slot, token)
	switch {
	case err != nil:
		return err
	case e == nil && len(sequences) == 0:
		return ErrNoEntry
	}
	if err := b.checkHandled(ctx, slot, e, sequences); err != nil {
		return err
	}
	if e == nil {
		e = &Entry{}
	}
	e.Held = false
	for _, seq := range sequences {
		if !slices.Contains(e.Queue, seq) {
			e.Queue = append(e.Queue, seq)
		}
		e.Cursor = max(e.Cursor, seq)
	}
	slices.Sort(e.Queue) // several redrives, one after the other, keep the order too
	value, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = b.put(ctx, b.message(callKey(slot, token), value, revision, e.lifetime(time.Now(), idleLifetime)))
	return err
}

// checkHandled returns an error when the service has not had all of the events: the
// position of the call must not move past others that wait. When the entry has expired,
// that of the slot decides.
func (b *bucket) checkHandled(ctx context.Context, slot string, e *Entry, sequences []uint64) error {
	if len(sequences) == 0 {
		return nil
	}
	var had uint64
	if e != nil {
		had = e.Cursor
	} else if value, _, err := b.get(ctx, readKey(slot)); err != nil {
		return err
	} else if value != nil {
		if had, err = strconv.ParseUint(string(value), 10, 64); err != nil {
			return fmt.Errorf("key %s: %w", readKey(slot), err)
		}
	}
	if newest := slices.Max(sequences); newest > had {
		return fmt.Errorf("the service has not had the event with sequence %d yet: give it those that it has had", newest)
	}
	return nil
}

// checkWakes looks for calls whose entries were changed by [Redrive].
func (s *slot) checkWakes(ctx context.Context) {
	from := s.woken + 1
	go func() {
		q := directget.Request{Stream: s.bucket.stream, Seq: from, Subject: s.bucket.prefix + wakeKey(s.name, "*")}
		var tokens []string
		last := from - 1
		_, err := directget.Get(ctx, s.js, q, func(m *jetstream.RawStreamMsg) bool {
			last = m.Sequence
			if !removed(m.Header) {
				tokens = append(tokens, callOf(m.Subject))
			}
			return true
		})
		s.post(func(now time.Time) error {
			if err != nil && ctx.Err() == nil {
				s.warn("cannot look for redriven events; this is tried again", err)
			}
			s.woken = max(s.woken, last)
			for _, token := range tokens {
				s.calls.wakeUp(token, now)
			}
			return nil
		})
	}()
}

// RedriveLetter gives the event of a dead letter to its service once more, as [Redrive]
// does it. The event must be in the stream of that name.
func RedriveLetter(ctx context.Context, js jetstream.JetStream, service, stream string, letter *replay.StoredMessage) error {
	sequence, err := letterSequence(stream, letter)
	if err != nil {
		return err
	}
	return Redrive(ctx, js, service, callOf(letter.Subject), sequence)
}

// CheckLetter returns why [RedriveLetter] would refuse a dead letter. It changes nothing.
func CheckLetter(ctx context.Context, js jetstream.JetStream, service, stream string, letter *replay.StoredMessage) error {
	sequence, err := letterSequence(stream, letter)
	if err != nil {
		return err
	}
	b, token := newBucket(js, service), callOf(letter.Subject)
	slot := schemas.Slot(token)
	e, _, err := b.entry(ctx, slot, token)
	if err == nil {
		err = b.checkHandled(ctx, slot, e, []uint64{sequence})
	}
	if err != nil {
		return fmt.Errorf("consume: redrive to service %s: %w", service, err)
	}
	return nil
}

// letterSequence returns the sequence of the event of a dead letter in its stream.
func letterSequence(stream string, letter *replay.StoredMessage) (uint64, error) {
	origin, text, _ := strings.Cut(letter.Header.Get(schemas.HeaderDeadOrigin), "/")
	sequence, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, errors.New("it is a timeout, which cannot come again; drop it, with --release if the service holds its call")
	}
	if origin != stream {
		return 0, fmt.Errorf("its event is in stream %s; name that with --stream", origin)
	}
	return sequence, nil
}
