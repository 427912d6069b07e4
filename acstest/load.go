package acstest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// defaultConcurrency is the default of [Load.Concurrency].
const defaultConcurrency = 64

// Load describes the calls that a [Caller] plays. What is sent depends only on the load,
// so that [Load.Expect] can count the outcome in advance.
type Load struct {
	// Flows are played in turn: call i has the flow i modulo their number. Empty means
	// all that are not hostile.
	Flows []*Flow
	// Calls ends the load after so many. Zero means no end.
	Calls int
	// Duration ends the load after a time: no call starts later, calls that have
	// started are played to their end. Zero means no end.
	Duration time.Duration
	// Rate is the number of calls that start in a second. Zero means as fast
	// as Concurrency allows.
	Rate float64
	// Concurrency bounds the calls at a time. Zero means 64.
	Concurrency int
	// Speed divides every pause of a flow. Zero means 1, the pace of ACS; +Inf
	// leaves no pause.
	Speed float64
	// EventGrid starts calls with their events of Event Grid, which needs
	// [CallerOptions.EventGrid]. Without it, those steps of a flow are left out.
	EventGrid bool
	// Chaos is added to every call.
	Chaos Chaos
	// Seed decides the chaos, whatever the timing. Ids are new in every run.
	Seed uint64
}

// withDefaults checks the load and fills in the defaults.
func (l Load) withDefaults() (Load, error) {
	switch {
	case l.Calls < 0:
		return l, fmt.Errorf("load: %d calls", l.Calls)
	case l.Duration < 0:
		return l, fmt.Errorf("load: duration %v is negative", l.Duration)
	case !(l.Rate >= 0) || math.IsInf(l.Rate, 0):
		return l, fmt.Errorf("load: rate %v is not a number of calls a second", l.Rate)
	case l.Concurrency < 0:
		return l, fmt.Errorf("load: concurrency %d is negative", l.Concurrency)
	case !(l.Speed >= 0):
		return l, fmt.Errorf("load: speed %v is not a factor", l.Speed)
	}
	if err := l.Chaos.check(); err != nil {
		return l, fmt.Errorf("load: %w", err)
	}
	if l.Concurrency == 0 {
		l.Concurrency = defaultConcurrency
	}
	if l.Speed == 0 {
		l.Speed = 1
	}
	if len(l.Flows) == 0 {
		flows, err := NamedFlows()
		if err != nil {
			return l, err
		}
		l.Flows = flows
	}
	return l, nil
}

// script returns the callbacks of call i. Each call has its own random numbers, so the
// chaos does not depend on which call is quicker.
func (l Load) script(i int, start time.Time) ([]Callback, error) {
	flow := l.Flows[i%len(l.Flows)]
	script, err := flow.script(NewCall(), start, l.Speed, l.EventGrid)
	if err != nil {
		return nil, fmt.Errorf("flow %s: %w", flow.Name, err)
	}
	rng := rand.New(rand.NewPCG(l.Seed, uint64(i)))
	return l.Chaos.apply(rng, script, l.Speed), nil
}

// Expectation is the outcome of a load without faults. Its fields compare with those of
// a [Report].
type Expectation struct {
	Callbacks int            // callbacks sent, without retries
	Kinds     map[string]int // the same by kind
	Answers   map[int]int    // the same by status; see [Bearer] for unknown-kid
	Stored    int            // events that must be in the stream
}

// Expect counts the outcome in advance. The load must have a number of calls as its
// end.
func (l Load) Expect() (Expectation, error) {
	l, err := l.withDefaults()
	if err != nil {
		return Expectation{}, err
	}
	if l.Calls == 0 || l.Duration > 0 {
		return Expectation{}, errors.New("load: its end is not a number of calls")
	}
	want := Expectation{Kinds: make(map[string]int), Answers: make(map[int]int)}
	for i := range l.Calls {
		script, err := l.script(i, time.Now())
		if err != nil {
			return Expectation{}, err
		}
		for _, d := range script {
			want.Callbacks++
			want.Kinds[d.Kind()]++
			want.Answers[d.Bearer.Want()]++
			if d.plain() {
				want.Stored += len(d.Events)
			}
		}
	}
	return want, nil
}
