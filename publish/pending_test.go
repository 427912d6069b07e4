package publish

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/schemas"
)

// callRecord returns a record of a call.
func callRecord(call string) *record {
	return &record{stream: schemas.Stream, subject: "acs.contoso.PlayCompleted.0." + call}
}

// Each script has steps: "+a" admits a record of call a ("_" for none, "q" for the
// quarantine), ">2" takes record 2 as ready and sends it, ">-" finds none ready, "~2"
// releases the call of record 2, whose comparison begins, "!2" finishes it, "=2" moves
// the cursor as far as possible and expects it there.
func TestPending_steps(t *testing.T) {
	for name, script := range map[string]string{
		"one call, one after another":           "+a +a +a >1 >- !1 >2 >- !2 >3 !3 >- =3",
		"calls overtake one another":            "+a +a +b +a +b >1 >3 >- !3 >5 !5 >- =0 !1 =1 >2 !2 >4 !4 =5",
		"admitted in between":                   "+a >1 +a >- +b >3 !3 =0 !1 >2 =1 !2 =3",
		"a call again after it was empty":       "+a >1 !1 =1 +a >2 !2 =2",
		"no call waits for nothing":             "+_ +_ +_ >1 >2 >3 !3 !2 =0 !1 =3",
		"the quarantine waits for nothing":      "+q +q >1 >2 !2 !1 =2",
		"a comparison releases its call":        "+a +a +a >1 ~1 >2 !2 >3 !3 =0 !1 =3",
		"released once":                         "+a +a +a >1 ~1 >2 ~1 !1 >- =1 !2 >3",
		"ended before it was published":         "+a +_ !2 >1 >- !1 =2",
		"refused before it was published":       "+a +a >1 !1 !2 >- =2",
		"released records before admitted ones": "+a +a >1 !1 +b >2 >3",
	} {
		t.Run(name, func(t *testing.T) {
			p := newPending(0)
			for i, step := range strings.Fields(script) {
				index, _ := strconv.ParseUint(step[1:], 10, 64)
				e := &p.ring[index%windowSize]
				switch step[0] {
				case '+':
					r := callRecord(step[1:])
					if step[1:] == "q" {
						r = &record{stream: schemas.QuarantineStream, subject: "acs-quarantine.contoso.not_json"}
					}
					p.admit(r)
				case '>':
					got := "-"
					if e := p.takeReady(); e != nil {
						got = fmt.Sprint(e.index)
						p.begin(e, sent)
						if p.awaiting(e.index) != e {
							t.Errorf("step %d: no acknowledgement of %d is awaited", i+1, e.index)
						}
					}
					if got != step[1:] {
						t.Fatalf("step %d of %s: ready is %s, want %s", i+1, script, got, step[1:])
					}
				case '~':
					p.release(e)
					p.begin(e, comparing)
				case '!':
					p.finish(e)
					if p.awaiting(index) != nil {
						t.Errorf("step %d: a second acknowledgement of %d is awaited", i+1, index)
					}
				case '=':
					for e := p.first(); e != nil && e.state == done; e = p.first() {
						p.advance()
					}
					if p.acked != index {
						t.Fatalf("step %d of %s: the cursor is at %d, want %d", i+1, script, p.acked, index)
					}
				}
			}
		})
	}
}

// However records end, each call keeps its order, no record waits for another call, and
// the window leaves nothing behind.
func TestPending_random(t *testing.T) {
	p := newPending(7) // of an earlier run
	dice := rand.New(rand.NewPCG(1, 2))
	const calls, records = 9, 5 * windowSize
	newest := make(map[string]uint64) // of each call that was published
	var under []*entry
	for ended := 0; ended < records; {
		for p.hasRoom() && p.last < 7+records {
			p.admit(callRecord(fmt.Sprint(dice.IntN(calls))))
		}
		for e := p.takeReady(); e != nil; e = p.takeReady() {
			call := e.record.subject
			if e.index <= newest[call] {
				t.Fatalf("record %d of %s is published after %d", e.index, call, newest[call])
			}
			newest[call] = e.index
			p.begin(e, sent)
			under = append(under, e)
		}
		if p.hasRoom() != (p.last-p.acked < windowSize) || len(under) == 0 || len(under) != p.inFlight {
			t.Fatalf("cursor %d, newest %d, %d are published", p.acked, p.last, len(under))
		}
		at := dice.IntN(len(under))
		p.finish(under[at])
		under = append(under[:at], under[at+1:]...)
		for e := p.first(); e != nil && e.state == done; e = p.first() {
			p.advance()
			ended++
		}
	}
	if p.acked != 7+records || len(p.newest) > 0 || p.first() != nil || p.inFlight != 0 || p.bytes != 0 {
		t.Errorf("afterwards: cursor %d, %d calls are waited for", p.acked, len(p.newest))
	}
}

func TestPending_maybeSent(t *testing.T) {
	p := newPending(10000)
	for range 3 {
		p.admit(callRecord("_"))
	}
	if got := p.maybeSent(); got != 0 {
		t.Errorf("before: %d", got)
	}
	p.takeReady()
	p.begin(p.takeReady(), sent)
	if got := p.maybeSent(); got != 10002 {
		t.Errorf("got %d, want 10002", got)
	}
	for _, index := range []uint64{0, 10001, 10003, 10002 + windowSize, 10002 - windowSize} {
		if p.awaiting(index) != nil {
			t.Errorf("an acknowledgement of %d is awaited", index)
		}
	}
}

// A call with thousands of events in a row holds up no other one, and what is in flight
// and in memory has bounds.
func TestPending_bounds(t *testing.T) {
	p := newPending(0)
	for range windowSize - 2*maxInFlight {
		p.admit(callRecord("a"))
	}
	for i := range 2 * maxInFlight {
		p.admit(callRecord(fmt.Sprint("b", i)))
	}
	if p.hasRoom() {
		t.Error("has room for more than windowSize records")
	}
	var sending []*entry
	for e := p.takeReady(); e != nil; e = p.takeReady() {
		p.begin(e, sent)
		sending = append(sending, e)
	}
	if len(sending) != maxInFlight || sending[0].index != 1 || sending[1].index <= windowSize-2*maxInFlight {
		t.Fatalf("%d are in flight, want %d: one of the long call, and others", len(sending), maxInFlight)
	}
	p.begin(sending[1], comparing)
	if p.takeReady() != nil {
		t.Error("a comparison is not in flight")
	}
	p.finish(sending[1])
	if p.takeReady() == nil {
		t.Error("none is ready after one ended")
	}

	p = newPending(0)
	large := callRecord("c")
	large.payload = make([]byte, windowBytes/4)
	for n := 0; n < 4; n++ {
		if !p.hasRoom() {
			t.Fatalf("has no room after %d records", n)
		}
		p.admit(large)
	}
	if p.hasRoom() {
		t.Error("has room for more than windowBytes")
	}
	p.finish(p.takeReady())
	p.advance()
	if !p.hasRoom() {
		t.Error("has no room after one ended")
	}
}
