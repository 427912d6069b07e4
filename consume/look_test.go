package consume_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/replay"
)

// TestLook looks with the rights of a viewer alone.
func TestLook(t *testing.T) {
	s := natstest.Start(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "operator", Password: "o"},
			{Username: "viewer", Password: "v", Permissions: &server.Permissions{
				Publish:   &server.SubjectPermission{Allow: []string{"$JS.API.STREAM.INFO.ACS", "$JS.API.DIRECT.GET.ACS"}},
				Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
			}},
		}
		o.NoAuthUser = "operator"
	})
	js := s.JetStream()
	makeStream(t, js, 1)
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
	nc := connect(t, strings.Replace(s.URL(), "nats://", "nats://viewer:v@", 1))
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
