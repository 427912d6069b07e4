package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/acsbridge/acsbridge/internal/natsconn"
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
	DefaultAckWait               = 5 * time.Millisecond
	NoAckWait      time.Duration = -1
)

// Options of a [Publisher].
type Options struct {
	// Link leads to NATS. Required; the caller closes it after Run.
	Link *natsconn.Link
	// Stream describes the event stream.
	Stream StreamConfig

	// Dir holds the journal, its cursor and the dead-letter file. Empty means
	// no journal: then an event is durable when the stream has acknowledged it.
	Dir string
	// Journal are the journal's own options.
	Journal journal.Options
	// AckWait is how long Publish waits for the stream when the event is
	// durable already. Zero means 5 ms, NoAckWait not at all.
	AckWait time.Duration
	// KeepAcked is how long a record stays in the journal after its
	// acknowledgement: twice the sync interval of a stream that acknowledges
	// before it syncs. The tail is published again at start. Zero for a stream
	// that is durable by itself, by its replicas.
	KeepAcked time.Duration
	// Created is called once after the first look at the stream, which may
	// have created it. Nil means nothing to do.
	Created func()
	// InsecureLimits takes sizes and times out of their bounds, as tests have them.
	InsecureLimits bool

	// Resources are the names whose counters exist from the start. Records of
	// others are counted when there are some.
	Resources []string

	Logger     *slog.Logger          // nil means silence
	Registerer prometheus.Registerer // nil means no metrics
	Tracer     trace.Tracer          // nil means no traces
}

// Publisher makes callbacks durable and brings them to the stream.
type Publisher struct {
	opts      Options
	link      *natsconn.Link
	journal   *journal.Journal // nil without a journal
	forwarder *forwarder       // of the journal
	// What goes to quarantine has a journal and a forwarder of its own, so that
	// nothing that happens to it holds up an event.
	quarantine *forwarder
	dead       *deadLetters
	metrics    *metrics
	// publishLock keeps the events of one callback together without a journal. A mutex
	// would make callbacks wait past their time for a client that stalls.
	publishLock       chan struct{}
	events, malformed *target
}

// Open opens the journal. Events reach the stream while [Publisher.Run] runs.
func Open(opts Options) (*Publisher, error) {
	opts.Stream = opts.Stream.withDefaults()
	opts.Journal.MaxBytes = cmp.Or(opts.Journal.MaxBytes, journal.DefaultMaxBytes)
	opts.AckWait = cmp.Or(opts.AckWait, DefaultAckWait)
	if err := opts.Check(); err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Publisher{
		opts: opts, link: opts.Link, metrics: newMetrics(), publishLock: make(chan struct{}, 1),
		events:    opts.Stream.eventTarget(opts.Link, opts.Logger),
		malformed: opts.Stream.quarantineTarget(opts.Link, opts.Logger),
	}
	if opts.Dir != "" {
		if err := p.openJournal(); err != nil {
			return nil, err
		}
	}
	p.metrics.exemplars = opts.Tracer != nil
	p.metrics.register(opts.Registerer, p)
	return p, nil
}

// Bounds of the quarantine's journal. It holds what the quarantine stream does not
// take, and the events' journal must not be smaller for it.
const (
	quarantineShare   = 4       // of Journal.MaxBytes, as a divisor
	quarantineLeast   = 1 << 20 // unless the journal is smaller: a callback is 256 KiB at most
	quarantineSegment = 8 << 20
)

// The journals in the data directory.
const (
	journalDir    = "journal"
	quarantineDir = "quarantine"
)

// quarantineOptions returns the options of the quarantine's journal from those of the
// events'.
func quarantineOptions(events journal.Options) journal.Options {
	most := cmp.Or(events.MaxBytes, journal.DefaultMaxBytes)
	events.MaxBytes = max(most/quarantineShare, min(most, quarantineLeast))
	events.SegmentSize = quarantineSegment
	return events
}

func (p *Publisher) openJournal() (err error) {
	p.opts.Journal.Logger = p.opts.Logger
	p.dead = &deadLetters{dir: p.opts.Dir}
	if p.quarantine, err = p.openForwarder(quarantineDir, quarantineOptions(p.opts.Journal), p.malformed, nil); err != nil {
		return err
	}
	if p.forwarder, err = p.openForwarder(journalDir, p.opts.Journal, p.events, p.quarantine); err != nil {
		return errors.Join(err, p.quarantine.close())
	}
	p.forwarder.created = p.opts.Created
	p.journal = p.forwarder.journal
	p.dead.changed = p.journal.Reserve
	return p.dead.measure()
}

// openForwarder opens the journal in a directory of that name, and makes its
// forwarder.
func (p *Publisher) openForwarder(name string, opts journal.Options, to *target, quarantine *forwarder) (*forwarder, error) {
	dir := filepath.Join(p.opts.Dir, name)
	j, err := journal.Open(dir, opts)
	if err != nil {
		return nil, err
	}
	c, err := openCursor(filepath.Join(dir, "cursor"))
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	c.sentTo(addressOf(p.opts.Stream))
	f := newForwarder(&forwarder{
		journal: j, link: p.link, target: to, cursor: c, dead: p.dead, quarantine: quarantine,
		keep: p.opts.KeepAcked, tracer: p.opts.Tracer, ackWait: p.opts.AckWait, logger: p.opts.Logger, metrics: p.metrics,
	})
	// Before anything is appended: what the file says of indexes that the
	// journal does not have (it was restored, or removed) would come true.
	if err := c.save(f.position, true); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// Run brings events to the stream until ctx ends. What is left then stays in
// the journal for the next start.
func (p *Publisher) Run(ctx context.Context) {
	if p.forwarder == nil {
		p.prepareDirect(ctx)
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.forwarder.run(ctx) })
	both.Go(func() { p.quarantine.run(ctx) })
	both.Wait()
}

// Publish makes the events of one callback durable, all or none, in their
// order. It returns when they are in the journal, and waits for the stream for up to
// AckWait more, unless the stream is disconnected or late. Without a journal it returns
// when the stream has them. Errors wrap [ErrUnavailable], or are [ErrUnverified].
func (p *Publisher) Publish(ctx context.Context, claims *verify.Claims, d *Delivery, events []schemas.Inbound) error {
	if claims.Resource() == "" {
		return ErrUnverified
	}
	records := p.opts.eventRecords(claims, d, events)
	p.metrics.incomplete(records, events)
	if err := p.store(ctx, d, p.forwarder, p.events, records); err != nil {
		return err
	}
	p.metrics.countEvents(events)
	return nil
}

// Quarantine keeps a verified callback whose body is not CloudEvents, as received,
// with the reason: one word of a closed set. Errors as for Publish.
func (p *Publisher) Quarantine(ctx context.Context, claims *verify.Claims, d *Delivery, reason, contentType string, body []byte) error {
	if claims.Resource() == "" {
		return ErrUnverified
	}
	records := []*record{p.opts.quarantineRecord(claims, d, reason, contentType, body)}
	p.metrics.incomplete(records, nil)
	return p.store(ctx, d, p.quarantine, p.malformed, records)
}

// store makes records durable in the journal of a forwarder, or in its stream when
// there is none.
func (p *Publisher) store(ctx context.Context, d *Delivery, f *forwarder, to *target, records []*record) error {
	if f == nil {
		if err := p.storeDirect(ctx, to, records); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		p.metrics.observe(p.metrics.durable, d.ReceivedAt, records[0])
		return nil
	}
	span := p.opts.startAppend(ctx, len(records))
	last, err := f.journal.Append(ctx, encodeAll(records)...)
	endSpan(span, err)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	p.metrics.observe(p.metrics.durable, d.ReceivedAt, records[0])
	f.wait(ctx, last)
	return nil
}

// Status is what readiness and a person looking at it want to know.
type Status struct {
	Connected bool // to NATS
	Sending   bool // the stream takes events: with a journal, none has failed since it last did
	// Notes are what is not well with NATS and the streams, causes first.
	Notes []Note
	// Journal are the journal's figures, nil without one. Waiting is how many
	// records the stream does not have yet, QuarantineWaiting the same of the
	// quarantine's own journal.
	Journal                    *journal.Stats
	Waiting, QuarantineWaiting uint64
}

// Cause is the first note, for those who show one only; nil when all is well.
func (s *Status) Cause() error {
	if len(s.Notes) == 0 {
		return nil
	}
	return errors.New(s.Notes[0].Text)
}

// Status returns the present state.
func (p *Publisher) Status() Status {
	connected, cause := p.link.State()
	_, known := p.events.where()
	s := Status{Connected: connected, Sending: connected && known && (p.journal == nil || p.events.isReady())}
	switch {
	case connected:
	case cause == nil:
		s.Notes = []Note{{partServer, "disconnected: no connection yet"}}
	default:
		s.Notes = []Note{{partServer, "disconnected: " + oneLine(cause)}}
	}
	s.Notes = append(append(s.Notes, p.events.list()...), p.malformed.list()...)
	if p.journal == nil {
		return s
	}
	stats := p.journal.Stats()
	s.Journal = &stats
	s.Waiting, s.QuarantineWaiting = p.forwarder.lag(), p.quarantine.lag()
	return s
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// Drain waits until the streams have every record, or ctx ends. It does not wait for
// a quarantine that is not taken. It returns how many are left: they stay in the
// journals.
func (p *Publisher) Drain(ctx context.Context) (left uint64) {
	if p.forwarder == nil {
		return 0
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		events, malformed := p.forwarder.lag(), p.quarantine.lag()
		left = events + malformed
		if left == 0 || events == 0 && p.malformed.stuck() {
			return left
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
	return errors.Join(p.forwarder.close(), p.quarantine.close(), p.dead.close())
}
