package consume

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/failpoint"
)

// leaseValue is the value of a lease's key.
type leaseValue struct {
	Replica string `json:"replica"`
	Epoch   uint64 `json:"epoch,omitempty"` // zero in the write that took it: its revision is the epoch
}

// valid reports whether the owner may start a handler. It uses two thirds of the lease,
// from the moment when its last renewal was sent.
func (l *lease) valid(r *replica, now time.Time) bool {
	return now.Sub(r.started) < time.Duration(l.until.Load())
}

func (s *slot) leaseMessage() *nats.Msg {
	value, err := json.Marshal(leaseValue{s.id, s.lease.epoch})
	if err != nil {
		panic(err)
	}
	return s.bucket.message(leaseKey(s.name), value, s.lease.revision, s.opts.Lease)
}

// renewed notes a renewal that was sent at a time.
func (s *slot) renewed(revision uint64, sent time.Time) {
	s.lease.revision, s.lease.renewedAt = revision, sent
	until := sent.Add(s.opts.Lease * 2 / 3)
	s.lease.until.Store(int64(until.Sub(s.started)))
	if s.lease.end != nil {
		s.lease.end.Reset(time.Until(until))
	}
}

// endLease ends the contexts of the slot's handlers with the lease, also while the loop is
// blocked by a connection that takes no more. The returned function stops that.
func (s *slot) endLease(cancel context.CancelCauseFunc) (stop func()) {
	if failpoint.Broken("fence") {
		return func() {}
	}
	valid := time.Duration(s.lease.until.Load()) - time.Since(s.started)
	s.lease.end = time.AfterFunc(valid, func() { cancel(errLeaseEnded) })
	return func() { s.lease.end.Stop() }
}

// renew sends a renewal when a quarter of the lease has passed since the last one. The
// answer to one before it counts too when it comes.
func (s *slot) renew(now time.Time) {
	l := &s.lease
	if r, pending := s.requests[l.renewal]; pending && now.Sub(r.sent) < s.opts.Lease/4 || now.Sub(l.renewedAt) < s.opts.Lease/4 {
		return
	}
	l.renewal = s.send(s.leaseMessage(), request{sent: now})
}

// ownLease returns the revision of the slot's lease, [errFenced] when another replica
// has it.
func (s *slot) ownLease(ctx context.Context) (revision uint64, err error) {
	value, revision, err := s.bucket.get(ctx, leaseKey(s.name))
	if err != nil {
		return 0, err
	}
	var v leaseValue
	if value == nil || json.Unmarshal(value, &v) != nil || v.Epoch != s.lease.epoch && revision != s.lease.epoch {
		return 0, errFenced
	}
	return revision, nil
}

// renewDuring renews the lease while f runs, which may take longer than a lease. It is for
// the time before the loop, and ends the context of f when the lease is lost.
func (s *slot) renewDuring(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	var renewals sync.WaitGroup
	renewals.Go(func() {
		tick := time.NewTicker(s.opts.Lease / 4)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			sent := time.Now()
			revision, err := s.bucket.put(ctx, s.leaseMessage())
			if err == nil {
				s.renewed(revision, sent)
			} else if revision, err = s.ownLease(ctx); err == nil { // the answer was lost, or the write
				s.lease.revision = revision
			}
			switch {
			case errors.Is(err, errFenced):
				cancel(err)
			case !s.lease.valid(s.replica, time.Now()):
				cancel(errLeaseEnded)
			}
		}
	})
	err := f(ctx)
	close(done)
	renewals.Wait()
	if err != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	return nil
}

// readLease finds out whether a renewal was refused because the one before was stored
// and its answer lost, or because the slot has another owner.
func (s *slot) readLease(ctx context.Context, sent time.Time) {
	go func() {
		revision, err := s.ownLease(ctx)
		s.post(func(time.Time) error {
			switch {
			case errors.Is(err, errFenced):
				return err
			case err != nil:
				s.warn("cannot read a lease; this is tried again", err)
			default:
				s.lease.revision = revision // and is renewed at the next tick
				s.lease.renewedAt = sent.Add(-s.opts.Lease)
			}
			return nil
		})
	}()
}

// tick does what time brings.
func (s *slot) tick(ctx context.Context, now time.Time) error {
	if !s.lease.valid(s.replica, now) && !failpoint.Broken("fence") {
		return errLeaseEnded
	}
	s.renew(now)
	if n := s.connected.Load(); n != s.connects { // answers and events of the old connection never come
		s.connects = n
		s.lostRequests(now, 0)
		if !s.calls.draining && !s.resetting {
			s.startFeed(ctx)
		}
	}
	s.lostRequests(now, requestTimeout)
	paused := s.paused
	s.paused = nil
	for _, c := range paused {
		s.calls.resume(c, now)
	}
	if !s.calls.draining {
		s.calls.keepFirst(now)
		s.calls.due(now)
	}
	if len(s.calls.overdue) > 0 {
		s.askBarrier(ctx, now)
	}
	s.checkFeed(ctx, now)
	s.acknowledge(1)
	if now.Sub(s.infoAt) > infoInterval {
		s.infoAt = now
		s.checkPosition(ctx)
		s.checkWakes(ctx)
	}
	return nil
}

// lostRequests takes the writes without an answer that are older than a time.
func (s *slot) lostRequests(now time.Time, age time.Duration) {
	for n, r := range s.requests {
		if now.Sub(r.sent) < age {
			continue
		}
		delete(s.requests, n)
		if r.call == nil {
			if n == s.lease.renewal {
				s.lease.renewal = 0
			}
		} else if r.call.io == ioWriting && r.call.next == r.next {
			s.calls.unsure(r.call, now)
		}
	}
}

// checkPosition compares the slot with its consumer and the stream: whether an
// acknowledgement or a delivery was lost, and whether the stream has removed what was
// not received.
func (s *slot) checkPosition(ctx context.Context) {
	feed := s.feed
	go func() {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		stream, err := s.js.Stream(ctx, s.opts.Stream)
		var info *jetstream.ConsumerInfo
		if err == nil {
			info, err = s.info(ctx)
		}
		s.post(func(now time.Time) error {
			if errors.Is(err, jetstream.ErrConsumerNotFound) {
				s.warn("the consumer of a slot was deleted; restart the service to make it anew", err)
			}
			if err != nil || feed == nil || feed != s.feed {
				return nil
			}
			s.metrics.parked.WithLabelValues(s.name).Set(float64(len(s.calls.parked)))
			s.metrics.lag.WithLabelValues(s.name).Set(float64(info.NumPending))
			state := stream.CachedInfo().State
			s.countRemoved(state.FirstSeq)
			if info.NumPending == 0 && info.Delivered.Consumer == feed.next-1 {
				s.read = max(s.read, state.LastSeq)
			}
			s.saveRead()
			missing := uint64(0)
			if info.Delivered.Consumer >= feed.next {
				missing = feed.next
			}
			switch {
			case missing > 0 && missing == feed.missing: // it is lost, and no later one shows that
				s.startFeed(ctx)
			case info.AckFloor.Stream < feed.acked: // one of an older feed had a higher number: the server ignores ours
				s.startFeed(ctx)
			}
			feed.acked, feed.missing = s.acked, missing
			return nil
		})
	}()
}

// countRemoved counts what the stream has removed before it was received.
func (s *slot) countRemoved(first uint64) {
	if s.read == 0 || first <= s.read+1 {
		return
	}
	s.opts.Logger.Error("the stream has removed messages that the service has not read: raise the stream's max age or max bytes, or the service's Concurrency",
		slog.String("slot", s.name), slog.Uint64("first", s.read+1), slog.Uint64("last", first-1))
	s.metrics.removed.WithLabelValues(s.name).Add(float64(first - 1 - s.read))
	s.read = first - 1
}

// saveRead keeps up to where the slot was read, for the next owner. A lost write only
// makes that owner count more messages as removed.
func (s *slot) saveRead() {
	if s.read == s.readSaved {
		return
	}
	m := s.bucket.message(readKey(s.name), strconv.AppendUint(nil, s.read, 10), 0, 0)
	m.Header.Del(jetstream.ExpectedLastSubjSeqHeader)
	if s.nc.PublishMsg(m) == nil {
		s.readSaved = s.read
	}
}

// releaseTimeout bounds what is done for a slot after the end of the service.
const releaseTimeout = 2 * time.Second

// release gives the lease back, so that another replica need not wait for its end.
func (s *slot) release() error {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	if !s.lease.valid(s.replica, time.Now()) {
		return nil // another replica may have it
	}
	for {
		m := s.bucket.message(leaseKey(s.name), nil, s.lease.revision, time.Minute)
		m.Header.Set(kvOperation, "DEL")
		_, err := s.bucket.put(ctx, m)
		if err == nil {
			return nil
		}
		// A renewal may have been stored whose answer was not awaited.
		revision, problem := s.ownLease(ctx)
		if problem != nil || revision == s.lease.revision {
			return err
		}
		s.lease.revision = revision
	}
}
