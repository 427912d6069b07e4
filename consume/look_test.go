package consume_test

import (
	"errors"
	"testing"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/replay"
)

func TestLook(t *testing.T) {
	server := newStream(t)
	js := server.JetStream()
	roster := func(ids ...string) map[string]any {
		var list []any
		for _, id := range ids {
			list = append(list, map[string]any{"identifier": map[string]any{"rawId": id}})
		}
		return map[string]any{"serverCallId": "server-1", "participants": list}
	}
	number := func(n int, m map[string]any) map[string]any {
		m["sequenceNumber"] = n
		return m
	}
	shared := map[string]any{"serverCallId": "server-1"}
	store(t, js, newEvent("ParticipantsUpdated", "leg-1", "2", number(2, roster("4:+1", "8:acs:b"))))
	store(t, js, newEvent("ParticipantsUpdated", "leg-1", "1", number(1, roster("4:+1")))) // late
	store(t, js, newEvent("CallConnected", "leg-1", "3", shared))
	store(t, js, newEvent("CallConnected", "leg-2", "4", shared))
	store(t, js, newEvent("CallConnected", "another", "5", map[string]any{"serverCallId": "server-2"}))
	nc := connect(t, server.URL())
	facts, err := consume.Look(t.Context(), nc, "leg-1")
	if err != nil {
		t.Fatal(err)
	}
	if facts.State != replay.Active || len(facts.Legs) != 2 || len(facts.Participants) != 2 || facts.Connected.IsZero() || !facts.Ended.IsZero() || facts.ServerCallID != "server-1" {
		t.Errorf("of a call under way: %+v", facts)
	}
	end := map[string]any{"serverCallId": "server-1", "resultInformation": map[string]any{"code": 487, "subCode": 560000}}
	store(t, js, newEvent("CallDisconnected", "leg-1", "6", shared))
	store(t, js, newEvent("CallDisconnected", "leg-2", "7", end))
	if facts, err = consume.Look(t.Context(), nc, "leg-2"); err != nil {
		t.Fatal(err)
	}
	if facts.State != replay.Ended || facts.Ended.IsZero() || facts.Why == nil || facts.Why.SubCode != 560000 || len(facts.Participants) != 0 {
		t.Errorf("of a call that has ended: %+v", facts)
	}
	if _, err := consume.Look(t.Context(), nc, "unknown"); !errors.Is(err, consume.ErrUnknownCall) {
		t.Errorf("of an unknown call: %v", err)
	}
}
