package replay

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/schemas"
)

// indexedStep is an event that is stored so many seconds later as its sequence says.
func indexedStep(sequence uint64, began time.Time, call, serverCall string) *Step {
	at := began.Add(time.Duration(sequence) * time.Second)
	return &Step{At: at, Message: &StoredMessage{Sequence: sequence, Time: at, Subject: schemas.WithSlot("acs.contoso.PlayStarted." + call)}, StoredEvent: &StoredEvent{
		Type: "PlayStarted", Call: call, IDs: schemas.CallIDs{CallConnectionID: call, ServerCallID: serverCall},
	}}
}

// TestIndex_joins has an event that shows that two calls are one.
func TestIndex_joins(t *testing.T) {
	t.Parallel()
	x := NewIndex(1, time.Time{})
	for i, ids := range [][2]string{{"a", "server-1"}, {"b", "server-2"}, {"c", "server-3"}, {"a", "server-2"}} {
		x.Add(indexedStep(uint64(i+1), time.Now(), ids[0], ids[1]))
	}
	calls, _ := x.recent(1, 4, 10, func(*Summary) bool { return true })
	if len(calls) != 2 || len(calls[0].Legs) != 2 || calls[0].Events != 3 || calls[0].newest != 4 || x.order.Len() != len(x.of) {
		t.Errorf("%d calls, the newest is %+v", len(calls), calls[0])
	}
	if older, begin := x.recent(1, 3, 1, func(*Summary) bool { return true }); len(older) != 1 || older[0].newest != 3 || begin != 3 {
		t.Errorf("%d calls before the newest, from sequence %d on", len(older), begin)
	}
	tokens, _ := x.with(map[string]bool{key("server-1"): true})
	if slices.Sort(tokens); !slices.Equal(tokens, []string{"a", "b"}) {
		t.Errorf("the call has the legs %v", tokens)
	}
}

// TestIndex_forgets adds one call too many, and an event to the first of them, so that the
// second is forgotten, and with it that the index has what was stored before.
func TestIndex_forgets(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	x, sequence := NewIndex(1, time.Time{}), uint64(0)
	add := func(call int) {
		sequence++
		x.Add(indexedStep(sequence, began, fmt.Sprint("call-", call), fmt.Sprint("server-", call)))
	}
	has := func(id string) bool {
		tokens, _ := x.with(map[string]bool{key(id): true})
		return len(tokens) > 0
	}
	all := func(*Summary) bool { return true }
	for call := range maxIndexed {
		add(call)
	}
	if _, begin := x.recent(1, sequence, maxIndexed+1, all); begin != 1 || !x.begins().IsZero() || !has("server-1") {
		t.Fatalf("a full index begins at sequence %d", begin)
	}
	add(0)
	add(maxIndexed)
	calls, begin := x.recent(1, sequence, maxIndexed+1, all)
	if begin != 3 || len(calls) != maxIndexed || !x.begins().After(began.Add(2*time.Second)) || x.begins().After(began.Add(3*time.Second)) {
		t.Errorf("it begins at sequence %d with %d calls, and covers the time from %v on", begin, len(calls), x.from)
	}
	if has("server-1") || has("call-1") || !has("server-0") || !has("call-2") {
		t.Error("it has forgotten another call than the second")
	}
	if len(x.calls) > 3*maxIndexed || len(x.of) != maxIndexed {
		t.Errorf("it holds %d ids and %d calls", len(x.calls), len(x.of))
	}
}
