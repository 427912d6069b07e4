package consume

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"time"
)

// Entry is what the bucket keeps of one call. It is one JSON document, and one write:
// position, state, attempts and waits cannot come apart.
type Entry struct {
	// Epoch is the lease under which the entry was written, and Write is another number
	// for each write under it: after a lost answer both show whether a write was stored.
	Epoch uint64 `json:"epoch"`
	Write uint64 `json:"write"`
	// Cursor is the newest event that was handled or is in Queue, and Queue has those
	// up to the cursor that are not handled, both by their sequences in the stream.
	Cursor uint64   `json:"cursor"`
	Queue  []uint64 `json:"queue,omitempty"`

	State json.RawMessage `json:"state,omitempty"` // the service's own
	Retry *Retry          `json:"retry,omitempty"` // nil when no event has failed
	Waits []Wait          `json:"waits,omitempty"`
	Ended bool            `json:"ended,omitempty"` // its CallDisconnected was handled
	Held  bool            `json:"held,omitempty"`  // parked after a dead letter

	Recent  []string `json:"recent,omitempty"`  // hashes of the message ids handled last
	Results []string `json:"results,omitempty"` // types and hashed contexts of results handled last
}

// Retry is about the first event of a call, which has failed.
type Retry struct {
	Event    string    `json:"event"` // sequence in the stream, or the id of a wait
	Attempts int       `json:"attempts"`
	Since    time.Time `json:"since"` // of the first failure
	Next     time.Time `json:"next"`  // when it is tried again
	Dead     *Dead     `json:"dead,omitempty"`
}

// Dead is about an event that has been given up, and whose dead letter could not be stored.
// That is tried again, and the handler does not get the event any more.
type Dead struct {
	ID     string `json:"id"` // of the dead letter
	Reason string `json:"reason"`
	Error  string `json:"error,omitempty"` // as in schemas.HeaderDeadError
}

// Wait is a wait for an event; see [Call.Expect].
type Wait struct {
	ID       string    `json:"id"`
	Types    []string  `json:"types"`
	Context  string    `json:"operationContext,omitempty"` // empty is any
	Deadline time.Time `json:"deadline"`
	Resource string    `json:"resource,omitempty"` // of the event in whose handler it began
}

// matches reports whether an event of a type and an operationContext ends the wait.
func (w *Wait) matches(shortType, operationContext string) bool {
	return slices.Contains(w.Types, shortType) && (w.Context == "" || w.Context == operationContext)
}

// Bounds of an entry.
const (
	maxQueue   = 1000 // events of one parked call, some 10 KB
	maxRecent  = 16   // message ids: a duplicate follows its original closely
	maxResults = 16
	maxWaits   = 32
)

// clone returns a copy whose slices can be changed.
func (e *Entry) clone() *Entry {
	c := *e
	c.Queue, c.Waits = slices.Clone(e.Queue), slices.Clone(e.Waits)
	c.Recent, c.Results = slices.Clone(e.Recent), slices.Clone(e.Results)
	return &c
}

// finished reports whether an event is finished by what the entry says.
func (e *Entry) finished(seq uint64) bool {
	return seq <= e.Cursor && !slices.Contains(e.Queue, seq)
}

// succeed applies what a handler has done for an event of the stream, or for a
// timeout.
func (e *Entry) succeed(o *outcome, at time.Time) {
	e.remove(o.event)
	e.State = o.state
	if o.ended {
		e.Ended, e.Waits = true, nil
	}
	if o.event.wait == "" && o.skipped == "" { // what the handler does not get ends no wait
		e.Waits = slices.DeleteFunc(e.Waits, func(w Wait) bool { return w.matches(o.shortType, o.context) })
	}
	for _, w := range o.waits {
		if w.Context != "" && slices.ContainsFunc(w.Types, func(t string) bool { return slices.Contains(e.Results, result(t, w.Context)) }) {
			continue
		}
		e.Waits = append(e.Waits, w)
	}
	if o.context != "" && o.skipped == "" {
		e.Results = appendBounded(e.Results, result(o.shortType, o.context), maxResults)
	}
}

// remove takes an event away that is finished.
func (e *Entry) remove(ev *event) {
	e.Retry = nil
	if ev.wait != "" {
		e.Waits = slices.DeleteFunc(e.Waits, func(w Wait) bool { return w.ID == ev.wait })
		return
	}
	if i := slices.Index(e.Queue, ev.seq); i >= 0 {
		e.Queue = slices.Delete(e.Queue, i, i+1)
	}
	e.Cursor = max(e.Cursor, ev.seq)
}

// nextTime returns when something is to be done for the call without a new event, or
// the zero time. Waits that are pending are looked after already.
func (e *Entry) nextTime(pending func(id string) bool) (at time.Time) {
	switch {
	case e.Held:
		return time.Time{}
	case e.Retry != nil:
		at = e.Retry.Next
	case len(e.Queue) > 0: // its owner has died, most likely
		return time.Unix(1, 0)
	}
	for _, w := range e.Waits {
		if !pending(w.ID) && (at.IsZero() || w.Deadline.Before(at)) {
			at = w.Deadline
		}
	}
	return at
}

// lifetime returns for how long the bucket keeps the entry when nothing changes.
func (e *Entry) lifetime(now time.Time, ended time.Duration) time.Duration {
	keep := idleLifetime
	if e.Ended && len(e.Queue) == 0 && len(e.Waits) == 0 && e.Retry == nil {
		keep = ended
	}
	for _, w := range e.Waits {
		keep = max(keep, w.Deadline.Sub(now)+idleLifetime)
	}
	return keep
}

// idleLifetime is how long the entry of a call is kept after its last event when no end
// has come. Streams keep their events for less.
const idleLifetime = 7 * 24 * time.Hour

func appendBounded(list []string, item string, most int) []string {
	list = append(list, item)
	if len(list) > most {
		list = slices.Delete(list, 0, len(list)-most)
	}
	return list
}

// short returns a hash of nine bytes: contexts may be personal, and ids are long.
func short(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

func result(shortType, operationContext string) string {
	return shortType + ":" + short(operationContext)
}

// key names an event in [Retry].
func (ev *event) key() string {
	if ev.wait != "" {
		return ev.wait
	}
	return strconv.FormatUint(ev.seq, 10)
}
