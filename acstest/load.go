package acstest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// defaultConcurrency bounds the calls under way when the load does not say.
const defaultConcurrency = 64

// Load says which calls a [Caller] plays. What is sent depends on nothing but
// the load, so that [Load.Expect] can tell beforehand what must come out.
type Load struct {
	// Flows are played in turn: call i has the flow i modulo their number.
	// None means all that are not hostile.
	Flows []*Flow
	// Calls ends the load after so many. Zero means no end.
	Calls int
	// Duration ends the load after a time: no call starts later, those under
	// way are played to their end. Zero means no end.
	Duration time.Duration
	// Rate is the number of calls that start in a second. Zero means as fast
	// as Concurrency allows.
	Rate float64
	// Concurrency is the number of calls under way at a time. Zero means 64.
	Concurrency int
	// Speed divides every pause of a flow. Zero means 1, the pace of ACS; +Inf
	// leaves no pause.
	Speed float64
	// EventGrid has calls begin with what Event Grid says of them, for which the
	// caller must play it. Without it, those steps of a flow are left out.
	EventGrid bool
	// Chaos is added to every call.
	Chaos Chaos
	// Seed makes the chaos: one seed, one course of things, whatever the
	// timing. It does not make the ids, which are new in every run.
	Seed uint64
}

// withDefaults returns the load with every zero replaced, or what is wrong
// with it.
func (l Load) withDefaults() (Load, error) {
	switch {
	case l.Calls < 0:
		return l, fmt.Errorf("load: %d calls", l.Calls)
	case l.Duration < 0:
		return l, fmt.Errorf("load: duration %v is negative", l.Duration)
	case !(l.Rate >= 0) || math.IsInf(l.Rate, 0):
		return l, fmt.Errorf("load: rate %v is no number of calls a second", l.Rate)
	case l.Concurrency < 0:
		return l, fmt.Errorf("load: concurrency %d is negative", l.Concurrency)
	case !(l.Speed >= 0):
		return l, fmt.Errorf("load: speed %v is no factor", l.Speed)
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

// script returns what call i sends. Each call draws from a sequence of its
// own, so the chaos does not depend on which call is quicker.
func (l Load) script(i int, start time.Time) ([]Delivery, error) {
	flow := l.Flows[i%len(l.Flows)]
	script, err := flow.script(NewCall(), start, l.Speed, l.EventGrid)
	if err != nil {
		return nil, fmt.Errorf("flow %s: %w", flow.Name, err)
	}
	rng := rand.New(rand.NewPCG(l.Seed, uint64(i)))
	return l.Chaos.disturb(rng, script, l.Speed), nil
}

// Expectation is what a load must lead to when every callback gets through.
// It compares with the fields of a [Report] that have the same names.
type Expectation struct {
	Callbacks int            // callbacks sent, without retries
	Kinds     map[string]int // the same by kind
	Answers   map[int]int    // the same by status; see [Bearer] for unknown-kid
	Stored    int            // different events that must be in the stream
}

// Expect counts what the load will send and must get, without sending. The
// load must have an end in calls.
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
