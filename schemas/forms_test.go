package schemas_test

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/schemas"
)

func parse(t *testing.T, payload []byte) *schemas.Event {
	t.Helper()
	e, err := schemas.ParseEvent(payload)
	if err != nil {
		t.Fatalf("%s: %v", payload, err)
	}
	return e
}

func TestParseEvent_eventGridsOwnSchema(t *testing.T) {
	for payload, want := range map[string][3]string{ // source, type, time
		`{"id":"1","topic":"/t","subject":"s","eventType":"T","eventTime":"2026-03-01T12:00:00Z","dataVersion":"1.0","metadataVersion":"1"}`: {"/t", "T", "2026-03-01T12:00:00Z"},
		`{"topic":"/t","source":null,"eventType":"T","type":null,"eventTime":null,"time":null}`:                                              {"/t", "T", ""},
		`{"source":"s","topic":"t","type":"A","eventType":"B","time":"x","eventTime":"y"}`:                                                   {"s", "A", "x"},
		`{"source":"s","type":"A","time":"x"}`:                 {"s", "A", "x"},
		`{"topic":7,"eventType":["T"],"eventTime":1772366400}`: {"", "", ""},
	} {
		e := parse(t, []byte(payload))
		if got := [3]string{e.Source, e.Type, string(e.Time)}; got != want {
			t.Errorf("%s: got %q, want %q", payload, got, want)
		}
	}
	e := parse(t, []byte(`{"topic":"/t","eventType":"Microsoft.Communication.IncomingCall","data":{"from":{"rawId":"4:+15550100"},"to":{"rawId":"8:acs:x"}}}`))
	call, ok := e.Data.(*schemas.IncomingCall)
	if !ok || call.From.RawID != "4:+15550100" || call.To.RawID != "8:acs:x" {
		t.Errorf("got %#v", e.Data)
	}
}

// TestParseEvent_otherTypes gives every member of every example, however deep, values
// of other types, one at a time. That member is as null, and no other member is lost.
func TestParseEvent_otherTypes(t *testing.T) {
	for _, event := range schemas.Types() {
		example, err := os.ReadFile("examples/" + event.Name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var document any
		if err := json.Unmarshal(example, &document); err != nil {
			t.Fatal(err)
		}
		read := func() *schemas.Event {
			changed, err := json.Marshal(document)
			if err != nil {
				t.Fatal(err)
			}
			e := parse(t, changed)
			nilEmpty(reflect.ValueOf(e))
			return e
		}
		eachValue(document, "", func(path string, value any, set func(any)) {
			if strings.Contains(path, "/ivrContext") || path == "/type" { // of any form; the type is what data is read by
				return
			}
			set(nil)
			want := read()
			for _, other := range []any{"x", 7.5, true, []any{1}, map[string]any{"x": 1}} {
				if reflect.TypeOf(other) == reflect.TypeOf(value) {
					continue
				}
				set(other)
				if diff := cmp.Diff(want, read()); diff != "" {
					t.Errorf("%s: %s is %v (-want +got):\n%s", event.Name, path, other, diff)
				}
			}
			set(value)
		})
	}
}

// eachValue visits the values of a document, with a way to replace each.
func eachValue(document any, path string, visit func(path string, value any, set func(any))) {
	switch parent := document.(type) {
	case map[string]any:
		for name, value := range parent {
			visit(path+"/"+name, value, func(v any) { parent[name] = v })
			eachValue(value, path+"/"+name, visit)
		}
	case []any:
		for i, value := range parent {
			visit(path+"/-", value, func(v any) { parent[i] = v })
			eachValue(value, path+"/-", visit)
		}
	}
}

// nilEmpty sets pointers to zero values to nil: encoding/json allocates before it sees
// that a member has another type.
func nilEmpty(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return
		}
		nilEmpty(v.Elem())
		if v.Kind() == reflect.Pointer && v.CanSet() && v.Elem().IsZero() {
			v.SetZero()
		}
	case reflect.Struct:
		for i := range v.NumField() {
			nilEmpty(v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			nilEmpty(v.Index(i))
		}
	}
}

// FuzzParseEvent: no JSON object is an error, and nothing else is an event.
func FuzzParseEvent(f *testing.F) {
	for _, s := range []string{
		`{"type":"IncomingCall","data":{"customContext":{"sipHeaders":{"a":null},"voipHeaders":{}},"to":null,"from":{}}}`,
		`{"type":"ParticipantsUpdated","data":{"participants":[null,{},[],{"isMuted":0}],"sequenceNumber":1e2}}`,
		`{"topic":"t","eventType":"CallEnded","data":{"callDurationInSeconds":1e-400,"reason":{"code":1e400,"phrase":"<&>\u2028"}}}`,
		`{"type":"DialogHangup","data":{"ivrContext":null}}`, `{"data":[]}`, `{"Type":"X","data":{}}`, `[]`, `{`, ` {} `, `{}{}`, `null`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		object := json.Valid(document) && strings.HasPrefix(strings.TrimLeft(string(document), " \t\r\n"), "{")
		if _, err := schemas.ParseEvent(document); (err == nil) != object {
			t.Fatalf("%q: %v", document, err)
		}
	})
}

// TestEvent_nulls: a member that is null is as one that is absent.
func TestEvent_nulls(t *testing.T) {
	for _, event := range schemas.Types() {
		var names []string
		for _, f := range event.Describe().Data.Fields {
			if f.Name != "ivrContext" {
				names = append(names, `"`+f.Name+`":null`)
			}
		}
		e := parse(t, []byte(`{"id":null,"source":null,"type":"`+event.Name+`","time":null,"subject":null,"specversion":null,"datacontenttype":null,"extension":null,"data":{`+strings.Join(names, ",")+`}}`))
		if diff := cmp.Diff(&schemas.Event{Type: event.Name, Data: event.NewData()}, e); diff != "" {
			t.Errorf("%s (-want +got):\n%s", event.Name, diff)
		}
	}
}

func TestPII(t *testing.T) {
	for _, test := range []struct {
		name   string
		inData bool
		want   string
		known  bool
	}{
		{"rawId", true, schemas.PIIIdentifier, true}, {"id", true, schemas.PIIIdentifier, true}, {"id", false, schemas.PIILink, true},
		{"callConnectionId", true, schemas.PIILink, true}, {"incomingCallContext", true, schemas.PIISecret, true},
		{"tones", true, schemas.PIISaid, true}, {"state", true, schemas.PIINone, true}, {"subject", false, schemas.PIIIdentifier, true},
		{"eventType", false, schemas.PIINone, true}, {"state", false, "", false}, {"neverHeardOf", true, "", false},
	} {
		if got, known := schemas.PII(test.name, test.inData); got != test.want || known != test.known {
			t.Errorf("%s, in data %v: got %q, %v, want %q, %v", test.name, test.inData, got, known, test.want, test.known)
		}
	}
}

// TestParseEvent_bareIdentifiers: until 2022 the members of an identifier stood in the
// participant itself.
func TestParseEvent_bareIdentifiers(t *testing.T) {
	e := parse(t, []byte(`{"type":"Microsoft.Communication.ParticipantsUpdated","data":{"participants":[
		{"rawId":"8:acs:a","communicationUser":{"id":"8:acs:a"}},
		{"rawId":"4:+15550100","kind":"phoneNumber","phoneNumber":{"value":"+15550100"},"isMuted":true},
		{"identifier":{"rawId":"8:acs:b"},"rawId":"8:acs:other"},
		{"identifier":null,"rawId":"8:acs:c"},
		7, {"isMuted":true}]}}`))
	want := []schemas.Participant{
		{Identifier: &schemas.Identifier{RawID: "8:acs:a", CommunicationUser: &schemas.CommunicationUser{ID: "8:acs:a"}}},
		{Identifier: &schemas.Identifier{RawID: "4:+15550100", Kind: schemas.KindPhoneNumber, PhoneNumber: &schemas.PhoneNumber{Value: "+15550100"}}, IsMuted: true},
		{Identifier: &schemas.Identifier{RawID: "8:acs:b"}},
		{Identifier: &schemas.Identifier{RawID: "8:acs:c"}},
		{}, {IsMuted: true},
	}
	if diff := cmp.Diff(want, e.Data.(*schemas.ParticipantsUpdated).Participants); diff != "" {
		t.Errorf("participants (-want +got):\n%s", diff)
	}
}
