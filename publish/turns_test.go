package publish

import (
	"fmt"
	"testing"

	"github.com/acsbridge/acsbridge/schemas"
)

func TestOnlyEventsOfACallHaveAnOrder(t *testing.T) {
	turns := newTurns()
	of := func(subject string) uint64 { return turns.call(&record{stream: schemas.Stream, subject: subject}) }
	if of("acs.contoso.CallConnected.c.a") != of("acs.contoso.PlayCompleted.c.a") {
		t.Error("two events of a call do not wait for each other")
	}
	if of("acs.contoso.CallConnected.c.a") == of("acs.contoso.CallConnected.3.b") {
		t.Error("two calls wait for each other")
	}
	if of("acs.contoso.CallConnected.d._") != 0 {
		t.Error("an event without a call waits")
	}
	if turns.call(&record{stream: schemas.QuarantineStream, subject: "acs-quarantine.contoso.not_json"}) != 0 {
		t.Error("what goes to quarantine waits")
	}
	for index := range uint64(3) {
		if !turns.take(0, index+1) || turns.landed(0, index+1) != 0 {
			t.Error("a record without a call waits")
		}
	}
}

func TestRecordsOfACallTakeTurns(t *testing.T) {
	turns := newTurns()
	take := func(call, index uint64, want bool) {
		t.Helper()
		if turns.take(call, index) != want {
			t.Errorf("record %d of call %d: taken %v", index, call, !want)
		}
	}
	landed := func(call, index, want uint64) {
		t.Helper()
		if next := turns.landed(call, index); next != want {
			t.Errorf("record %d of call %d: next is %d, want %d", index, call, next, want)
		}
	}
	take(7, 1, true)
	take(7, 2, false)
	take(8, 3, true) // another call
	take(7, 4, false)
	landed(8, 3, 0)
	landed(7, 1, 2)
	take(7, 5, false)
	landed(7, 2, 4)
	landed(7, 4, 5)
	landed(7, 5, 0)
	take(7, 6, true)
	landed(7, 6, 0)
	if len(turns.last)+len(turns.next) > 0 {
		t.Errorf("calls are remembered of which nothing is under way: %v", turns)
	}
}

// However many calls there are, each record has its turn, in the order of its
// call.
func TestEveryRecordHasItsTurn(t *testing.T) {
	turns := newTurns()
	var flying []uint64 // indexes
	order := make(map[uint64][]uint64)
	call := func(index uint64) uint64 { return index%7 + 1 }
	for index := uint64(1); index <= window; index++ {
		if turns.take(call(index), index) {
			flying = append(flying, index)
		}
	}
	for len(flying) > 0 {
		index := flying[len(flying)-1] // the newest first
		flying = flying[:len(flying)-1]
		order[call(index)] = append(order[call(index)], index)
		if next := turns.landed(call(index), index); next > 0 {
			flying = append(flying, next)
		}
	}
	total := 0
	for _, indexes := range order {
		total += len(indexes)
		for i := 1; i < len(indexes); i++ {
			if indexes[i] != indexes[i-1]+7 {
				t.Fatal(fmt.Sprint("a call's order: ", indexes))
			}
		}
	}
	if total != window {
		t.Errorf("%d records landed, want %d", total, window)
	}
}
