package publish

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/backoff"
)

// directWait bounds the wait for the stream without a journal.
const directWait = 2 * time.Second

// betweenLooks are the pauses before the streams are looked at again: a server
// takes connections before its JetStream is up, and rights can be given later.
var betweenLooks = backoff.Doubling{First: time.Second, Last: time.Minute}

// prepareDirect looks at the streams after each connect until ctx ends, as the
// forwarder's sessions do, and again when that failed.
func (p *Publisher) prepareDirect(ctx context.Context) {
	failures, said := 0, ""
	for ctx.Err() == nil {
		js, err := p.link.JetStream(ctx)
		if err != nil {
			return
		}
		state, err := p.opts.Stream.prepare(ctx, js)
		var again <-chan time.Time
		if err == nil {
			failures, said = 0, ""
		} else {
			failures++
			again = time.After(betweenLooks.After(failures))
			if err.Error() != said && ctx.Err() == nil {
				said = err.Error()
				p.opts.Logger.Warn("streams could not be prepared, publishing is tried all the same", "error", err)
			}
		}
		p.expiry.look(state)
		for _, d := range state.differences {
			p.opts.Logger.Warn("stream is not as configured (--stream-update changes it)", "stream", p.opts.Stream.Name, "difference", d)
		}
		select {
		case <-p.link.changes():
		case <-again:
		case <-ctx.Done():
		}
	}
}

// noRetries keeps the client from publishing again by itself: that would
// overtake later events.
var noRetries = jetstream.WithRetryAttempts(0)

// order keeps the events of one callback together, and callbacks that are
// answered one after another in that order: whoever can send publishes. A
// mutex would make callbacks wait past their time for a client that stalls.
type order chan struct{}

// storeDirect publishes the records and waits for every acknowledgement.
func (p *Publisher) storeDirect(ctx context.Context, records []*record) error {
	ctx, cancel := context.WithTimeout(ctx, directWait)
	defer cancel()
	js, err := p.link.JetStream(ctx)
	if err != nil {
		return fmt.Errorf("NATS is away: %w", err)
	}
	acks := make([]jetstream.PubAckFuture, len(records))
	err = p.launchDirect(ctx, js, records, acks)
	for i, ack := range acks {
		if ack == nil {
			break // launching failed here
		}
		err = errors.Join(err, p.settleDirect(ctx, js, records[i], ack))
	}
	return err
}

// launchDirect publishes a callback's records behind one another.
func (p *Publisher) launchDirect(ctx context.Context, js jetstream.JetStream, records []*record, acks []jetstream.PubAckFuture) error {
	select {
	case p.order <- struct{}{}:
		defer func() { <-p.order }()
	case <-ctx.Done():
		return fmt.Errorf("wait for other callbacks: %w", ctx.Err())
	}
	for i, r := range records {
		var err error
		m := r.message()
		p.expiry.set(m, r, time.Now())
		if acks[i], err = js.PublishMsgAsync(m, noRetries); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
	return nil
}

func (p *Publisher) settleDirect(ctx context.Context, js jetstream.JetStream, r *record, future jetstream.PubAckFuture) error {
	select {
	case a := <-future.Ok():
		if err := r.judge(ack{a.Stream, a.Sequence, a.Duplicate}); err != nil {
			return err
		}
		if a.Duplicate && errors.Is(compare(ctx, js, r, a.Sequence), errConflict) {
			return p.quarantineDirect(ctx, js, r)
		}
		p.metrics.stored(r, a.Duplicate)
		return nil
	case err := <-future.Err():
		p.expiry.refused(err)
		return fmt.Errorf("publish: %w", err)
	case <-ctx.Done():
		return fmt.Errorf("no acknowledgement: %w", ctx.Err())
	}
}

// quarantineDirect stores an event in quarantine that has the id of another.
func (p *Publisher) quarantineDirect(ctx context.Context, js jetstream.JetStream, r *record) error {
	p.metrics.conflicts.Inc()
	p.opts.Logger.Warn("event has the id of another one and goes to quarantine", "resource", r.resource())
	r = r.quarantined(reasonConflict)
	future, err := js.PublishMsgAsync(r.message(), noRetries)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return p.settleDirect(ctx, js, r, future)
}
