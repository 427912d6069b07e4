package consume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/directget"
	"github.com/acsbridge/acsbridge/schemas"
)

// Status is what NATS knows of a service; see [Inspect].
type Status struct {
	Service string
	// Lag is how many events the service has not received yet, and Received how many it
	// has in memory, which are neither handled nor in an entry.
	Lag      uint64
	Received int
	// Oldest is when the oldest event was stored that is not handled: one of these, or of
	// a parked call. Zero: all are handled, or the stream has removed the oldest one.
	Oldest time.Time

	// What the entries of the bucket say, up to MaxInspected of them; Partial reports that
	// there are more.
	Calls   int // that have not ended
	Parked  int // with an event that has failed, or that waits behind one
	Held    int // of the parked ones, those that wait for a redrive
	Waiting int // with a wait for an event
	Partial bool
	// ParkedCalls are the last tokens of the subjects of parked calls, some of them.
	ParkedCalls []string

	DeadLetters uint64
	Owners      map[string]string // replica by slot; a slot without an owner is missing
	Replicas    []string          // that are there, also those that stand by
}

// MaxInspected bounds how many entries [Inspect] reads, some ten seconds' worth.
const MaxInspected = 500_000

// maxParkedCalls is how many parked calls are named.
const maxParkedCalls = 100

// Services returns the names of the services that consume a stream: those with a bucket
// and a consumer. It needs the rights to list streams, and to look at their consumers.
func Services(ctx context.Context, js jetstream.JetStream, stream string) (names []string, err error) {
	streams := js.StreamNames(ctx)
	for name := range streams.Name() {
		service, ok := strings.CutPrefix(name, "KV_"+bucketPrefix)
		if !ok {
			continue
		}
		_, err := js.Consumer(ctx, stream, ConsumerName(service, slots[:1]))
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("consumer of service %s: %w", service, err)
		}
		names = append(names, service)
	}
	slices.Sort(names)
	return names, streams.Err()
}

// Inspect returns the status of a service that consumes a stream. It changes nothing, and
// reads all entries of the service, a thousand at a time, but not what they have as
// state. It needs the rights to get the information of stream, consumers, bucket and
// dead-letter stream, to read the stream, and to direct get from the bucket.
func Inspect(ctx context.Context, js jetstream.JetStream, service, stream string) (*Status, error) {
	s := &Status{Service: service, Owners: make(map[string]string)}
	if err := s.add(ctx, newBucket(js, service), stream); err != nil {
		return nil, fmt.Errorf("consume: inspect service %s: %w", service, err)
	}
	return s, nil
}

// add adds all that is known of the service.
func (s *Status) add(ctx context.Context, b *bucket, stream string) error {
	if err := s.addReplicas(ctx, b); err != nil {
		return err
	}
	events, err := b.js.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("stream %s: %w", stream, err)
	}
	first, err := s.addConsumers(ctx, events)
	if err != nil {
		return err
	}
	kept, err := s.addEntries(ctx, b)
	if err != nil {
		return err
	}
	oldest, err := oldestOf(ctx, events, first, kept)
	if err != nil {
		return fmt.Errorf("stream %s: %w", stream, err)
	}
	if oldest != nil {
		s.Oldest = oldest.Time
	}
	name := DeadStream(s.Service)
	switch dead, err := b.js.Stream(ctx, name); {
	case err == nil:
		s.DeadLetters = dead.CachedInfo().State.Msgs
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("stream %s: %w", name, err)
	}
	return nil
}

// addReplicas adds who is there and who has which slot.
func (s *Status) addReplicas(ctx context.Context, b *bucket) error {
	err := b.members(ctx, func(first, second string, m *jetstream.RawStreamMsg) {
		var lease leaseValue
		switch {
		case removed(m.Header):
		case second != "lease":
			s.Replicas = append(s.Replicas, second)
		case json.Unmarshal(m.Data, &lease) == nil:
			s.Owners[first] = lease.Replica
		}
	})
	slices.Sort(s.Replicas)
	return err
}

// addConsumers adds what the consumers have to do, and returns the first event of it.
func (s *Status) addConsumers(ctx context.Context, events jetstream.Stream) (first *jetstream.RawStreamMsg, err error) {
	for _, slot := range strings.Split(slots, "") {
		name := ConsumerName(s.Service, slot)
		consumer, err := events.Consumer(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("consumer %s: %w", name, err)
		}
		info := consumer.CachedInfo()
		s.Lag += info.NumPending
		s.Received += info.NumAckPending
		if info.NumPending == 0 && info.NumAckPending == 0 {
			continue
		}
		for _, filter := range subjects(&info.Config) {
			m, err := events.GetMsg(ctx, info.AckFloor.Stream+1, jetstream.WithGetMsgSubject(filter))
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if first == nil || m.Sequence < first.Sequence {
				first = m
			}
		}
	}
	return first, nil
}

// addEntries counts the entries, and returns the lowest sequence of an event that is kept
// in one, zero for none.
func (s *Status) addEntries(ctx context.Context, b *bucket) (oldest uint64, err error) {
	q := directget.Request{Stream: b.stream, Seq: 1, Subject: b.prefix + callKey("*", "*")}
	for read, more := 0, true; more; {
		if more, err = directget.Get(ctx, b.js, q, func(m *jetstream.RawStreamMsg) bool {
			q.Seq, read = m.Sequence+1, read+1
			var e struct { // an Entry without what may be large
				Queue []uint64        `json:"queue"`
				Retry json.RawMessage `json:"retry"`
				Waits []struct{}      `json:"waits"`
				Ended bool            `json:"ended"`
				Held  bool            `json:"held"`
			}
			if removed(m.Header) || json.Unmarshal(m.Data, &e) != nil {
				return true
			}
			if !e.Ended {
				s.Calls++
			}
			if len(e.Queue) > 0 || len(e.Retry) > 0 || e.Held {
				if s.Parked++; len(s.ParkedCalls) < maxParkedCalls {
					s.ParkedCalls = append(s.ParkedCalls, callOf(m.Subject))
				}
			}
			if e.Held {
				s.Held++
			}
			if len(e.Waits) > 0 {
				s.Waiting++
			}
			if len(e.Queue) > 0 && (oldest == 0 || e.Queue[0] < oldest) {
				oldest = e.Queue[0]
			}
			return true
		}); err != nil {
			return 0, fmt.Errorf("read bucket %s: %w", b.stream, err)
		}
		if more && read >= MaxInspected {
			s.Partial = true
			break
		}
	}
	return oldest, nil
}

// oldestOf returns the older one of an event and of that with a sequence, nil for none.
func oldestOf(ctx context.Context, events jetstream.Stream, first *jetstream.RawStreamMsg, sequence uint64) (*jetstream.RawStreamMsg, error) {
	if sequence == 0 || first != nil && first.Sequence <= sequence {
		return first, nil
	}
	m, err := events.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return first, nil
	}
	return m, err
}

// ReadEntry returns what a service keeps of a call, with the revision of the bucket, and
// [ErrNoEntry] for a call that it does not know. It needs the right to read the bucket
// from its leader (STREAM.MSG.GET).
func ReadEntry(ctx context.Context, js jetstream.JetStream, service, call string) (*Entry, uint64, error) {
	token := schemas.CallToken(call)
	e, revision, err := newBucket(js, service).entry(ctx, schemas.Slot(token), token)
	if err == nil && e == nil {
		err = ErrNoEntry
	}
	if err != nil {
		return nil, 0, fmt.Errorf("consume: service %s: %w", service, err)
	}
	return e, revision, nil
}
