package acstest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"
)

// maxDuplicateGap bounds the other callbacks of a call between a callback and its
// duplicate.
const maxDuplicateGap = 3

// maxDelay bounds a delay.
const maxDelay = 2 * time.Second

// Chaos is what goes wrong on the way, as shares between 0 and 1 of the callbacks of a
// call. The zero value changes nothing.
type Chaos struct {
	// Duplicate sends a callback again, up to three callbacks later, with the same
	// events and a new token.
	Duplicate float64
	// Reorder swaps a callback with the next one of its call.
	Reorder float64
	// Delay delays a callback by up to two seconds, divided by the speed.
	Delay float64
	// Batch moves the events of a callback into the body of the next one.
	Batch float64
	// Hostile adds a callback with an invented event and a bad token.
	Hostile float64
}

// EvenChaos returns all kinds of chaos with the same share.
func EvenChaos(share float64) Chaos {
	return Chaos{Duplicate: share, Reorder: share, Delay: share, Batch: share, Hostile: share}
}

func (c Chaos) check() error {
	for _, kind := range []struct {
		name  string
		share float64
	}{
		{"duplicate", c.Duplicate},
		{"reorder", c.Reorder},
		{"delay", c.Delay},
		{"batch", c.Batch},
		{"hostile", c.Hostile},
	} {
		if !(kind.share >= 0 && kind.share <= 1) { // also refuses NaN
			return fmt.Errorf("chaos: %s %v is not a share (0 to 1)", kind.name, kind.share)
		}
	}
	return nil
}

// apply returns the script of one call with the chaos in it. The same script and state
// of rng give the same result, except for the ids of invented events.
func (c Chaos) apply(rng *rand.Rand, script []Callback, speed float64) []Callback {
	hit := func(share float64) bool { return share > 0 && rng.Float64() < share }
	script = c.batch(hit, script)
	c.reorder(hit, script)
	c.delay(hit, rng, script, speed)
	script = c.addForgeries(hit, rng, script)
	return c.duplicate(hit, rng, script)
}

// batch merges neighbours of one connection: the events of both are sent when the later
// one is due.
func (c Chaos) batch(hit func(float64) bool, script []Callback) []Callback {
	var out []Callback
	for _, next := range script {
		last := len(out) - 1
		if last >= 0 && out[last].plain() && next.plain() && out[last].Path == next.Path && out[last].Grid == next.Grid && hit(c.Batch) {
			next.After += out[last].After
			next.Events = slices.Concat(out[last].Events, next.Events)
			out[last] = next
			continue
		}
		out = append(out, next)
	}
	return out
}

// reorder swaps neighbours, but not their pauses.
func (c Chaos) reorder(hit func(float64) bool, script []Callback) {
	for i := 0; i+1 < len(script); i++ {
		a, b := &script[i], &script[i+1]
		if a.plain() && b.plain() && hit(c.Reorder) {
			*a, *b = *b, *a
			a.After, b.After = b.After, a.After
			i++ // move each callback once
		}
	}
}

func (c Chaos) delay(hit func(float64) bool, rng *rand.Rand, script []Callback, speed float64) {
	for i := range script {
		if script[i].plain() && hit(c.Delay) {
			script[i].After += scale(time.Duration(rng.Int64N(int64(maxDelay)+1)), speed)
		}
	}
}

// addForgeries adds the last event of a callback again with a bad token and a new id,
// so that a check of the stream would find it.
func (c Chaos) addForgeries(hit func(float64) bool, rng *rand.Rand, script []Callback) []Callback {
	var out []Callback
	for _, d := range script {
		out = append(out, d)
		if !d.plain() || !hit(c.Hostile) {
			continue
		}
		forged := d.Events[len(d.Events)-1]
		forged.ID = uuid.NewString()
		d.After = 0
		d.Bearer = hostileBearers[rng.IntN(len(hostileBearers))]
		d.Events = []WireEvent{forged}
		out = append(out, d)
	}
	return out
}

// duplicate adds duplicates, from the end, so that it does not visit them.
func (c Chaos) duplicate(hit func(float64) bool, rng *rand.Rand, script []Callback) []Callback {
	for i := len(script) - 1; i >= 0; i-- {
		if script[i].plain() && hit(c.Duplicate) {
			at := min(i+1+rng.IntN(maxDuplicateGap), len(script))
			script = slices.Insert(script, at, script[i].duplicate())
		}
	}
	return script
}
