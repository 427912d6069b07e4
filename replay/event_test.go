package replay_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// eventText is an event as a test expects it.
type eventText struct {
	Type, Resource, Call, ServerCall, Brief string
	Made                                    time.Time
	People                                  []string
	Failed                                  bool
}

// TestStoredEvent reads events, also unexpected ones.
func TestStoredEvent(t *testing.T) {
	for _, test := range []struct {
		about, subject, data string
		want                 *eventText
	}{
		{"a roster", "acs.contoso.ParticipantsUpdated.a.c-1",
			`{"id":"e-1","type":"Microsoft.Communication.ParticipantsUpdated","time":"2026-03-01T10:00:00.1234567+00:00",
			  "data":{"callConnectionId":"c-1","serverCallId":"s-1","sequenceNumber":4,"resultInformation":{"code":200,"subCode":1,"message":"m"},
			  "participants":[{"identifier":{"rawId":"4:+1555"},"isMuted":false},{"isMuted":true},{"identifier":{"rawId":"8:acs:x"}}]}}`,
			&eventText{Type: "ParticipantsUpdated", Resource: "contoso", Call: "c-1", ServerCall: "s-1", Brief: "200/1 3 participants #4",
				Made: time.Date(2026, 3, 1, 10, 0, 0, 123456700, time.UTC), People: []string{"4:+1555", "8:acs:x"}}},
		{"without data", "acs.contoso.X.d._", `{"id":"e-1","type":"X"}`, &eventText{Type: "X", Resource: "contoso", Call: schemas.NoCall}},
		{"members of other types", "acs.contoso.X.2.h_1", `{"id":"e-1","type":"X","time":7,"data":{"callConnectionId":7,"serverCallId":"s","resultInformation":"none","participant":7}}`,
			&eventText{Type: "X", Resource: "contoso", Call: "h_1", ServerCall: "s"}},
		{"a transfer", "acs.contoso.CallTransferAccepted.2.c", `{"id":"e-1","type":"CallTransferAccepted","data":{"callConnectionId":"c","transferTarget":{"rawId":"a"},"transferee":{"rawId":"b"}}}`,
			&eventText{Type: "CallTransferAccepted", Resource: "contoso", Call: "c", People: []string{"b", "a"}}},
		{"an end that went wrong", "acs.contoso.CallDisconnected.2.c", `{"id":"e-1","type":"CallDisconnected","data":{"resultInformation":{"code":487,"subCode":0}}}`,
			&eventText{Type: "CallDisconnected", Resource: "contoso", Call: "c", Brief: "487/0", Failed: true}},
		{"an invitation withdrawn", "acs.contoso.CancelAddParticipantSucceeded.2.c", `{"id":"e-1","type":"CancelAddParticipantSucceeded","data":{"resultInformation":{"code":487,"subCode":5234}}}`,
			&eventText{Type: "CancelAddParticipantSucceeded", Resource: "contoso", Call: "c", Brief: "487/5234"}},
		{"a failure with code 200", "acs.contoso.DialogFailed.2.c", `{"id":"e-1","type":"DialogFailed","data":{"resultInformation":{"code":200}}}`,
			&eventText{Type: "DialogFailed", Resource: "contoso", Call: "c", Brief: "200/0", Failed: true}},
		{"another form of subject", "other.CallConnected", `{"id":"e-1","type":"CallConnected","data":{"callConnectionId":"c"}}`, &eventText{Type: "CallConnected", Call: "c"}},
		{"not JSON", "acs.contoso.X.2.c", `{`, nil},
		{"no event", "acs-quarantine.contoso.not_cloudevents", `{"id":"e-1"}`, nil},
		{"a list", "acs.contoso.X.2.c", `[]`, nil},
	} {
		e, err := (&replay.StoredMessage{Subject: test.subject, Data: []byte(test.data)}).Event()
		var got *eventText
		if err == nil {
			got = &eventText{e.Type, e.Resource, e.Call, e.IDs.ServerCallID, e.Brief(), e.Made.UTC(), e.People, e.Failed()}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", test.about, err, diff)
		}
	}
}

// TestStoredEvent_people finds the participants in every type that has some.
func TestStoredEvent_people(t *testing.T) {
	const person = `{"rawId":"8:acs:person"}`
	found := 0
	for _, kind := range schemas.Types() {
		want := 0
		for _, field := range reflect.VisibleFields(reflect.TypeOf(kind.NewData()).Elem()) {
			switch field.Type {
			case reflect.TypeFor[*schemas.Identifier](), reflect.TypeFor[[]schemas.Participant]():
				want++
			}
		}
		for _, name := range []string{"StartedBy", "EndedBy", "User"} {
			_, has := reflect.TypeOf(kind.NewData()).Elem().FieldByName(name)
			if has && (name != "StartedBy" || !strings.HasPrefix(kind.Name, "CallParticipant")) { // which are about the user
				want++
			}
		}
		found += want
		m := &replay.StoredMessage{Subject: "acs.contoso.X.2.c", Data: []byte(`{"id":"e","type":"` + kind.Name + `","data":{"participant":` + person +
			`,"transferTarget":` + person + `,"transferee":` + person + `,"participants":[{"identifier":` + person + `}],"from":` + person + `,"to":` + person +
			`,"onBehalfOfCallee":` + person + `,"startedBy":{"communicationIdentifier":` + person + `},"endedBy":{"communicationIdentifier":` + person +
			`},"user":{"communicationIdentifier":` + person + `}}}`)}
		e, err := m.Event()
		if err != nil {
			t.Fatal(err)
		}
		if len(e.People) != want {
			t.Errorf("%s: %d people, want %d", kind.Name, len(e.People), want)
		}
	}
	if found < 17 {
		t.Errorf("only %d participants", found)
	}
}

// TestStoredEvent_identifiers returns the rawId, or the id that an older API version has
// instead; a caller comes before a callee.
func TestStoredEvent_identifiers(t *testing.T) {
	for _, test := range []struct{ kind, data, want string }{
		{"ParticipantsUpdated", `"participants":[{"identifier":{"communicationUser":{"id":"8:acs:a"}}},{"identifier":{"phoneNumber":{"value":"+15550100"}}},
			{"identifier":{"microsoftTeamsUser":{"userId":"u-1"}}},{"identifier":{"microsoftTeamsApp":{"appId":"a-1"}}},{"identifier":{"teamsExtensionUser":{"userId":"x-1"}}},{"identifier":{}}]`,
			"8:acs:a +15550100 u-1 a-1 x-1"},
		{"CallParticipantAdded", `"user":{"communicationIdentifier":{"rawId":"8:acs:d"}}`, "8:acs:d"},
		{"AddParticipantSucceeded", `"participant":{"phoneNumber":{"value":"+15550100"}}`, "+15550100"},
		{"IncomingCall", `"to":{"rawId":"8:acs:callee"},"from":{"kind":"phoneNumber","phoneNumber":{"value":"+15550100"}}`, "+15550100 8:acs:callee"},
		{"IncomingCall", `"to":null,"from":{"rawId":"4:+15550100"},"onBehalfOfCallee":{"rawId":"8:orgid:x"}`, "4:+15550100 8:orgid:x"},
		{"CallEnded", `"startedBy":{"communicationIdentifier":null},"endedBy":null`, ""},
	} {
		m := &replay.StoredMessage{Subject: "acs.contoso.X.2.c", Data: []byte(`{"id":"e","type":"` + schemas.TypePrefix + test.kind + `","data":{` + test.data + `}}`)}
		e, err := m.Event()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(e.People, " "); got != test.want {
			t.Errorf("%s of %s: %q, want %q", test.kind, test.data, got, test.want)
		}
	}
}

// TestAppendMasked_personalMembers: no member that the catalogue calls personal is
// among those that are shown.
func TestAppendMasked_personalMembers(t *testing.T) {
	seen := map[reflect.Type]bool{}
	found := 0
	var look func(t reflect.Type)
	look = func(of reflect.Type) {
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct || seen[of] {
			return
		}
		seen[of] = true
		for _, field := range reflect.VisibleFields(of) {
			look(field.Type)
			name, pii := field.Tag.Get("json"), field.Tag.Get("pii")
			if pii == schemas.PIINone || pii == schemas.PIILink {
				continue
			}
			found++
			got, err := replay.AppendMasked(nil, []byte(`{"data":{"`+name+`":"person-known"}}`))
			if err != nil || strings.Contains(string(got), "person") {
				t.Errorf("%s of %s is %s, and shown as %s", name, of, pii, got)
			}
		}
	}
	for _, kind := range schemas.Types() {
		look(reflect.TypeOf(kind.NewData()))
	}
	if found < 20 {
		t.Errorf("only %d members are personal", found)
	}
}
