package schemas_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/schemas"
)

// parse reads a payload and holds what is encoded again against it.
func parse(t *testing.T, payload string) *schemas.Event {
	t.Helper()
	m, err := schemas.Parse(nil, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(canonical(t, []byte(payload)), encoded(t, &m.Event)); diff != "" {
		t.Errorf("encoded as something else (-want +got):\n%s", diff)
	}
	return &m.Event
}

func TestParse_eventGridsOwnSchema(t *testing.T) {
	for payload, want := range map[string][3]string{ // source, type, time
		`{"id":"1","topic":"/t","subject":"s","eventType":"T","eventTime":"2026-03-01T12:00:00Z","dataVersion":"1.0","metadataVersion":"1"}`: {"/t", "T", "2026-03-01T12:00:00Z"},
		`{"topic":"/t","source":null,"eventType":"T","type":null,"eventTime":null,"time":null}`:                                              {"/t", "T", ""},
		`{"source":"s","topic":"t","type":"A","eventType":"A","time":"x","eventTime":"x"}`:                                                   {"s", "A", "x"},
		`{"source":"s","type":"A","time":"x"}`:                 {"s", "A", "x"},
		`{"topic":7,"eventType":["T"],"eventTime":1772366400}`: {"", "", ""},
	} {
		e := parse(t, payload)
		if got := [3]string{e.Source, e.Type, string(e.Time)}; got != want {
			t.Errorf("%s: got %q, want %q", payload, got, want)
		}
	}
	e := parse(t, `{"topic":"/t","eventType":"Microsoft.Communication.IncomingCall","data":{"from":{"rawId":"4:+15550100"},"to":{"rawId":"8:acs:x"}}}`)
	call, ok := e.Data.(*schemas.IncomingCall)
	if !ok || call.From.RawID != "4:+15550100" || call.To.RawID != "8:acs:x" {
		t.Errorf("got %#v", e.Data)
	}
	e.Type = "other"
	if got := encoded(t, e); !strings.Contains(got, `"type":"other"`) || !strings.Contains(got, `"eventType":"Microsoft`) {
		t.Errorf("a field that was changed is not written: %s", got)
	}
}

// TestParse_bareIdentifiers: until 2022 the members of an identifier stood where
// it has an object of its own today.
func TestParse_bareIdentifiers(t *testing.T) {
	e := parse(t, `{"type":"Microsoft.Communication.ParticipantsUpdated","data":{"callConnectionId":"c-42","participants":[
		{"rawId":"8:acs:a","communicationUser":{"id":"8:acs:a"}},
		{"rawId":"4:+15550100","kind":"phoneNumber","phoneNumber":{"value":"+15550100","new":1},"isMuted":true},
		{"identifier":{"rawId":"8:acs:b"},"isMuted":false},
		{"identifier":{"rawId":"8:acs:c"},"rawId":"8:acs:c"},
		{"identifier":{"rawId":"8:acs:d"},"rawId":"8:acs:other"},
		{"identifier":null,"rawId":"8:acs:e"},
		{"isMuted":true}]}}`)
	var got []string
	list := e.Data.(*schemas.ParticipantsUpdated).Participants
	for _, p := range list {
		if p.Identifier == nil {
			got = append(got, "")
		} else {
			got = append(got, p.Identifier.RawID)
		}
	}
	if diff := cmp.Diff([]string{"8:acs:a", "4:+15550100", "8:acs:b", "8:acs:c", "8:acs:d", "8:acs:e", ""}, got); diff != "" {
		t.Error(diff)
	}
	if first, second := list[0].Identifier, list[1].Identifier; first.CommunicationUser.ID != "8:acs:a" || second.PhoneNumber.Value != "+15550100" ||
		second.Kind != schemas.KindPhoneNumber || !list[1].IsMuted {
		t.Errorf("got %+v, %+v", first, list[1])
	}

	e = parse(t, `{"eventType":"Microsoft.Communication.CallEnded","data":{"durationOfCall":49.7286,
		"startedBy":{"rawId":"8:acs:a","communicationUser":{"id":"8:acs:a"},"role":"r"},"endedBy":{"rawId":"8:acs:b","type":"t","name":"n"}}}`)
	ended := e.Data.(*schemas.CallEnded)
	if ended.DurationOfCall != 49.7286 || ended.StartedBy.CommunicationIdentifier.RawID != "8:acs:a" || ended.StartedBy.Role != "r" ||
		ended.EndedBy.CommunicationIdentifier.RawID != "8:acs:b" || ended.EndedBy.Name != "n" {
		t.Errorf("got %+v", ended)
	}
}

// TestParse_nulls: a member that is null is as one that is absent, and is written
// again.
func TestParse_nulls(t *testing.T) {
	for _, event := range schemas.Types() {
		var names []string
		for _, f := range event.Describe().Data.Fields {
			names = append(names, `"`+f.Name+`":null`)
		}
		e := parse(t, `{"id":null,"source":null,"type":"`+event.Name+`","time":null,"subject":null,"specversion":null,"datacontenttype":null,"extension":null,"data":{`+strings.Join(names, ",")+`}}`)
		e.Rest = nil
		reflect.ValueOf(e.Data).Elem().FieldByName("Rest").SetZero()
		if diff := cmp.Diff(&schemas.Event{Type: event.Name, Data: event.NewData()}, e); diff != "" {
			t.Errorf("%s (-want +got):\n%s", event.Name, diff)
		}
	}
}
