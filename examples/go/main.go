// Command go is a service that reads acsbridge's stream: it keeps the state of
// each call in a bucket of NATS's key-value store, and prints when one has ended.
//
//	acsbridge demo
//	go run ./examples/go
//
// Any number of replicas share the work. Each event may come twice and in any order:
// [state.apply] gives the same state, and a revision in the bucket keeps two replicas
// from overwriting each other.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/schemas"
)

const (
	// consumerName is the consumer, which keeps the service's position in the stream.
	// Replicas share it; another service needs another name.
	consumerName = "call-state-go"
	// bucketName holds the state of each call, by its callConnectionId.
	bucketName = "call-state-go"
	// keepState is how long the bucket keeps them, so that a late event finds its call.
	keepState = 72 * time.Hour
	// maxDeliver is how often an event is tried, within half an hour by [backoff].
	// Then this consumer does not get it again; it stays in the stream.
	maxDeliver = 12
	// ackWait is how long the server waits for the answer to an event before it
	// sends it again; it begins when the event is sent, not when the work begins.
	ackWait = 30 * time.Second
	// handleAtMost bounds the work on one event.
	handleAtMost = 2 * time.Second
)

// prefetch is how many events the client fetches at a time. The last of them waits for
// the others, and must be done within half the ack wait. The client's default is 500:
// with work of 300 ms the server would send most of them two or three times.
func prefetch(ackWait, handleAtMost time.Duration) int {
	return max(1, int(ackWait/2/handleAtMost))
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run consumes until ctx ends, and finishes what it has begun.
func run(ctx context.Context, url string, out io.Writer) error {
	nc, err := nats.Connect(url, nats.Name(consumerName), nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	bucket, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucketName, TTL: keepState})
	if err != nil {
		return err
	}
	consumer, err := js.CreateOrUpdateConsumer(ctx, schemas.Stream, jetstream.ConsumerConfig{
		Durable:        consumerName,
		FilterSubjects: filters("CallConnected", "ParticipantsUpdated", "CallDisconnected"),
		// Events from now on. DeliverAllPolicy, the default, begins with the oldest
		// of the stream, 72 hours back, whose calls are over. It holds when the
		// consumer is made; afterwards the server keeps the position.
		DeliverPolicy: jetstream.DeliverNewPolicy,
		AckWait:       ackWait,
		MaxDeliver:    maxDeliver,
	})
	if err != nil {
		return err
	}
	s := service{bucket: bucket, out: out}
	consuming, err := consumer.Consume(s.receive, jetstream.PullMaxMessages(prefetch(ackWait, handleAtMost)))
	if err != nil {
		return err
	}
	<-ctx.Done()
	consuming.Drain()
	<-consuming.Closed()
	return nc.Flush() // the last acknowledgements
}

// filters are the subjects of these types, of all resources and calls.
func filters(names ...string) (subjects []string) {
	for _, name := range names {
		t, ok := schemas.LookupType(name)
		if !ok {
			panic("no event type " + name)
		}
		subjects = append(subjects, t.Filter(schemas.SubjectPrefix))
	}
	return subjects
}

type service struct {
	bucket jetstream.KeyValue
	out    io.Writer
}

// receive acknowledges an event once the work is done, and has it redelivered when that
// failed. A message that is not an event is not retried.
func (s *service) receive(m jetstream.Msg) {
	message, err := schemas.Parse(m.Headers(), m.Data())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		answer(m.TermWithReason(err.Error()))
		return
	}
	// A stop must not interrupt the work, so it has another context.
	ctx, cancel := context.WithTimeout(context.Background(), handleAtMost)
	defer cancel()
	if err := s.update(ctx, message); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", message.Delivery.MsgID, err)
		answer(m.NakWithDelay(backoff(m)))
		return
	}
	answer(m.Ack())
}

// answer reports that an answer could not be sent; then the event is redelivered.
func answer(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "acknowledge:", err)
	}
}

// backoff is the pause before the next attempt: a second, doubled each time, ten
// minutes at most. A bare Nak would redeliver at once and use up every attempt.
func backoff(m jetstream.Msg) time.Duration {
	meta, err := m.Metadata()
	if err != nil {
		return time.Second
	}
	return min(time.Second<<min(meta.NumDelivered-1, 10), 10*time.Minute)
}

// update applies an event to its call's state. When another replica was faster, the
// bucket returns an error, and the event is retried.
func (s *service) update(ctx context.Context, message *schemas.Message) error {
	id := message.Event.IDs().CallConnectionID
	if id == "" {
		return nil // of no call
	}
	var call state
	key := schemas.CallToken(id)
	entry, err := s.bucket.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(entry.Value(), &call); err != nil {
			return err
		}
	}
	if !call.apply(message.Event.Data) {
		return nil // a duplicate
	}
	value, err := json.Marshal(call)
	if err != nil {
		return err
	}
	if entry == nil {
		_, err = s.bucket.Create(ctx, key, value)
	} else {
		_, err = s.bucket.Update(ctx, key, value, entry.Revision())
	}
	if _, ended := message.Event.Data.(*schemas.CallDisconnected); ended && err == nil {
		fmt.Fprintf(s.out, "%s ended %s\n", id, call.Ended)
	}
	return err
}
