package replay_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestSummary_outcome finds calls by how they ended, in codes and words.
func TestSummary_outcome(t *testing.T) {
	t.Parallel()
	s := newStream(t)
	for _, e := range []struct{ call, kind, data string }{
		{"declined", "CallDisconnected", `,"resultInformation":{"code":487,"subCode":5003}`},
		{"busy", "CreateCallFailed", `,"resultInformation":{"code":486,"subCode":560486}`},
		{"unexplained", "CreateCallFailed", ""},
		{"silent", "CallDisconnected", ""},
		{"active", "CallConnected", ""},
	} {
		m := nats.NewMsg(schemas.WithSlot("acs.contoso." + e.kind + "." + e.call))
		m.Data = []byte(`{"id":"1","source":"calling/callConnections/` + e.call + `","type":"Microsoft.Communication.` + e.kind + `","data":{"callConnectionId":"` + e.call + `"` + e.data + `},"specversion":"1.0"}`)
		if _, err := s.js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	r := s.reader()
	outcomes := make(map[string]string)
	calls, err := r.Calls(t.Context(), replay.Selection{})
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range calls {
		outcomes[call.Legs[0].ID], _ = call.Outcome()
	}
	if diff := cmp.Diff(map[string]string{
		"declined": "487/5003 all endpoints of the callee declined", "busy": "486/560486 the telephone is busy",
		"unexplained": "not connected", "silent": "without a result", "active": "",
	}, outcomes); diff != "" {
		t.Error("(-want +got):\n", diff)
	}
	for text, want := range map[string][]string{
		"": {"active", "busy", "declined", "silent", "unexplained"}, "487": {"declined"}, " 487/5003 ": {"declined"}, "5003": {"declined"}, "Declined": {"declined"},
		"486": {"busy"}, "486/560486": {"busy"}, "48": nil, "0486": nil, "487/500": nil, "87/5003": nil, "busy": {"busy"}, "not connected": {"unexplained"}, "result": {"silent"},
	} {
		recent, err := r.Recent(t.Context(), replay.Page{Outcome: text}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, call := range recent.Calls {
			got = append(got, call.Legs[0].ID)
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}
