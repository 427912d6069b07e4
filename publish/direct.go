package publish

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/backoff"
)

// directWait bounds the wait for the stream without a journal.
const directWait = 2 * time.Second

// betweenLooks are the pauses before the streams are looked at again: a server
// takes connections before its JetStream is up, and rights can be given later.
var betweenLooks = backoff.Doubling{First: time.Second, Last: time.Minute}

// prepareDirect looks at the streams after each connect until ctx ends, as the
// forwarder does, and again when that failed.
func (p *Publisher) prepareDirect(ctx context.Context) {
	var both sync.WaitGroup
	for _, t := range []*target{p.events, p.malformed} {
		both.Go(func() { t.keepReady(ctx) })
	}
	both.Wait()
}

// keepReady looks at the stream, and surveys it while the connection lasts.
func (t *target) keepReady(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		js, err := t.link.JetStream(ctx)
		if err != nil {
			return
		}
		connection, stop := t.link.During(ctx)
		state, err := t.prepare(connection, js)
		if err == nil {
			failures = 0
			_ = t.survey(connection, js, state) // what has changed is looked at again
		} else {
			failures++
			select {
			case <-time.After(betweenLooks.After(failures)):
			case <-connection.Done():
			}
		}
		if connection.Err() != nil {
			t.stops()
		}
		stop(nil)
	}
}

// storeDirect publishes the records behind one another and waits for the stream to
// acknowledge each.
func (p *Publisher) storeDirect(ctx context.Context, to *target, records []*record) error {
	ctx, cancel := context.WithTimeout(ctx, directWait)
	defer cancel()
	js, err := p.link.JetStream(ctx)
	if err != nil {
		return fmt.Errorf("NATS is disconnected: %w", err)
	}
	at, err := to.await(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	inbox := js.Conn().NewInbox() + "."
	answers, err := js.Conn().SubscribeSync(inbox + "*")
	if err != nil {
		return fmt.Errorf("listen for acknowledgements: %w", err)
	}
	defer func() { _ = answers.Unsubscribe() }()
	entries := make([]entry, len(records))
	for i, r := range records {
		entries[i].record = r
	}
	if err = p.sendDirect(ctx, js.Conn(), to, inbox, entries); err == nil {
		err = p.awaitAcks(ctx, js, to, acksOf(at), answers, inbox, entries)
	}
	for i := range entries {
		entries[i].failTrace()
	}
	if err != nil {
		to.refused(err)
		if permanent(err) == "" { // else it is this record's fault
			to.fails(err, began)
		}
		return fmt.Errorf("publish: %w", err)
	}
	to.works()
	return nil
}

// sendDirect publishes a callback's records behind one another.
func (p *Publisher) sendDirect(ctx context.Context, nc *nats.Conn, to *target, inbox string, entries []entry) error {
	select {
	case p.publishLock <- struct{}{}:
		defer func() { <-p.publishLock }()
	case <-ctx.Done():
		return fmt.Errorf("wait for other callbacks: %w", ctx.Err())
	}
	for i := range entries {
		e := &entries[i]
		m := e.record.message()
		if p.opts.Tracer != nil {
			e.span = startPublish(p.opts.Tracer, e.record, m)
		}
		to.setTTL(m, e.record, time.Now())
		m.Reply = inbox + strconv.Itoa(i)
		if err := nc.PublishMsg(m); err != nil {
			return err
		}
	}
	return nil
}

// awaitAcks waits until each record is acknowledged. What another stream answers
// does not count.
func (p *Publisher) awaitAcks(ctx context.Context, js jetstream.JetStream, to *target, acks acks, answers *nats.Subscription, inbox string, entries []entry) error {
	open := make(map[string]*entry, len(entries))
	for i := range entries {
		open[inbox+strconv.Itoa(i)] = &entries[i]
	}
	for len(open) > 0 {
		m, err := answers.NextMsgWithContext(ctx)
		if err != nil {
			return fmt.Errorf("no acknowledgement: %w", err)
		}
		e := open[m.Subject]
		if e == nil {
			continue
		}
		a, err := acks.read(m)
		var api *jetstream.APIError
		switch {
		case errors.Is(err, errForeign):
			to.answers(a.place)
			continue
		case errors.As(err, &api) && to.has(noteForeign):
			continue
		case err != nil:
			return err
		}
		e.duplicate = a.duplicate
		if a.duplicate && errors.Is(compare(ctx, js, e.record, a.sequence), errConflict) {
			if err := p.quarantineDirect(ctx, e.record); err != nil {
				return err
			}
			e.handed = true
		} else {
			p.metrics.stored(e.record, a.duplicate)
		}
		e.endTrace()
		delete(open, m.Subject)
	}
	return nil
}

// quarantineDirect stores an event in quarantine that has the id of another.
func (p *Publisher) quarantineDirect(ctx context.Context, r *record) error {
	p.metrics.conflicts.Inc()
	p.opts.Logger.Warn("event has the id of another one and goes to quarantine", "resource", r.resource())
	return p.storeDirect(ctx, p.malformed, []*record{r.quarantined(reasonConflict)})
}
