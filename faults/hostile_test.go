package faults_test

import (
	"slices"
	"testing"
	"time"
)

const (
	goodRate = 500
	// junkRate is three times as much.
	junkRate = 3 * goodRate
	// junkSlowdown bounds the p99 of good callbacks beside junk, as a multiple
	// of what it is alone, in the long form: the short one runs on machines with
	// other things to do, which its times would tell of.
	junkSlowdown = 2
	// junkNoise is a p99 of which a multiple says nothing: the load generators
	// share their processors with the bridge.
	junkNoise = 5 * time.Millisecond
)

// TestHostileLoad lets strangers send three times as much as ACS does: tokens of
// unknown keys, bad signatures, headers without end, headers and bodies that
// come a byte at a time. Good callbacks must not notice: their p99 alone and
// beside the junk is measured in turns.
func TestHostileLoad(t *testing.T) {
	clean := usual
	clean.forged, clean.astray = 0, 0
	window := byForm(5*time.Second, 20*time.Second)
	var spans [2][][2]time.Time // alone, beside junk
	var junk *strangers
	scenario{
		load: load{rate: goodRate, mix: clean}, rounds: byForm(2, 5),
		fault: func(w *world, round int) {
			if junk == nil {
				junk = newStrangers(w)
			}
			begin := time.Now()
			w.pause(window)
			middle := time.Now()
			spans[0] = append(spans[0], [2]time.Time{begin, middle})
			stop := junk.send()
			middle = time.Now()
			w.pause(window)
			spans[1] = append(spans[1], [2]time.Time{middle, time.Now()})
			stop()
		},
		after: func(w *world) {
			var p99 [2]time.Duration
			for i, what := range []string{"alone", "beside junk"} {
				var all times
				for _, s := range spans[i] {
					got := timesOf(w.calls, s[0], s[1])
					w.Logf("%s, from %s on: p99 %v", what, s[0].Format(time.TimeOnly), quantile(got.stored, .99))
					all.stored, all.others = append(all.stored, got.stored...), all.others+got.others
				}
				slices.Sort(all.stored)
				p99[i] = quantile(all.stored, .99)
				w.Logf("%s: %d callbacks answered 200, p50 %v, p99 %v", what, len(all.stored), quantile(all.stored, .5), p99[i])
				if all.others > 0 {
					w.Errorf("%s, %d good callbacks were not answered 200", what, all.others)
				}
			}
			w.Logf("%s; most memory %.0f MiB", junk, w.bridge.process.peak(w)/(1<<20))
			if *form == "long" && p99[1] > max(junkSlowdown*p99[0], junkNoise) {
				w.Errorf("beside junk, answers take %v in p99, alone %v: more than %d times as long", p99[1], p99[0], junkSlowdown)
			}
			if peak := w.bridge.process.peak(w); peak > maxMemory {
				w.Errorf("the bridge took %.0f MiB, want %d at most", peak/(1<<20), maxMemory>>20)
			}
			for status := range junk.Answers {
				if status/100 == 2 {
					w.Errorf("junk was answered %d", status)
				}
			}
			least := len(spans[1]) * int(window/time.Second) * junkRate * 9 / 10
			if junk.Sent < least {
				w.Errorf("only %d pieces of junk were sent, want %d", junk.Sent, least)
			}
		},
	}.run(t)
}
