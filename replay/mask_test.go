package replay_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/fixtures"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

func TestMaskID(t *testing.T) {
	for id, want := range map[string]string{
		"+15551234567":   "+***67",
		"4:+15551234567": "4:+***67",
		"8:acs:c3b7d7e8-4a3c-4a0b-9c55-0123456789ab_0000002a-aaaa": "8:acs:***aa",
		"8:orgid:c3b7d7e8-4a3c":  "8:orgid:***3c",
		"28:orgid:c3b7d7e8-4a3c": "28:orgid:***3c",
		"2:someone@example.com":  "2:***om",
		"c3b7d7e8-4a3c":          "***3c",
		"4:anonymous":            "4:***us",
		"+123456":                "+***",
		"":                       "***",
		"somebody:secret:word":   "somebody:secret:***",
		"a-long-name:x":          "***",
		"4:+1555\n\x1b[31m":      "4:+***1m",
		"4:+1555123456\x1b":      "4:+***",
	} {
		if got := replay.MaskID(id); got != want {
			t.Errorf("%q: got %q, want %q", id, got, want)
		}
	}
}

// TestAppendMasked masks what can be personal and nothing else.
func TestAppendMasked(t *testing.T) {
	for _, test := range []struct{ event, want string }{
		{`{"id": "e-1", "source": "calling/callConnections/c-1", "type": "T", "specversion": "1.0",
		   "data": {"callConnectionId": "c-1", "operationContext": "customer 4711",
		   "resultInformation": {"code": 200, "subCode": 7, "message": "of 8:acs:abcdef-123"}}}`,
			`{"id":"e-1","source":"calling/callConnections/c-1","type":"T","specversion":"1.0",` +
				`"data":{"callConnectionId":"c-1","operationContext":"***",` +
				`"resultInformation":{"code":200,"subCode":7,"message":"***"}}}`},
		{`{"data":{"participants":[{"identifier":{"rawId":"4:\u002B15551234567","kind":"phoneNumber","phoneNumber":{"value":"+15551234567"}},"isMuted":false}],"sequenceNumber":1}}`,
			`{"data":{"participants":[{"identifier":{"rawId":"4:+***67","kind":"phoneNumber","phoneNumber":{"value":"+***67"}},"isMuted":false}],"sequenceNumber":1}}`},
		{`{"data":{"communicationUser":{"id":"8:acs:0123456789"}}}`, `{"data":{"communicationUser":{"id":"8:acs:***89"}}}`},
		{`{"data":{"dtmfResult":{"tones":["one","two"]},"speechResult":{"speech":"my \"name\" is \\","confidence":0.9},"tone":"pound"}}`,
			`{"data":{"dtmfResult":{"tones":["***","***"]},"speechResult":{"speech":"***","confidence":0.9},"tone":"***"}}`},
		// Event Grid: whom the call is from and for is in the subject.
		{`{"source":"/subscriptions/x","subject":"/caller/4:+15551234567/recipient/8:acs:y","data":{"incomingCallContext":"secret","state":"active"}}`,
			`{"source":"***","subject":"***","data":{"incomingCallContext":"***","state":"active"}}`},
		{`{"id":"g","topic":"/subscriptions/x","subject":"/caller/4:+15551234567","eventType":"T","eventTime":"2026","dataVersion":"1.0","data":{"correlationId":"c"}}`,
			`{"id":"g","topic":"***","subject":"***","eventType":"T","eventTime":"2026","dataVersion":"1.0","data":{"correlationId":"c"}}`},
		// What is behind a nested value belongs to the member around it.
		{`{"data":{"unknown":[{"state":"active"},"said"],"kind":"k"}}`, `{"data":{"unknown":[{"state":"active"},"***"],"kind":"k"}}`},
		{`{"data":{"unknown":{"state":["a",{"x":"y"}]}},"other":"z"}`, `{"data":{"unknown":{"state":["a",{"x":"***"}]}},"other":"***"}`},
		{`{"data":{"st\u0061te":"written differently"}}`, `{"data":{"st\u0061te":"***"}}`},
		{`["+15551234567",{"id":"8:acs:0123456789"}]`, `["***",{"id":"8:acs:***89"}]`},
		{`"+15551234567"`, `"***"`},
		{`{"data":{}}`, `{"data":{}}`},
		{` 7 `, `7`},
	} {
		got, err := replay.AppendMasked([]byte("> "), []byte(test.event))
		if err != nil || string(got) != "> "+test.want {
			t.Errorf("%s\n got %s, %v\nwant %s", test.event, got, err, test.want)
		}
	}
	for _, bad := range []string{"", "no JSON", `{"a":`, `{} {}`} {
		if got, err := replay.AppendMasked(nil, []byte(bad)); err == nil {
			t.Errorf("%q: %s", bad, got)
		}
	}
}

// personal matches telephone numbers and the ids of users.
var personal = regexp.MustCompile(`(\+|\\u002B)\d{5,}|8:(acs|orgid):[0-9a-f-]{8}|customer`)

// TestAppendMasked_everyType masks every type of event that the simulator can
// make.
func TestAppendMasked_everyType(t *testing.T) {
	found := 0
	call := acstest.NewCall()
	for _, name := range acstest.Types() {
		e, err := call.NewEvent(name)
		if err != nil {
			t.Fatal(err)
		}
		event, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		found += checkMasked(t, name, event)
	}
	if found < 5 {
		t.Errorf("only %d events had something to mask", found)
	}
}

func TestAppendMasked_samples(t *testing.T) {
	found := 0
	for _, body := range fixtures.Read(t, "*.json") {
		for _, event := range body.Events {
			found += checkMasked(t, body.Name, event)
		}
	}
	if found < 5 {
		t.Errorf("only %d events had something to mask", found)
	}
}

// checkMasked masks an event and looks for what is personal. It returns one when
// there was something, and prints nothing of it.
func checkMasked(t *testing.T, name string, event []byte) (found int) {
	t.Helper()
	got, err := replay.AppendMasked(nil, event)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if personal.Match(got) {
		t.Errorf("%s: something personal is left", name)
	}
	if personal.Match(event) {
		return 1
	}
	return 0
}

// FuzzAppendMasked holds masked JSON to the form that it had: the same members, the
// same numbers, and no text but what is known to be plain.
func FuzzAppendMasked(f *testing.F) {
	for _, s := range []string{`{"data":{"rawId":"4:+1555","x":[1,"y",null,true]}}`, `[]`, `"\u0000"`, `{"a":{"b":{"c":["d"]}}}`, `{"":""}`, "{\"a\":\"\xff\"}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, event []byte) {
		got, err := replay.AppendMasked(nil, event)
		if (err == nil) != json.Valid(event) {
			t.Fatalf("%q: %v", event, err)
		}
		if err != nil {
			return
		}
		if !json.Valid(got) {
			t.Fatalf("%q became %q", event, got)
		}
		before, after := texts(event), texts(got)
		if len(before) != len(after) {
			t.Fatalf("%q has %d texts and %q has %d", event, len(before), got, len(after))
		}
		for i := range after {
			if after[i] != before[i] && !strings.Contains(after[i], "***") {
				t.Fatalf("%q became %q", before[i], after[i])
			}
		}
	})
}

// texts are the strings of a JSON document in their order.
func texts(event []byte) []string {
	var list []string
	d := json.NewDecoder(strings.NewReader(string(event)))
	for {
		token, err := d.Token()
		if err != nil {
			return list
		}
		if s, ok := token.(string); ok {
			list = append(list, s)
		}
	}
}

// TestAppendLine writes messages as NDJSON.
func TestAppendLine(t *testing.T) {
	m := &replay.StoredMessage{
		Stream: "ACS", Sequence: 7, Time: time.Date(2026, 3, 1, 10, 0, 0, 120_000_000, time.FixedZone("", 3600)), Subject: "acs.contoso.T.a.c-1",
		Header: nats.Header{
			"ce-id": {"e-1"}, "acs-query": {"callerId=%2B15551234567"}, "acs-path": {"x"}, "twice": {"a", "\"b\""},
			"ce-source": {"/caller/+15551234567"}, "Nats-Msg-Id": {"calling/x#1"},
		},
		Data: []byte(`{"type": "T", "data":{"rawId":"4:+15551234567"}}`),
	}
	const begin = `{"stream":"ACS","sequence":7,"time":"2026-03-01T09:00:00.12Z","subject":"acs.contoso.T.a.c-1","headers":`
	for _, test := range []struct {
		name    string
		data    string
		masking replay.Masking
		want    string
	}{
		{"masked", string(m.Data), replay.MaskPII, begin + `{"Nats-Msg-Id":"calling/x#1","acs-path":"***","acs-query":"***","ce-id":"e-1","ce-source":"***","twice":["a","\"b\""]},"event":{"type":"T","data":{"rawId":"4:+***67"}}}`},
		{"byte for byte", string(m.Data), replay.MaskSecrets, begin + `{"Nats-Msg-Id":"calling/x#1","acs-path":"x","acs-query":"callerId=%2B15551234567","ce-id":"e-1","ce-source":"/caller/+15551234567","twice":["a","\"b\""]},"event":{"type": "T", "data":{"rawId":"4:+15551234567"}}}`},
		{"on one line", "{\r\n \"a\": 1}", replay.MaskSecrets, `"event":{"a":1}}`},
		{"a secret", `{"data":{"to":{"rawId":"4:+15551234567"},"incomingCallContext": "ey.J"}}`, replay.MaskSecrets, `"event":{"data":{"to":{"rawId":"4:+15551234567"},"incomingCallContext":"***"}}}`},
		{"a secret, masked", `{"data":{"incomingCallContext":"ey.J","correlationId":"c"}}`, replay.MaskPII, `"event":{"data":{"incomingCallContext":"***","correlationId":"c"}}}`},
		{"no JSON", "no", replay.MaskSecrets, `,"data":"bm8="}`},
		{"no JSON, masked", "no", replay.MaskPII, `"twice":["a","\"b\""]}}`},
	} {
		m.Data = []byte(test.data)
		got := string(replay.AppendLine(nil, m, test.masking))
		if !strings.HasSuffix(got, test.want+"\n") || strings.Count(got, "\n") != 1 || !json.Valid([]byte(got)) {
			t.Errorf("%s (-want +got):\n%s", test.name, cmp.Diff(test.want+"\n", got))
		}
	}
}

// TestAppendLine_deadLetter has a dead letter of an event of Event Grid: its former message
// id has the same address in it as the one that it had.
func TestAppendLine_deadLetter(t *testing.T) {
	m := &replay.StoredMessage{Header: nats.Header{
		schemas.HeaderDeadMsgID: {"/subscriptions/x/caller/4:+15551234567#1"}, schemas.HeaderDeadError: {"no customer 4711"},
	}, Data: []byte("{}")}
	text := string(replay.AppendLine(nil, m, replay.MaskPII))
	if strings.Contains(text, "1555") || strings.Contains(text, "4711") {
		t.Error(text)
	}
	m.Header.Set(schemas.HeaderDeadMsgID, "calling/callConnections/c-1#1")
	if text := string(replay.AppendLine(nil, m, replay.MaskPII)); !strings.Contains(text, "c-1#1") {
		t.Error(text)
	}
}
