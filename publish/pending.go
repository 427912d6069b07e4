package publish

import (
	"hash/maphash"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/acsbridge/acsbridge/schemas"
)

// A call with many events in a row must not hold up the others: the window reaches over
// a thousand usual ones. What is in flight is less, since the stream's memory holds it.
const (
	windowSize  = 2048    // records between the cursor and the newest one that was read
	windowBytes = 2 << 20 // of their payloads and headers
	maxInFlight = 512     // records that wait for an answer of the stream
)

// pending is the window of records behind the cursor: a ring by index, and a queue
// for each call. A record waits in its call's queue until the stream has the one
// before it, so that a refusal cannot change the order of a call. Records of other
// calls overtake it. Events without a call, and what goes to quarantine, wait for
// nothing.
//
// It knows neither clock nor NATS, and is used by one goroutine.
type pending struct {
	ring  [windowSize]entry // at index modulo windowSize
	acked uint64            // the cursor: all records up to here are done
	last  uint64            // the newest record that was admitted
	bytes int               // of the records in the window
	// inFlight are the records that are sent or comparing.
	inFlight int
	// ready are the records that may be published now, in this order: a queue of
	// which so many were added and taken.
	ready        [windowSize]uint64
	added, taken int
	seed         maphash.Seed
	// newest is the last record of each call that was not released.
	newest map[uint64]uint64
}

// entry is one pending record.
type entry struct {
	index  uint64
	record *record
	size   int       // of the record when it was admitted
	call   uint64    // hash of its call, zero for none, or when it was released
	next   uint64    // the record of its call that waits for it, zero for none
	sent   time.Time // zero when it was not published
	state  entryState

	duplicate bool   // the stream had it before
	refused   string // why the stream can never have it
	handed    bool   // the journal of the quarantine has it

	span trace.Span // of its publish; nil without traces
}

// entryState only grows.
type entryState uint8

const (
	waiting   entryState = iota // for its call, or to be published
	sent                        // for its acknowledgement
	comparing                   // with what the stream has under its message id
	done                        // it is known how it ended
)

func newPending(acked uint64) *pending {
	return &pending{acked: acked, last: acked, seed: maphash.MakeSeed(), newest: make(map[uint64]uint64)}
}

// hasRoom reports whether another record can be admitted, of whatever size.
func (p *pending) hasRoom() bool { return p.last < p.acked+windowSize && p.bytes < windowBytes }

// admit takes the record behind the newest one, last in the queue of its call.
func (p *pending) admit(r *record) *entry {
	p.last++
	e := &p.ring[p.last%windowSize]
	*e = entry{index: p.last, record: r, size: r.size(), call: p.callOf(r)}
	p.bytes += e.size
	before, waits := p.newest[e.call]
	if e.call != 0 {
		p.newest[e.call] = e.index
	}
	if e.call != 0 && waits {
		p.ring[before%windowSize].next = e.index
	} else {
		p.makeReady(e.index)
	}
	return e
}

func (p *pending) makeReady(index uint64) {
	p.ready[p.added%windowSize] = index
	p.added++
}

// callOf returns the hash of a record's call, or zero when it has none. Two calls
// with the same hash only wait for each other.
func (p *pending) callOf(r *record) uint64 {
	call := r.subject[strings.LastIndexByte(r.subject, '.')+1:]
	if call == "" || call == schemas.NoCall || r.forQuarantine() {
		return 0
	}
	return max(maphash.String(p.seed, call), 1)
}

// takeReady returns the record that is to be published next, nil when there is none or
// enough is in flight.
func (p *pending) takeReady() *entry {
	for p.taken < p.added && p.inFlight < maxInFlight {
		index := p.ready[p.taken%windowSize]
		p.taken++
		if e := &p.ring[index%windowSize]; e.index == index && e.state == waiting { // it did not end meanwhile
			return e
		}
	}
	return nil
}

// begin notes that a record is sent or comparing.
func (p *pending) begin(e *entry, state entryState) {
	if e.state == waiting {
		p.inFlight++
	}
	e.state = state
}

// awaiting returns a record that waits for its acknowledgement, nil when the index
// is of no such record: an answer can be late, forged, or the second one.
func (p *pending) awaiting(index uint64) *entry {
	if e := &p.ring[index%windowSize]; e.index == index && e.state == sent {
		return e
	}
	return nil
}

// release makes the record ready that waits for this one of its call. The stream has
// this one, or never will.
func (p *pending) release(e *entry) {
	if e.call == 0 {
		return
	}
	if e.next != 0 {
		p.makeReady(e.next)
	} else {
		delete(p.newest, e.call)
	}
	e.call = 0
}

// finish notes that it is known how a record ended.
func (p *pending) finish(e *entry) {
	p.release(e)
	if e.state == sent || e.state == comparing {
		p.inFlight--
	}
	e.state = done
}

// first returns the record behind the cursor, nil when none is pending.
func (p *pending) first() *entry {
	if p.acked == p.last {
		return nil
	}
	return &p.ring[(p.acked+1)%windowSize]
}

// advance moves the cursor behind the first record, which is done.
func (p *pending) advance() {
	e := p.first()
	p.bytes -= e.size
	e.record = nil
	p.acked++
}

// sentBefore reports whether a record waits for its acknowledgement since before a time.
func (p *pending) sentBefore(at time.Time) bool {
	for i := range p.ring {
		if e := &p.ring[i]; e.state == sent && e.sent.Before(at) {
			return true
		}
	}
	return false
}

// maybeSent returns the highest index that may be in the stream.
func (p *pending) maybeSent() (index uint64) {
	for i := range p.ring {
		if e := &p.ring[i]; e.state >= sent {
			index = max(index, e.index)
		}
	}
	return index
}
