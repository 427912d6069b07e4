package publish

import (
	"hash/maphash"
	"strings"

	"github.com/acsbridge/acsbridge/schemas"
)

// turns keeps the records of one call in order whatever happens inside the
// window: a record is sent only after the one of its call before it has landed.
// Without that, a stream that refuses a record for a passing reason (its queue
// is full, its leader is changing) and takes the next would store them the wrong
// way round once the first is sent again.
//
// Events without a call, and what goes to quarantine, wait for nobody.
type turns struct {
	seed maphash.Seed
	last map[uint64]uint64 // index of a call's newest record that has not landed
	next map[uint64]uint64 // index of the record that waits, by the one that it waits for
}

func newTurns() turns {
	return turns{seed: maphash.MakeSeed(), last: make(map[uint64]uint64), next: make(map[uint64]uint64)}
}

// call returns the hash of a record's call, or zero when it has none. Two calls
// of one hash only wait for each other.
func (t *turns) call(r *record) uint64 {
	call := r.subject[strings.LastIndexByte(r.subject, '.')+1:]
	if call == schemas.NoCall || r.stream == schemas.QuarantineStream {
		return 0
	}
	return maphash.String(t.seed, call)
}

// take reports whether it is a record's turn. Otherwise landed returns it when
// it is.
func (t *turns) take(call, index uint64) bool {
	if call == 0 {
		return true
	}
	before, waits := t.last[call]
	t.last[call] = index
	if waits {
		t.next[before] = index
	}
	return !waits
}

// landed notes that a record has landed, and returns the index of the one whose
// turn it is now, or zero.
func (t *turns) landed(call, index uint64) (next uint64) {
	if call == 0 {
		return 0
	}
	if t.last[call] == index {
		delete(t.last, call)
		return 0
	}
	next = t.next[index]
	delete(t.next, index)
	return next
}
