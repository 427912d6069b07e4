package schemas_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/schemas"
)

// headers of a message as the bridge writes it.
var headers = map[string][]string{
	"Nats-Msg-Id":        {"calling/callConnections/c-42#7"},
	"ce-type":            {"Microsoft.Communication.PlayFailed"},
	"acs-token-iss":      {"https://issuer.example"},
	"acs-token-aud":      {"c3b7d7e8-4a3c-4a0b-9c55-0123456789ab"},
	"acs-token-kid":      {"k 1%25"},
	"acs-token-exp":      {"1772443800"},
	"acs-token-sub":      {"gr%C3%BC%C3%9Fe"},
	"acs-token-claims":   {`{"iss":"https://issuer.example"}`},
	"acs-resource":       {"contoso"},
	"acs-received-at":    {"2026-03-02T09:25:00.123456789Z"},
	"acs-delivery-id":    {"019cae3f-0000-7000-8000-0123456789ab"},
	"acs-delivery-index": {"1/3"},
	"acs-path":           {"a%2Bb"},
	"acs-query":          {"callerId=%2B14255550123"},
	"traceparent":        {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
	"acs-truncated":      {"acs-path,acs-query"},
	"acs-replay-id":      {"019cae40-0000-7000-8000-0123456789ab"},
	"acs-replay-of":      {"ACS/17"},
}

const playFailed = `{"id":"7","source":"calling/callConnections/c-42","type":"Microsoft.Communication.PlayFailed",
	"data":{"failedPlaySourceIndex":0,"callConnectionId":"c-42","newMember":{"a":[1]},"resultInformation":{"code":400,"subCode":"8535"}},
	"specversion":"1.0","acscallid":"c-42"}`

func TestParse(t *testing.T) {
	m, err := schemas.Parse(headers, []byte(playFailed))
	if err != nil {
		t.Fatal(err)
	}
	first := 0
	want := &schemas.Message{
		Event: schemas.Event{
			ID: "7", Source: "calling/callConnections/c-42", Type: "Microsoft.Communication.PlayFailed", SpecVersion: "1.0",
			Data: &schemas.PlayFailed{
				FailedPlaySourceIndex: &first,
				Operation: schemas.Operation{Outcome: schemas.Outcome{
					CallIDs:           schemas.CallIDs{CallConnectionID: "c-42"},
					ResultInformation: &schemas.ResultInformation{Code: 400},
				}},
			},
		},
		Claims: schemas.Claims{
			Issuer: "https://issuer.example", Audience: "c3b7d7e8-4a3c-4a0b-9c55-0123456789ab", KeyID: "k 1%", Subject: "grüße",
			ExpiresAt: time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC), All: json.RawMessage(`{"iss":"https://issuer.example"}`),
		},
		Delivery: schemas.Delivery{
			MsgID: "calling/callConnections/c-42#7", Resource: "contoso", ReceivedAt: time.Date(2026, 3, 2, 9, 25, 0, 123456789, time.UTC),
			ID: "019cae3f-0000-7000-8000-0123456789ab", Index: 1, Count: 3, Path: "a%2Bb", Query: "callerId=%2B14255550123",
			Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Truncated: []string{"acs-path", "acs-query"},
			ReplayID: "019cae40-0000-7000-8000-0123456789ab", ReplayOf: "ACS/17",
		},
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := m.Event.Data.IDs(); got.CallConnectionID != "c-42" {
		t.Errorf("ids %+v", got)
	}
}

// TestParse_deviations: neither an unknown type nor data that is not as its
// type has it is an error.
func TestParse_deviations(t *testing.T) {
	for name, test := range map[string]struct {
		payload string
		want    schemas.Event
	}{
		"unknown type": {
			`{"type":"Microsoft.Communication.CallMoved","data":{"callConnectionId":"c-42","to":"x"}}`,
			schemas.Event{Type: "Microsoft.Communication.CallMoved", Data: &schemas.Unknown{Operation: schemas.Operation{
				Outcome: schemas.Outcome{CallIDs: schemas.CallIDs{CallConnectionID: "c-42"}},
			}}},
		},
		"no data":          {`{"type":"CallConnected"}`, schemas.Event{Type: "CallConnected"}},
		"null data":        {`{"type":"CallConnected","data":null}`, schemas.Event{Type: "CallConnected"}},
		"data is a string": {`{"type":"CallConnected","data":"x"}`, schemas.Event{Type: "CallConnected"}},
		"type by header alone": {
			`{"eventType":"Microsoft.Communication.PlayFailed","data":{}}`,
			schemas.Event{Type: "Microsoft.Communication.PlayFailed", Data: &schemas.PlayFailed{}},
		},
		"type by header alone, in no schema": {`{"data":{}}`, schemas.Event{Data: &schemas.PlayFailed{}}},
		"other case":                         {`{"ID":"7"}`, schemas.Event{ID: "7"}},
	} {
		m, err := schemas.Parse(map[string][]string{"ce-type": {"Microsoft.Communication.PlayFailed"}}, []byte(test.payload))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(test.want, m.Event); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestParse_refusals(t *testing.T) {
	for _, payload := range []string{"", "null", "[]", `"x"`, `{"id":`, "{}{}"} {
		if _, err := schemas.Parse(nil, []byte(payload)); err == nil || !strings.Contains(err.Error(), "not a JSON object in the message's payload") {
			t.Errorf("payload %q: error %v", payload, err)
		}
	}
	for name, value := range map[string]string{
		"acs-token-exp": "soon", "acs-token-iat": "1.5", "acs-token-nbf": "0x10", "acs-token-claims": "{", "acs-received-at": "yesterday",
		"acs-delivery-index": "1", "acs-token-kid": "%zz",
	} {
		changed := maps.Clone(headers)
		changed[name] = []string{value}
		_, err := schemas.Parse(changed, []byte(playFailed))
		if err == nil || !strings.HasPrefix(err.Error(), "schemas: header "+name+": ") {
			t.Errorf("%s %q: error %v", name, value, err)
		}
	}
}

// TestParse_payloadUsedAgain: the caller may use its memory again.
func TestParse_payloadUsedAgain(t *testing.T) {
	payload := []byte(playFailed)
	m, err := schemas.Parse(nil, payload)
	if err != nil {
		t.Fatal(err)
	}
	clear(payload)
	again, err := schemas.Parse(nil, []byte(playFailed))
	if diff := cmp.Diff(again, m); err != nil || diff != "" {
		t.Errorf("error %v, (-want +got):\n%s", err, diff)
	}
}

// TestParse_incomingCall: what only deliveries of Event Grid have, in the schema
// that is theirs alone.
func TestParse_incomingCall(t *testing.T) {
	m, err := schemas.Parse(map[string][]string{
		"ce-type": {schemas.TypeIncomingCall}, "acs-expires-at": {"2026-03-02T09:30:25.5Z"},
		"acs-eventgrid-subscription": {"CALLS%0A"}, "acs-eventgrid-delivery-count": {"2"},
		"acs-eventgrid-data-version": {"1.0"}, "acs-eventgrid-metadata-version": {"1"},
	}, []byte(`{"topic":"/subscriptions/s","eventType":"Microsoft.Communication.IncomingCall","data":{"correlationId":"k-42"}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := schemas.Delivery{
		ExpiresAt: time.Date(2026, 3, 2, 9, 30, 25, 5e8, time.UTC),
		EventGrid: schemas.GridDelivery{Subscription: "CALLS\n", Count: "2", DataVersion: "1.0", MetadataVersion: "1"},
	}
	if diff := cmp.Diff(want, m.Delivery); diff != "" {
		t.Error(diff)
	}
	if call, ok := m.Event.Data.(*schemas.IncomingCall); !ok || call.CorrelationID != "k-42" {
		t.Errorf("data %+v", m.Event.Data)
	}
	for _, name := range []string{"acs-expires-at", "acs-received-at"} {
		if _, err := schemas.Parse(map[string][]string{name: {"soon"}}, []byte(`{}`)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
