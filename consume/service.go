package consume

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/schemas"
)

// Handler handles one event of a call. It returns nil when the event is done; any other
// result parks the call until the event is tried again, see [Permanent], [RetryAfter] and
// [Pause]. It must return when ctx ends: after [Service.HandleTimeout], or when the slot of
// the call is lost, since another replica then handles the event again.
type Handler[S any] func(ctx context.Context, call *Call[S], m *schemas.Message) error

// Service is a service that handles the events of calls. All its replicas have the same
// Name and settings. Name and Handle are required; S is the state of a call, which must
// survive encoding/json, and is its zero value at the call's first event.
type Service[S any] struct {
	// Name names the service in NATS: at most 32 of a-z, 0-9, '_' and '-', a letter first.
	Name string
	// Handle gets the events, of different calls at the same time.
	Handle Handler[S]
	// Types are the types of events that the service wants, such as "CallConnected";
	// none means all. CallDisconnected is always read, to know when a call is over.
	Types []string

	// Stream has the events, and Prefix is the first token of their subjects. Empty means
	// ACS and acs.
	Stream, Prefix string
	// Domain is the JetStream domain in which the service finds the stream and all of its
	// own. Empty means that of the account.
	Domain string
	// StartAt is the time from which on events are wanted when the service runs for the
	// first time: its consumers are made then. Zero means from now on.
	StartAt time.Time
	// HandleStale also hands on what comes too late: events of calls that are over (of
	// events older than a minute; CallDisconnected always comes), and incoming calls
	// that do not ring any more. Services that keep records want it.
	HandleStale bool
	// HandleReplays also hands on copies that acsbridge replay has sent.
	HandleReplays bool

	// Concurrency is how many handlers may run at a time in this replica. Zero means 64.
	Concurrency int
	// HandleTimeout ends the context of a handler. Zero means 30 s.
	HandleTimeout time.Duration

	// FirstRetry and LastRetry bound the pause before a failed event is tried again. It
	// doubles with each attempt, with jitter. Zero means 1 s and 1 min.
	FirstRetry, LastRetry time.Duration
	// MaxAttempts and MaxAge are after how many attempts, and how long after the first
	// one, an event that fails becomes a dead letter. Zero means 10 and 1 h. Time in which
	// it was due and not tried, since no replica ran or [Pause] held it, does not count.
	MaxAttempts int
	MaxAge      time.Duration
	// HoldFailed keeps a call parked after a dead letter, for services where the events
	// that follow must not be handled without it. [Redrive] lets it go on.
	HoldFailed bool
	// MaxParked is how many calls may be parked; beyond that the oldest event of the one
	// that has been parked longest becomes a dead letter. Zero means 100,000. It is
	// applied to each sixteenth of the calls.
	MaxParked int

	// Lease is how long the calls of a replica that has died wait for another one. Zero
	// means 15 s, the least is 3 s. All replicas need the same.
	Lease time.Duration
	// KeepEnded is how long the state of a call is kept after its end. Zero means 24 h.
	KeepEnded time.Duration
	// ShutdownTimeout is how long handlers may go on after the context of [Run] has
	// ended, or when their slot is given to another replica. Then their contexts end, and
	// the events are handled again, elsewhere. Zero means 10 s.
	ShutdownTimeout time.Duration

	// Logger is slog.Default() when nil.
	Logger *slog.Logger
	// Registerer gets the metrics, acsbridge_consume_…; nil means none.
	Registerer prometheus.Registerer
}

// options are the settings of a service, with their defaults.
type options struct {
	Service[json.RawMessage]
	types []string // short, with CallDisconnected; empty means all
}

// maxPrefetch and minPrefetch bound how many unfinished events of one slot are in
// memory; they have a kilobyte or two each.
const (
	minPrefetch = 32
	maxPrefetch = 512
)

// prefetch returns how many events of a slot may be received and not finished: four for
// each handler.
func (o *options) prefetch() int { return min(max(4*o.Concurrency, minPrefetch), maxPrefetch) }

// wants reports whether the handler gets events of a type.
func (o *options) wants(shortType string) bool {
	return len(o.Types) == 0 || slices.Contains(o.Types, shortType)
}

// wanted returns the types that the handler gets, in their order; none means all.
func (o *options) wanted() []string { return slices.Compact(slices.Sorted(slices.Values(o.Types))) }

var serviceName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)

// options checks the settings and fills in the defaults.
func (s *Service[S]) options() (*options, error) {
	o := &options{Service: Service[json.RawMessage]{
		Name: s.Name, Stream: cmp.Or(s.Stream, schemas.Stream), Prefix: cmp.Or(s.Prefix, schemas.SubjectPrefix), Domain: s.Domain,
		StartAt: s.StartAt, HandleStale: s.HandleStale, HandleReplays: s.HandleReplays,
		Concurrency: cmp.Or(s.Concurrency, 64), HandleTimeout: cmp.Or(s.HandleTimeout, 30*time.Second),
		FirstRetry: cmp.Or(s.FirstRetry, time.Second), LastRetry: cmp.Or(s.LastRetry, max(time.Minute, s.FirstRetry)),
		MaxAttempts: cmp.Or(s.MaxAttempts, 10), MaxAge: cmp.Or(s.MaxAge, time.Hour), HoldFailed: s.HoldFailed,
		MaxParked: cmp.Or(s.MaxParked, 100_000), Lease: cmp.Or(s.Lease, 15*time.Second),
		KeepEnded: cmp.Or(s.KeepEnded, 24*time.Hour), ShutdownTimeout: cmp.Or(s.ShutdownTimeout, 10*time.Second),
		Logger: s.Logger, Registerer: s.Registerer,
	}}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Logger = o.Logger.With(slog.String("service", s.Name))
	for _, t := range s.Types {
		o.Types = append(o.Types, schemas.Token(schemas.ShortType(t)))
	}
	if len(o.Types) > 0 {
		o.types = slices.Compact(slices.Sorted(slices.Values(append([]string{callDisconnected}, o.Types...))))
	}
	var errs []error
	if !serviceName.MatchString(s.Name) {
		errs = append(errs, fmt.Errorf("field Name, %q: must be at most 32 of a-z, 0-9, '_' and '-', a letter first", s.Name))
	}
	if o.Lease < minLease {
		errs = append(errs, fmt.Errorf("field Lease, %v: must be at least %v", o.Lease, minLease))
	}
	for name, value := range map[string]int64{
		"Concurrency": int64(o.Concurrency), "HandleTimeout": int64(o.HandleTimeout), "FirstRetry": int64(o.FirstRetry),
		"MaxAttempts": int64(o.MaxAttempts), "MaxAge": int64(o.MaxAge), "MaxParked": int64(o.MaxParked),
		"KeepEnded": int64(o.KeepEnded), "ShutdownTimeout": int64(o.ShutdownTimeout),
	} {
		if value < 0 {
			errs = append(errs, fmt.Errorf("field %s: must not be negative", name))
		}
	}
	if o.LastRetry < o.FirstRetry {
		errs = append(errs, errors.New("field LastRetry: must not be less than FirstRetry"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("consume: service: %w", err)
	}
	return o, nil
}

// Check returns what is wrong with the settings, all of it, as [Run] does.
func (s *Service[S]) Check() error {
	_, err := s.options()
	return err
}

// minLease leaves a second for the server, which removes what has expired once a
// second, and one for handlers to return.
const minLease = 3 * time.Second

// limits returns the limits of one slot.
func (o *options) limits() limits {
	return limits{
		attempts: o.MaxAttempts, age: o.MaxAge, pause: backoff.Doubling{First: o.FirstRetry, Last: o.LastRetry},
		hold: o.HoldFailed, parked: max(o.MaxParked/len(slots), 1), idleBytes: idleBytes / len(slots),
	}
}

// idleBytes bounds the entries that one replica keeps in memory though their calls have
// nothing to do, so that their next event needs no read.
const idleBytes = 64 << 20

// handler returns the service's handler without the type of its state.
func (s *Service[S]) handler() handler {
	return func(ctx context.Context, id string, e *Entry, sequence uint64, number int, a *attempt, m *schemas.Message) ([]byte, error) {
		call := &Call[S]{ID: id, Attempt: number, Sequence: sequence, Stored: a.stored, Ended: e.Ended, attempt: *a}
		if len(e.State) > 0 {
			if err := json.Unmarshal(e.State, &call.State); err != nil {
				return nil, Permanent(fmt.Errorf("read the state of the call: %w", err))
			}
		}
		if err := s.Handle(ctx, call, m); err != nil {
			return nil, err
		}
		a.waits = call.waits
		state, err := json.Marshal(call.State)
		if err != nil {
			return nil, Permanent(fmt.Errorf("write the state of the call: %w", err))
		}
		return state, nil
	}
}

// Run handles events until ctx ends: then it starts no further handler, waits for those
// that run, gives the slots back, and returns nil. It returns an error when the service
// cannot start, or when nc is closed; what fails later is logged and tried again. Any
// number of replicas may run; 16 of them work. It needs nats-server 2.14 or newer.
func Run[S any](ctx context.Context, nc *nats.Conn, s Service[S]) error {
	o, err := s.options()
	if err != nil {
		return err
	}
	if s.Handle == nil {
		return errors.New("consume: service: field Handle: is required")
	}
	return run(ctx, nc, o, s.handler())
}
