package consume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// Call is the call of the event that a handler got. It is valid until the handler
// returns, and must not be used by other goroutines. The zero value works too, for tests
// of a handler without NATS: they fill in the fields, and read State and [Call.Waits].
type Call[S any] struct {
	// ID is the last token of the subjects of the call's events: its callConnectionId,
	// or the correlationId of an event of Event Grid.
	ID string
	// State is the service's own. What the handler leaves there is stored when it
	// returns nil, together with the position, and is discarded otherwise.
	State S
	// Attempt is 1 the first time that the handler gets the event. After a lost lease it
	// does not count the attempt that was cut off.
	Attempt int
	// Sequence is that of the event in the stream, zero for a timeout.
	Sequence uint64
	// Stored is the event as the stream has it, with its sender's own bytes, which the
	// parsers of the SDKs read; nil for a timeout. It must not be changed.
	Stored *replay.StoredMessage
	// Ended reports that the CallDisconnected of the call was handled.
	Ended bool

	attempt
}

// attempt is what one run of a handler has asked for.
type attempt struct {
	service  string
	id       string // of the event: its message id, or the id of its wait
	resource string
	stored   *replay.StoredMessage
	results  []string // that were handled before
	waiting  int      // waits that the call has
	waits    []Wait
}

// Expect waits for an event of one of the types, such as "RecognizeCompleted". When none
// has been handled before the timeout, the handler gets a [*Timeout] in its place: in
// any replica, and also after a restart. The events themselves come as they would
// without it, so [Service.Types] must name them. The end of the call, and an error of
// the handler, end the wait. A call has at most 32 waits; further ones panic.
func (a *attempt) Expect(timeout time.Duration, types ...string) {
	a.ExpectContext(timeout, "", types...)
}

// ExpectContext is [Call.Expect] for the event that answers the request with this
// operationContext. It reports whether one has been handled already, since ACS promises
// no order: then nothing is waited for. It knows the last 16 of the call.
func (a *attempt) ExpectContext(timeout time.Duration, operationContext string, types ...string) (handled bool) {
	if len(types) == 0 || timeout <= 0 {
		panic("consume: Expect needs a timeout and at least one type")
	}
	w := Wait{ // its id comes into logs, and that of an event of Event Grid can have a telephone number in it
		ID: fmt.Sprintf("%s/wait/%d", short(a.id), len(a.waits)), Context: operationContext,
		Deadline: time.Now().Add(timeout).Round(0), Resource: a.resource,
	}
	for _, t := range types {
		t = schemas.ShortType(t)
		w.Types = append(w.Types, t)
		for _, r := range a.results {
			handled = handled || operationContext != "" && r == result(t, operationContext)
		}
	}
	if handled {
		return true
	}
	if a.waiting+len(a.waits) >= maxWaits {
		panic(fmt.Sprintf("consume: the call has %d waits already", maxWaits))
	}
	a.waits = append(a.waits, w)
	return false
}

// Waits returns what the handler has asked for with [Call.Expect] and [Call.ExpectContext]
// so far. It is for tests.
func (a *attempt) Waits() []Wait { return slices.Clone(a.waits) }

// effects is the namespace of the ids of effects.
var effects = uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/acsbridge/acsbridge/consume"))

// EffectID returns an id that is the same in every attempt at this event, and another for
// each step: a UUID of version 5. It suits the header Repeatability-Request-ID, with
// which ACS does a request once that is made twice
// (https://learn.microsoft.com/rest/api/communication/).
func (a *attempt) EffectID(step string) string {
	return uuid.NewSHA1(effects, []byte(a.service+"\x00"+a.id+"\x00"+step)).String()
}

// TimeoutType is the type of the event of a [Timeout].
const TimeoutType = "Timeout"

// Timeout is the data of an event that comes when the deadline of an [Call.Expect] has
// passed. It is made by this package: the stream does not have it.
type Timeout struct {
	Types            []string // that were expected
	OperationContext string   // empty: any
	Deadline         time.Time
	call             string
}

// IDs returns the id of the call.
func (t *Timeout) IDs() schemas.CallIDs { return schemas.CallIDs{CallConnectionID: t.call} }

// timeoutMessage returns the event of a wait whose deadline has passed.
func timeoutMessage(service, call string, w *Wait) *schemas.Message {
	return &schemas.Message{
		Event: schemas.Event{
			ID: w.ID, Source: "acsbridge/consume/" + service, Type: TimeoutType, SpecVersion: "1.0",
			Time: schemas.Timestamp(w.Deadline.UTC().Format(time.RFC3339Nano)),
			Data: &Timeout{Types: w.Types, OperationContext: w.Context, Deadline: w.Deadline, call: call},
		},
		Delivery: schemas.Delivery{MsgID: w.ID, Resource: w.Resource},
	}
}

// Permanent marks an error that no further attempt can mend: the event becomes a dead
// letter at once. Of nil it returns nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ error }

func (e *permanentError) Unwrap() error { return e.error }

// RetryAfter marks an error with the pause before the next attempt, such as that of a
// Retry-After header, in place of the service's own. Of nil it returns nil.
func RetryAfter(err error, pause time.Duration) error {
	if err == nil {
		return nil
	}
	return &retryError{err, pause}
}

type retryError struct {
	error
	pause time.Duration
}

func (e *retryError) Unwrap() error { return e.error }

// Pause marks an error that is about all calls, such as a receiver that takes nothing for
// a while: this replica starts no handler until the pause has passed, and then handles the
// event as if it had not been handled. Its call is not parked, and neither the attempt nor
// the time counts towards a dead letter. Of nil it returns nil.
func Pause(err error, pause time.Duration) error {
	if err == nil {
		return nil
	}
	return &pauseError{err, pause}
}

type pauseError struct {
	error
	pause time.Duration
}

func (e *pauseError) Unwrap() error { return e.error }

// fail fills the outcome of a handler that has returned an error.
func (o *outcome) fail(err error) {
	var retry *retryError
	if errors.As(err, &retry) {
		o.after = retry.pause
	}
	var permanent *permanentError
	o.err, o.permanent = err, errors.As(err, &permanent)
}

// handler is a [Handler] without the type of its state: it takes the state as JSON and
// returns the new one.
type handler func(ctx context.Context, call string, e *Entry, sequence uint64, number int, a *attempt, m *schemas.Message) (state []byte, err error)
