package schemas_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/acsbridge/acsbridge/schemas"
)

// FuzzEnvelope holds an event to being encoded as JSON that says what it was
// decoded from, whatever is in it, and twice alike. What the bridge refuses is
// left out: bytes that are no UTF-8, half characters, and repeated names.
func FuzzEnvelope(f *testing.F) {
	examples, err := filepath.Glob("examples/*.json")
	if err != nil || len(examples) == 0 {
		f.Fatal("no examples", err)
	}
	for _, name := range examples {
		example, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(example)
	}
	for _, s := range []string{
		`{"a\"}":"b\\","ty\u0070e":"PlayFailed","data":{"\\":["\"]"],"serverCallId":"\u002B"} }`,
		`{"type":"IncomingCall","data":{"customContext":{"sipHeaders":{"a":null},"voipHeaders":{}},"to":null,"from":{}}}`,
		`{"type":"ParticipantsUpdated","data":{"participants":[null,{},[],{"isMuted":0}],"sequenceNumber":1e2}}`,
		`{"topic":"t","eventType":"CallEnded","type":null,"eventTime":"","source":"t","data":{"startedBy":{"rawId":"a","role":"","communicationIdentifier":{}}}}`,
		`{"type":"ParticipantsUpdated","data":{"participants":[{"rawId":"a","kind":""},{"identifier":{"rawId":"a"},"rawId":"a"},{"phoneNumber":{"value":1}}]}}`,
		`{"type":"DialogHangup","data":{"ivrContext":null}}`, `{"type":"X","data":{"":0}}`, `{"data":[]}`, `{"Type":"X","data":{}}`,
		`{"a\\"}":"b\\\\","ty\\u0070e":"PlayFailed","data":{"\\\\":["\\"]"],"serverCallId":"\\u002B"} }`,
		`{"type":"CallEnded","data":{"callDurationInSeconds":1e-400,"reason":{"code":1e400,"phrase":"<&>\u2028"}}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		if !utf8.Valid(document) || !jsontext.Value(document).IsValid() {
			return
		}
		var e schemas.Event
		if err := json.Unmarshal(document, &e); err != nil {
			if strings.HasPrefix(strings.TrimLeft(string(document), " \t\r\n"), "{") {
				t.Fatal(err)
			}
			return
		}
		got, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(meaning(t, got), meaning(t, document)) {
			t.Fatalf("%s\nbecame\n%s", document, got)
		}
		var again schemas.Event
		if err := json.Unmarshal(got, &again); err != nil {
			t.Fatal(err)
		}
		if twice, err := json.Marshal(again); err != nil || string(twice) != string(got) {
			t.Fatalf("%s\nand then\n%s\n%v", got, twice, err)
		}
	})
}

// meaning returns what a document says. A number is what a float64 holds of it,
// or its text when that is none.
func meaning(t *testing.T, document []byte) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(document)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return numbers(v)
}

func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Float64(); err == nil {
			return n
		}
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = numbers(v[name])
		}
	}
	return v
}
