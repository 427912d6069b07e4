package check

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/internal/natsconn"
)

const (
	// sampleTime is between two looks at a consumer, from which its rate follows.
	sampleTime = time.Second
	// maxConsumers bounds those that are looked at.
	maxConsumers = 256
)

// consumers looks for services that fetch more messages than they handle within the ack
// wait: those are delivered again while they still wait to be handled.
func (c *checker) consumers(ctx context.Context, js jetstream.JetStream, stream string) {
	before, err := listConsumers(ctx, js, stream)
	if err != nil {
		c.ok("not known: this login may not list them ($JS.API.CONSUMER.LIST); an operator's login shows them")
		return
	}
	if len(before) == 0 {
		c.ok("none")
		return
	}
	busy := false
	for _, i := range before {
		busy = busy || i.NumAckPending > 1
	}
	after := before
	if busy {
		select {
		case <-time.After(sampleTime):
		case <-ctx.Done():
			return
		}
		if after, err = listConsumers(ctx, js, stream); err != nil {
			return // it was allowed a second ago
		}
	}
	fine := 0
	for name, now := range after {
		old := before[name]
		if old == nil {
			old = now
		}
		if !c.consumer(old, now) {
			fine++
		}
	}
	if fine > 0 {
		c.ok("%s without a fault", view.Plural(fine, "consumer"))
	}
}

// listConsumers returns the consumers of a stream by name.
func listConsumers(ctx context.Context, js jetstream.JetStream, stream string) (map[string]*jetstream.ConsumerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, natsconn.RequestTimeout)
	defer cancel()
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	list, found := s.ListConsumers(ctx), make(map[string]*jetstream.ConsumerInfo)
	for info := range list.Info() {
		if len(found) < maxConsumers {
			found[info.Name] = info
		}
	}
	if err := list.Err(); err != nil && !errors.Is(err, jetstream.ErrEndOfData) {
		return nil, err
	}
	return found, nil
}

// consumer examines one consumer by two looks at it, and reports whether something is
// wrong.
func (c *checker) consumer(before, now *jetstream.ConsumerInfo) (wrong bool) {
	if now.Config.AckPolicy == jetstream.AckNonePolicy || now.Config.AckWait <= 0 {
		return false
	}
	wait := now.Config.AckWait
	outstanding := now.NumAckPending
	handled := acknowledged(now) - acknowledged(before)
	perWait := float64(handled) * float64(wait) / float64(max(now.TimeStamp.Sub(before.TimeStamp), sampleTime))
	const remedy = "fetch fewer at a time, raise its ack wait, or send in-progress while handling"
	switch {
	case now.NumRedelivered > 0 && outstanding > 1:
		c.warn(remedy, "%s: %d of its %s were delivered again, as they were not handled within its ack wait of %s", now.Name, now.NumRedelivered, view.Plural(outstanding, "outstanding message"), wait)
	case handled > 0 && float64(outstanding) > perWait:
		c.warn(remedy, "%s: has fetched %s, and handles about %.0f within its ack wait of %s", now.Name, view.Plural(outstanding, "message"), perWait, wait)
	case handled == 0 && now.Config.MaxAckPending > 0 && outstanding >= now.Config.MaxAckPending:
		c.warn("handle faster, or raise its max_ack_pending", "%s: %d messages are outstanding, which is its max_ack_pending: it gets no more until one is acknowledged", now.Name, outstanding)
	default:
		return false
	}
	return true
}

// acknowledged returns how many deliveries of a consumer do not wait for an acknowledgement:
// those that were acknowledged, when no message was delivered again.
func acknowledged(i *jetstream.ConsumerInfo) int64 {
	return int64(i.Delivered.Consumer) - int64(i.NumAckPending)
}
