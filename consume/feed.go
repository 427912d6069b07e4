package consume

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Pull requests end after pullExpiry, and with them those of a replica that stands
// still: it would take messages away from the next owner of its slot, which then
// resets the consumer once more.
const (
	pullExpiry = 5 * time.Second
	pullGrace  = 3 * time.Second // after that an answer was lost
)

// feed is one run of a slot's consumer, from a reset to the next. The server counts its
// deliveries from 1. What is not the next of them shows that one was lost, came again,
// or went to another replica.
type feed struct {
	sub     *nats.Subscription
	inbox   string
	next    uint64 // sequence of the next delivery
	asked   int    // messages that were asked for and have not come
	askedAt time.Time
	acked   uint64 // floor that was acknowledged when the position was checked last
	missing uint64 // the next one, when the position was checked last and it had been sent; zero when not
}

// startFeed has the consumer reset to its ack floor, and then begins to pull.
func (s *slot) startFeed(ctx context.Context) {
	s.stopFeed()
	s.resetting = true
	go func() {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		reset, err := s.js.ResetConsumer(ctx, s.opts.Stream, s.consumer)
		s.post(func(now time.Time) error {
			s.resetting = false
			if err != nil {
				s.retryFeedAt = now.Add(feedPause)
				s.warn("cannot reset the consumer; this is tried again", fmt.Errorf("consumer %s: %w", s.consumer, err))
				return nil
			}
			return s.beginFeed(reset.ConsumerInfo)
		})
	}()
}

// feedPause is how long a consumer rests that cannot be reset.
const feedPause = time.Second

func (s *slot) beginFeed(info *jetstream.ConsumerInfo) error {
	f := &feed{inbox: s.nc.NewInbox(), next: 1}
	var err error
	if f.sub, err = s.nc.ChanSubscribe(f.inbox, s.messages); err != nil {
		return fmt.Errorf("receive events: %w", err)
	}
	s.feed = f
	s.read = max(s.read, info.AckFloor.Stream)
	s.acked = info.AckFloor.Stream
	s.calls.window.restart()
	return nil
}

// followFeed goes on behind what the consumer has delivered, for the test that the fault
// suite misses the reset.
func (s *slot) followFeed(ctx context.Context) error {
	info, err := s.info(ctx)
	if err == nil {
		err = s.beginFeed(info)
	}
	if err == nil {
		s.feed.next = info.Delivered.Consumer + 1
	}
	return err
}

// stopFeed gives up the current run. What comes of it later is dropped.
func (s *slot) stopFeed() {
	if s.feed != nil {
		s.feed.sub.Unsubscribe() // fails only on a connection that has none any more
		s.feed, s.barrier = nil, nil
	}
}

// pull asks for as many events as the window has room for.
func (s *slot) pull(now time.Time) {
	f := s.feed
	room := s.opts.prefetch() - len(s.calls.window.open)
	if f == nil || s.calls.draining || s.calls.full() || f.asked > s.opts.prefetch()/2 || room <= f.asked {
		return
	}
	request, err := json.Marshal(struct {
		Batch   int           `json:"batch"`
		Expires time.Duration `json:"expires"`
	}{room - f.asked, pullExpiry})
	if err == nil {
		err = s.nc.PublishRequest(apiPrefix(s.js)+"CONSUMER.MSG.NEXT."+s.opts.Stream+"."+s.consumer, f.inbox, request)
	}
	if err == nil {
		f.asked, f.askedAt = room, now
	}
}

// received takes what the consumer has delivered.
func (s *slot) received(ctx context.Context, m *nats.Msg, now time.Time) {
	f := s.feed
	if f == nil || m.Sub != f.sub {
		return
	}
	if status := m.Header.Get("Status"); status != "" && len(m.Data) == 0 {
		s.pullEnded(status, m.Header, now)
		return
	}
	meta, err := m.Metadata()
	if err != nil {
		return // not from the consumer
	}
	if meta.NumDelivered != 1 || meta.Sequence.Consumer != f.next {
		s.startFeed(ctx)
		return
	}
	f.next++
	f.asked--
	s.calls.admit(meta.Sequence.Stream, callOf(m.Subject), m, now)
	s.read = max(s.read, s.calls.window.last)
}

// pullEnded takes the end of a pull request.
func (s *slot) pullEnded(status string, h nats.Header, now time.Time) {
	left, err := strconv.Atoi(h.Get("Nats-Pending-Messages"))
	if status == "408" && err == nil {
		s.feed.asked = max(s.feed.asked-left, 0)
		return
	}
	// The consumer was deleted, has a new leader, or JetStream does not answer.
	s.stopFeed()
	s.retryFeedAt = now.Add(feedPause)
}

// checkFeed begins again when an answer was lost, or after a failure.
func (s *slot) checkFeed(ctx context.Context, now time.Time) {
	switch f := s.feed; {
	case s.resetting || s.calls.draining:
	case f == nil && now.After(s.retryFeedAt):
		s.startFeed(ctx)
	case f != nil && f.asked > 0 && now.Sub(f.askedAt) > pullExpiry+pullGrace:
		s.startFeed(ctx)
	}
}

// barrier says when everything was received that was stored before a time.
type barrier struct {
	at       time.Time
	asked    time.Time
	answered bool
	target   uint64 // of the feed's deliveries, once it is known
}

// barrierPause is how long the feed may take to the barrier before that is asked for
// again: the stream can have removed events that would have been delivered.
const barrierPause = 2 * time.Second

// askBarrier finds out how many deliveries the consumer has made and has to make.
func (s *slot) askBarrier(ctx context.Context, now time.Time) {
	switch b := s.barrier; {
	case s.feed == nil:
		return
	case b == nil:
		s.barrier = &barrier{at: now, target: math.MaxUint64}
	case !b.answered || now.Sub(b.asked) < barrierPause:
		return
	}
	b := s.barrier
	b.asked, b.answered = now, false
	go func() {
		info, err := s.info(ctx)
		s.post(func(now time.Time) error {
			if s.barrier != b {
				return nil
			}
			if b.answered = true; err == nil { // what came since the first question does not matter
				b.target = min(b.target, info.Delivered.Consumer+info.NumPending)
				s.passBarrier(now)
			}
			return nil
		})
	}()
}

// passBarrier lets the deadlines expire that had passed at the barrier's time.
func (s *slot) passBarrier(now time.Time) {
	if b := s.barrier; b != nil && s.feed.next > b.target {
		s.barrier = nil
		s.calls.expire(b.at, now)
	}
}

func (s *slot) info(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	consumer, err := s.js.Consumer(ctx, s.opts.Stream, s.consumer)
	if err != nil {
		return nil, err
	}
	return consumer.CachedInfo(), nil
}
