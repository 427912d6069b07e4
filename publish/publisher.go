package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/publish/journal"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

// ErrUnavailable reports that a callback could not be made durable. Nothing of
// it counts as stored, and the sender should try again. Errors that wrap it
// say why.
var ErrUnavailable = errors.New("publish: cannot be made durable")

// ErrUnverified reports a callback without claims that package verify made.
var ErrUnverified = errors.New("publish: claims are missing")

// How long an answer waits for the stream after the fsync: values of
// [Options.AckWait].
const (
	DefaultAckWait               = 250 * time.Millisecond
	NoAckWait      time.Duration = -1
)

// Options of a [Publisher].
type Options struct {
	// Link leads to NATS. Required; the caller closes it after Run.
	Link *Link
	// Stream describes the event stream.
	Stream StreamConfig

	// Dir holds the journal, its cursor and the dead-letter file. Empty means
	// no journal: then an event is durable when the stream has acknowledged it.
	Dir string
	// Journal are the journal's own options.
	Journal journal.Options
	// AckWait is how long Publish waits for the stream when the event is
	// durable already. Zero means 250 ms, NoAckWait not at all.
	AckWait time.Duration
	// KeepAcked is how long a record stays in the journal after its
	// acknowledgement: twice the sync interval of a stream that acknowledges
	// before it syncs. The tail is published again at start. Zero for a stream
	// that is durable by itself, by its replicas.
	KeepAcked time.Duration
	// Created is called once after the first look at the stream, which may
	// have created it. Nil means nothing to do.
	Created func()

	Logger     *slog.Logger          // nil means silence
	Registerer prometheus.Registerer // nil means no metrics
}

// Publisher makes callbacks durable and brings them to the stream.
type Publisher struct {
	opts      Options
	link      *Link
	journal   *journal.Journal // nil without a journal
	forwarder *forwarder       // nil without a journal
	dead      *deadLetters
	metrics   *metrics
	order     order  // of direct publishes, without a journal
	expiry    expiry // of direct publishes
}

// Open opens the journal. Events reach the stream while [Publisher.Run] runs.
func Open(opts Options) (*Publisher, error) {
	opts.Stream = opts.Stream.withDefaults()
	if opts.AckWait == 0 {
		opts.AckWait = DefaultAckWait
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Publisher{opts: opts, link: opts.Link, metrics: newMetrics(), order: make(order, 1)}
	if opts.Dir != "" {
		if err := p.openJournal(); err != nil {
			return nil, err
		}
	}
	p.metrics.register(opts.Registerer, p)
	return p, nil
}

func (p *Publisher) openJournal() error {
	p.opts.Journal.Logger = p.opts.Logger
	dir := filepath.Join(p.opts.Dir, "journal")
	j, err := journal.Open(dir, p.opts.Journal)
	if err != nil {
		return err
	}
	c, err := openCursor(filepath.Join(dir, "cursor"))
	if err != nil {
		return errors.Join(err, j.Close())
	}
	p.journal = j
	p.dead = &deadLetters{path: filepath.Join(p.opts.Dir, "dead-letters.ndjson")}
	p.forwarder = newForwarder(&forwarder{
		journal: j, link: p.link, stream: p.opts.Stream, cursor: c, dead: p.dead,
		keep: p.opts.KeepAcked, created: p.opts.Created, logger: p.opts.Logger, metrics: p.metrics,
	})
	// Before anything is appended: what the file says of indexes that the
	// journal does not have (it was restored, or removed) would come true.
	if err := c.save(p.forwarder.position, true); err != nil {
		return errors.Join(err, c.close(), j.Close())
	}
	return nil
}

// Run brings events to the stream until ctx ends. What is left then stays in
// the journal for the next start.
func (p *Publisher) Run(ctx context.Context) {
	if p.forwarder == nil {
		p.prepareDirect(ctx)
		return
	}
	p.forwarder.run(ctx)
}

// Publish makes the events of one callback durable, all or none, in their
// order. It returns when they are in the journal and, unless NATS is away or
// behind, in the stream too. Without a journal it returns when the stream has
// them. Errors wrap [ErrUnavailable], or are [ErrUnverified].
func (p *Publisher) Publish(ctx context.Context, claims *verify.Claims, d *Delivery, events []schemas.Event) error {
	if claims.Resource() == "" {
		return ErrUnverified
	}
	records := p.opts.eventRecords(claims, d, events)
	p.metrics.incomplete(records, events)
	return p.store(ctx, d, records)
}

// Quarantine keeps a verified callback that is no CloudEvents, as received,
// with the reason: one word of a closed set. Errors as for Publish.
func (p *Publisher) Quarantine(ctx context.Context, claims *verify.Claims, d *Delivery, reason, contentType string, body []byte) error {
	if claims.Resource() == "" {
		return ErrUnverified
	}
	records := []*record{p.opts.quarantineRecord(claims, d, reason, contentType, body)}
	p.metrics.incomplete(records, nil)
	return p.store(ctx, d, records)
}

func (p *Publisher) store(ctx context.Context, d *Delivery, records []*record) error {
	if p.journal == nil {
		if err := p.storeDirect(ctx, records); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		p.metrics.durable.Observe(time.Since(d.ReceivedAt).Seconds())
		return nil
	}
	last, err := p.journal.Append(ctx, encodeAll(records)...)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	p.metrics.durable.Observe(time.Since(d.ReceivedAt).Seconds())
	if p.opts.AckWait > 0 {
		p.forwarder.wait(ctx, last, p.opts.AckWait)
	}
	return nil
}

// Status is what readiness and a person looking at it want to know.
type Status struct {
	Connected bool  // to NATS
	Sending   bool  // the forwarder publishes and nothing has failed since
	Problem   error // what NATS or the stream said last, nil when all is well
	// Differences are the settings in which the stream is not as configured.
	Differences []string
	// Journal are the journal's figures, nil without one. Waiting is how many
	// records the stream does not have yet.
	Journal *journal.Stats
	Waiting uint64
}

// Status returns the present state.
func (p *Publisher) Status() Status {
	connected, problem := p.link.State()
	s := Status{Connected: connected, Problem: problem}
	if p.journal == nil {
		s.Sending = connected
		return s
	}
	stats := p.journal.Stats()
	s.Journal = &stats
	s.Waiting = p.forwarder.lag()
	p.forwarder.mu.Lock()
	defer p.forwarder.mu.Unlock()
	s.Sending = connected && p.forwarder.sending
	s.Differences = p.forwarder.state.differences
	if s.Problem == nil {
		s.Problem = p.forwarder.problem
	}
	return s
}

// Drain waits until the stream has every record, or ctx ends. It returns how
// many are left: they stay in the journal.
func (p *Publisher) Drain(ctx context.Context) (left uint64) {
	if p.forwarder == nil {
		return 0
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		left = p.forwarder.lag()
		if left == 0 {
			return 0
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return left
		}
	}
}

// Close closes the journal. Run must have returned.
func (p *Publisher) Close() error {
	if p.journal == nil {
		return nil
	}
	return errors.Join(p.journal.Close(), p.forwarder.cursor.close(), p.dead.close())
}
