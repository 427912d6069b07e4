package publish_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/fakenats"
	"github.com/acsbridge/acsbridge/publish"
)

// lateness bounds how late the server acts on what it has received, and how
// late its answer is. It is longer than the bridge waits for an acknowledgement.
const lateness = 3500 * time.Millisecond

// simulatedWindow is the duplicate window of a plan whose outages outlast it.
// Half of it is the bridge's: until then it sends a record without a look at
// what the stream holds. A quarter is for a server that forgets early, or for a
// repetition that comes later than the first one. The last quarter must hold what a
// record can be late: a replica behind, three seconds for the record of its
// call before it, and lateness.
const simulatedWindow = 40 * time.Second

// syncInterval is how long an embedded server may keep what it acknowledged in
// memory alone.
const syncInterval = 5 * time.Second

// plan is what happens in one run.
type plan struct {
	seed uint64
	dice *rand.Rand // while the plan is played, guarded by the server's mutex
	// window is the stream's duplicate window. It is short in a plan whose
	// outages outlast it.
	window  time.Duration
	outlast bool
	repeats bool // senders send again what may be stored
	options publish.Options
	calls   []call
	faults  []*fault
}

// call is what one sender publishes, one callback after another.
type call struct {
	name      string // empty for events without a call
	callbacks []callback
}

// callback is what is published in one go, after a pause.
type callback struct {
	pause      time.Duration
	events     []int  // their numbers; an old one is a repetition
	quarantine string // a body that is not CloudEvents instead
}

// kind of a fault.
type kind string

const (
	breaks  kind = "connection breaks"
	down    kind = "server is down"
	stalls  kind = "server stalls"
	slow    kind = "server is slow"
	late    kind = "answers are late"
	silent  kind = "answers are lost"
	lossy   kind = "requests are lost"
	refuses kind = "server refuses"
	lies    kind = "server stores and refuses"
	behind  kind = "replica is behind"
	forgets kind = "server forgets early"
	restart kind = "bridge restarts"
	crash   kind = "bridge crashes"
	power   kind = "power fails" // of the machine that bridge and server share
)

// fault is one thing that goes wrong for a while.
type fault struct {
	kind      kind
	at, until time.Duration
	share     float64       // of the requests that it touches
	wait      time.Duration // by which it slows, zero for anything up to lateness
	keeps     bool          // the server acts on what it received before a break
	in, out   int           // bytes until a break, negative for none
	active    atomic.Bool
}

// passing are answers that do not say anything about the message. Without a
// code: no responders, as while a leader is elected.
var passing = []*jetstream.APIError{
	{Code: 503},
	{Code: 503, ErrorCode: 10008, Description: "JetStream system temporarily unavailable"},
	{Code: 429, ErrorCode: 10167, Description: "too many requests"},
	{Code: 503, ErrorCode: 10077, Description: "maximum messages exceeded"},
	{Code: 409, ErrorCode: 10158, Description: "message id is in process"},
}

// touch does to a request's fate what the fault is about.
func (f *fault) touch(fate *fakenats.Fate, dice *rand.Rand) {
	switch f.kind {
	case slow:
		fate.Wait = f.wait
		if f.wait == 0 {
			fate.Wait = spread(dice, 0, lateness)
		}
	case late:
		fate.Delay = spread(dice, 0, lateness)
	case silent:
		fate.Silent = true
	case lossy:
		fate.Lost = true
	case refuses, lies:
		fate.Refusal = passing[dice.IntN(len(passing))]
		fate.Stored = f.kind == lies
	case behind:
		fate.Behind = spread(dice, 0, 2*time.Second)
	}
}

func spread(dice *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(dice.Int64N(int64(high-low)))
}

// newPlan makes the plan of a seed.
func newPlan(seed uint64) *plan {
	dice := rand.New(rand.NewPCG(seed, 0x5eed))
	p := &plan{seed: seed, dice: dice, window: publish.DefaultDuplicates, outlast: dice.IntN(2) == 0}
	p.repeats = true
	if p.outlast {
		p.window = simulatedWindow
		p.repeats = dice.IntN(2) == 0
	}
	p.options.Stream.Duplicates = p.window
	p.options.Journal.SegmentSize = 16 << 10 // a plan fills a few
	switch dice.IntN(4) {
	case 0:
		p.options.AckWait = publish.NoAckWait
	case 1:
		p.options.KeepAcked = 2 * syncInterval
	case 2:
		p.options.Journal.MaxBytes = 20_000
	}
	for i := range 3 + dice.IntN(4) {
		p.calls = append(p.calls, p.newCall(string(rune('a'+i))))
	}
	p.calls[len(p.calls)-1].name = ""
	p.calls = append(p.calls, p.quarantined())
	length := 15 * time.Second
	if p.outlast {
		length = 70 * time.Second
	}
	for range 3 + dice.IntN(4) {
		p.faults = append(p.faults, p.newFault(length))
	}
	if p.outlast && dice.IntN(4) == 0 {
		// Before the position of a new journal has been saved in passing.
		at := spread(dice, 0, 100*time.Millisecond)
		p.faults = append(p.faults, &fault{kind: crash, at: at, until: at + 2*p.window, keeps: true})
	}
	if p.outlast && p.repeats && dice.IntN(8) == 0 {
		p.crawl()
	}
	slices.SortFunc(p.faults, func(a, b *fault) int { return int(a.at - b.at) })
	return p
}

// crawl makes this a plan in which the backlog of one call takes longer than a
// duplicate window to reach the stream, and its last events are repetitions of
// the first.
func (p *plan) crawl() {
	c := call{name: "a"}
	for n := range 20 {
		c.callbacks = append(c.callbacks, callback{pause: 200 * time.Millisecond, events: []int{n + 1}})
	}
	for n := range 5 {
		c.callbacks = append(c.callbacks, callback{events: []int{n + 1}})
	}
	p.calls = []call{c}
	p.options.Journal.MaxBytes = 0
	backAt := p.window/2 + spread(p.dice, 5*time.Second, 10*time.Second)
	p.faults = []*fault{
		{kind: down, until: backAt},
		{kind: slow, at: backAt, until: backAt + 2*p.window, share: 1, wait: 2500 * time.Millisecond},
	}
}

func (p *plan) newCall(name string) call {
	c := call{name: name}
	last := 0
	for range 3 + p.dice.IntN(6) {
		cb := callback{pause: p.pause()}
		if last > 0 && p.repeats && p.dice.IntN(6) == 0 {
			cb.events = append(cb.events, 1+p.dice.IntN(last))
		}
		for range p.dice.IntN(3) {
			last++
			cb.events = append(cb.events, last)
		}
		if len(cb.events) == 0 {
			last++
			cb.events = []int{last}
		}
		c.callbacks = append(c.callbacks, cb)
	}
	return c
}

// quarantined is a sender of callbacks that are not CloudEvents.
func (p *plan) quarantined() call {
	var c call
	for i := range p.dice.IntN(4) {
		c.callbacks = append(c.callbacks, callback{pause: p.pause(), quarantine: fmt.Sprintf("not JSON %d", i)})
	}
	return c
}

// pause is mostly short, because faults are where much is in flight.
func (p *plan) pause() time.Duration {
	if p.dice.IntN(3) > 0 {
		return spread(p.dice, 0, 20*time.Millisecond)
	}
	if p.outlast {
		return spread(p.dice, 0, 15*time.Second)
	}
	return spread(p.dice, 0, 3*time.Second)
}

// kinds of fault, the more interesting ones more than once.
var kinds = []kind{
	breaks, breaks, down, stalls, slow, late, silent, silent, lossy, refuses, refuses, lies, behind, forgets,
	restart, crash, crash, crash,
}

func (p *plan) newFault(length time.Duration) *fault {
	f := &fault{
		kind:  kinds[p.dice.IntN(len(kinds))],
		at:    spread(p.dice, 0, length),
		share: 1 - p.dice.Float64()*p.dice.Float64(),
		keeps: p.dice.IntN(2) == 0,
		in:    p.bytes(), out: p.bytes(),
	}
	last := spread(p.dice, 0, 4*time.Second)
	if p.outlast && p.dice.IntN(2) == 0 {
		last = p.window + spread(p.dice, 0, p.window/2)
	}
	switch {
	case f.kind == crash && p.options.KeepAcked > 0:
		f.kind, f.keeps = power, false
	case f.kind == stalls && p.outlast:
		// A copy that a server takes after a stall of more than its window is
		// stored again, and no publisher can prevent that.
		f.keeps = false
	case f.kind == forgets && p.outlast && p.repeats:
		f.kind = breaks
	}
	f.until = f.at + last
	return f
}

// bytes is how much a connection still carries before it breaks.
func (p *plan) bytes() int {
	switch p.dice.IntN(3) {
	case 0:
		return 0
	case 1:
		return -1
	}
	return 1 + p.dice.IntN(4000)
}

// String prints the plan.
func (p *plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "plan: duplicate window %v, repeats %v, ack wait %v, keep %v, journal of at most %d bytes\n",
		p.window, p.repeats, p.options.AckWait, p.options.KeepAcked, p.options.Journal.MaxBytes)
	for _, f := range p.faults {
		fmt.Fprintf(&b, "  %10v to %10v: %s (share %.2f, keeps %v, bytes in %d, out %d)\n", f.at, f.until, f.kind, f.share, f.keeps, f.in, f.out)
	}
	return b.String()
}
