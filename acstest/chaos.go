package acstest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"
)

// maxDuplicateGap is how many places after its first delivery a duplicate may
// come, so that other events of the call stand between them.
const maxDuplicateGap = 3

// Chaos is what goes wrong on the way, as shares between 0 and 1 of the
// callbacks of a call. The zero value lets everything arrive as it should.
type Chaos struct {
	// Duplicate callbacks come again, up to three places later, with the same
	// events and a new token.
	Duplicate float64
	// Reorder makes a callback change places with the next one of its call.
	Reorder float64
	// Delay holds a callback back for up to MaxDelay.
	Delay float64
	// MaxDelay bounds Delay before the speed factor. Zero means two seconds.
	MaxDelay time.Duration
	// Batch puts a callback's events into the body of the next one.
	Batch float64
	// Hostile callbacks are followed by an invented event with a bad token.
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
			return fmt.Errorf("chaos: %s %v is no share (0 to 1)", kind.name, kind.share)
		}
	}
	if c.MaxDelay < 0 {
		return fmt.Errorf("chaos: longest delay %v is negative", c.MaxDelay)
	}
	return nil
}

func (c Chaos) maxDelay() time.Duration {
	if c.MaxDelay == 0 {
		return 2 * time.Second
	}
	return c.MaxDelay
}

// disturb returns the script of one call with the chaos in it. The same
// script and state of rng give the same result, but for the ids of invented
// events.
func (c Chaos) disturb(rng *rand.Rand, script []Delivery, speed float64) []Delivery {
	hit := func(share float64) bool { return share > 0 && rng.Float64() < share }
	script = c.batch(hit, script)
	c.reorder(hit, script)
	c.delay(hit, rng, script, speed)
	script = c.attack(hit, rng, script)
	return c.duplicate(hit, rng, script)
}

// batch merges neighbours of one connection: the events of both go out when
// the later one is due.
func (c Chaos) batch(hit func(float64) bool, script []Delivery) []Delivery {
	var out []Delivery
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

// reorder swaps neighbours. The pauses stay where they are.
func (c Chaos) reorder(hit func(float64) bool, script []Delivery) {
	for i := 0; i+1 < len(script); i++ {
		a, b := &script[i], &script[i+1]
		if a.plain() && b.plain() && hit(c.Reorder) {
			*a, *b = *b, *a
			a.After, b.After = b.After, a.After
			i++ // what was moved stays: no callback wanders through the call
		}
	}
}

func (c Chaos) delay(hit func(float64) bool, rng *rand.Rand, script []Delivery, speed float64) {
	for i := range script {
		if script[i].plain() && hit(c.Delay) {
			script[i].After += scale(time.Duration(rng.Int64N(int64(c.maxDelay())+1)), speed)
		}
	}
}

// attack adds forgeries: the last event of a callback under an id of its own,
// so that its presence in the stream would be seen.
func (c Chaos) attack(hit func(float64) bool, rng *rand.Rand, script []Delivery) []Delivery {
	var out []Delivery
	for _, d := range script {
		out = append(out, d)
		if !d.plain() || !hit(c.Hostile) {
			continue
		}
		forged := d.Events[len(d.Events)-1]
		forged.ID = uuid.NewString()
		d.After = 0
		d.Bearer = hostileBearers[rng.IntN(len(hostileBearers))]
		d.Events = []Event{forged}
		out = append(out, d)
	}
	return out
}

// duplicate adds second deliveries. It works backwards, so that no copy is
// looked at itself.
func (c Chaos) duplicate(hit func(float64) bool, rng *rand.Rand, script []Delivery) []Delivery {
	for i := len(script) - 1; i >= 0; i-- {
		if script[i].plain() && hit(c.Duplicate) {
			at := min(i+1+rng.IntN(maxDuplicateGap), len(script))
			script = slices.Insert(script, at, script[i].again())
		}
	}
	return script
}
