package main

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/schemas"
)

// TestState_orderAndRepetition applies the events of a call in every order,
// each twice.
func TestState_orderAndRepetition(t *testing.T) {
	var events []schemas.Data
	for _, e := range []struct{ name, data string }{
		{"CallConnected", `{}`},
		{"ParticipantsUpdated", `{"sequenceNumber":0,"participants":[{}]}`},
		{"ParticipantsUpdated", `{"sequenceNumber":3,"participants":[{},{}]}`},
		{"CallDisconnected", `{"resultInformation":{"code":200,"subCode":7000}}`},
		{"PlayCompleted", `{}`},
	} {
		data, err := schemas.ParseData(e.name, []byte(e.data))
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, data)
	}
	three := 3
	want := state{Connected: true, Ended: "200/7000", Participants: 2, Sequence: &three}
	permute(events, func(order []schemas.Data) {
		var got state
		for _, data := range slices.Concat(order, order[:2], order) {
			got.apply(data)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		for _, data := range order {
			if got.apply(data) {
				t.Fatalf("%T was new again", data)
			}
		}
	})
	var quiet state
	if quiet.apply(&schemas.CallDisconnected{}); quiet.Ended != "without a reason" {
		t.Errorf("ended %q", quiet.Ended)
	}
}

// permute visits every order of events.
func permute(events []schemas.Data, visit func([]schemas.Data)) {
	var from func(n int)
	from = func(n int) {
		if n == len(events) {
			visit(events)
			return
		}
		for i := n; i < len(events); i++ {
			events[n], events[i] = events[i], events[n]
			from(n + 1)
			events[n], events[i] = events[i], events[n]
		}
	}
	from(0)
}
