package resend_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/replay/resend"
	"github.com/acsbridge/acsbridge/schemas"
)

const (
	callGUID = "401f3500-9f1e-4f0a-8a5c-0123456789ab"
	userID   = "8:acs:19ae37ff-1a44-4e19-aade-198eedddbdf2_0000001b-97d1-59d8-6763-493a0d0086af"
)

// storyOfACaller is an event in which everything that may be personal holds the word
// secret, a number or an id that is looked for afterwards.
const storyOfACaller = `{"id":"b3c5b1e0-0000-4000-8000-0123456789ab","source":"calling/callConnections/` + callGUID + `",
"type":"Microsoft.Communication.RecognizeCompleted","time":"2026-03-01T12:00:00.1234567+00:00","specversion":"1.0",
"subject":"calling/callConnections/` + callGUID + `","data":{
"callConnectionId":"` + callGUID + `","serverCallId":"aHR0cHM6Ly9zZWNyZXQ","correlationId":"c0ffee00-0000-4000-8000-0123456789ab",
"operationContext":"secret +15550100123","sequenceNumber":7,"customer":15550100123,
"resultInformation":{"code":200,"subCode":8533,"message":"secret 4:+15550100123"},
"recognitionType":"dtmf","dtmfResult":{"tones":["one","two","three"]},"choiceResult":{"label":"secret","confidence":0.75},
"participants":[{"identifier":{"kind":"phoneNumber","rawId":"4:+15550100123","phoneNumber":{"value":"+15550100123"}},"isMuted":false},
{"identifier":{"kind":"communicationUser","rawId":"` + userID + `","communicationUser":{"id":"` + userID + `"}}}],
"startDateTime":"2026-03-01T12:00:01.5+00:00","customContext":{"voipHeaders":{"x-secret-15550100123":"secret","loyal":null,"gold":true}}}}`

func personalMessage() *replay.StoredMessage {
	return &replay.StoredMessage{
		Stream: schemas.Stream, Sequence: 9, Subject: schemas.WithSlot("acs.contoso.RecognizeCompleted." + callGUID), Data: []byte(storyOfACaller),
		Header: nats.Header{
			schemas.HeaderEventID: {"b3c5b1e0-0000-4000-8000-0123456789ab"}, schemas.HeaderEventSource: {"calling/callConnections/" + callGUID},
			schemas.HeaderEventType: {"Microsoft.Communication.RecognizeCompleted"}, schemas.HeaderResource: {"contoso"},
			schemas.HeaderPath: {"secret"}, schemas.HeaderQuery: {"callerId=%2B15550100123"}, schemas.HeaderTokenClaims: {`{"x":"secret"}`},
			schemas.HeaderMsgID: {"calling/callConnections/" + callGUID + "#b3c5b1e0-0000-4000-8000-0123456789ab"}, "x-unknown": {"secret"},
		},
	}
}

// TestRedactor looks for every personal thing in what is
// left, and for everything that a test needs.
func TestRedactor(t *testing.T) {
	m := personalMessage()
	got, err := resend.NewRedactor([]byte("key")).Message(m)
	if err != nil {
		t.Fatal(err)
	}
	line := string(replay.AppendLine(nil, got, replay.MaskSecrets))
	for _, secret := range []string{"secret", "aHR0", "5550100123", "401f3500", "19ae37ff", "0000001b", "c0ffee00", "b3c5b1e0", `"one"`, `"three"`} {
		if strings.Contains(line, secret) {
			t.Errorf("%s is left in\n%s", secret, line)
		}
	}
	for _, kept := range []string{
		`"sequenceNumber":7`, `"code":200`, `"subCode":8533`, `"recognitionType":"dtmf"`, `"confidence":0.75`, `"kind":"phoneNumber"`,
		`"loyal":null,"gold":true`, `"isMuted":false`, `"time":"2026-03-01T12:00:00.1234567+00:00"`, `"rawId":"4:+999`, `"value":"+999`, `"id":"8:acs:`,
		`"tones":["zero","zero","zero"]`, `"customer":0`, `"startDateTime":"2026-03-01T12:00:01.5+00:00"`, `"acs-resource":"contoso"`,
	} {
		if !strings.Contains(line, kept) {
			t.Errorf("%s is missing in\n%s", kept, line)
		}
	}
	if string(m.Data) != storyOfACaller || m.Header.Get(schemas.HeaderPath) != "secret" || !strings.HasSuffix(m.Subject, callGUID) {
		t.Error("the original was changed")
	}
}

// TestRedactor_pseudonyms finds one pseudonym for one thing wherever it stands, with
// one key, and another with another key.
func TestRedactor_pseudonyms(t *testing.T) {
	redact := func(key string) (call string) {
		m, err := resend.NewRedactor([]byte(key)).Message(personalMessage())
		if err != nil {
			t.Fatal(err)
		}
		var e struct {
			ID, Source, Subject string
			Data                struct {
				CallConnectionID string
				Participants     []struct {
					Identifier struct {
						RawID             string
						PhoneNumber       struct{ Value string }
						CommunicationUser struct{ ID string }
					}
				}
			}
		}
		if err := json.Unmarshal(m.Data, &e); err != nil {
			t.Fatal(err)
		}
		call = e.Data.CallConnectionID
		phone, user := e.Data.Participants[0].Identifier, e.Data.Participants[1].Identifier
		for _, pair := range [][2]string{
			{e.Source, "calling/callConnections/" + call}, {e.Subject, e.Source},
			{m.Subject, schemas.WithSlot("acs.contoso.RecognizeCompleted." + call)},
			{m.Header.Get(schemas.HeaderEventID), e.ID}, {m.Header.Get(schemas.HeaderEventSource), e.Source},
			{phone.RawID, "4:" + phone.PhoneNumber.Value}, {user.RawID, user.CommunicationUser.ID},
		} {
			if pair[0] != pair[1] {
				t.Errorf("%s and %s are not the same", pair[0], pair[1])
			}
		}
		return call
	}
	if one, again, other := redact("a"), redact("a"), redact("b"); one != again || one == other || len(one) != len(callGUID) {
		t.Errorf("%s, %s and with another key %s", one, again, other)
	}
}

// TestRedactor_truncatedHeaders: what is left of a cut header is still cut.
func TestRedactor_truncatedHeaders(t *testing.T) {
	m := personalMessage()
	m.Header.Set(schemas.HeaderTruncated, "acs-path,ce-source,acs-token-claims,ce-type")
	redacted, err := resend.NewRedactor(nil).Message(m)
	if err != nil {
		t.Fatal(err)
	}
	if got := redacted.Header.Get(schemas.HeaderTruncated); got != "acs-path,ce-source,ce-type" {
		t.Errorf("cut are %q", got)
	}
}

// TestRedactor_callbackURL: an application that finds a call by the path or the query
// of its callback URL still does.
func TestRedactor_callbackURL(t *testing.T) {
	phone := regexp.MustCompile(`^callerId=%2B999\d{11}&step=x[0-9a-f]{20}&%2B999\d{11}=x[0-9a-f]{20}&last&none=$`)
	for _, test := range []struct {
		keep  []string
		path  string // with the pseudonym of the call for CALL
		query *regexp.Regexp
	}{
		{nil, `^CALL/x[0-9a-f]{20}$`, phone},
		{[]string{"path", "query.step"}, "^" + callGUID + `/main%20menu$`, regexp.MustCompile(`^callerId=%2B999\d{11}&step=main%2Fmenu&`)},
		{[]string{"query.callerId"}, `^CALL/`, regexp.MustCompile(`^callerId=%2B15550100123&step=x`)},
	} {
		m := personalMessage()
		m.Header.Set(schemas.HeaderPath, callGUID+"/main%20menu")
		m.Header.Set(schemas.HeaderQuery, "callerId=%2B15550100123&step=main%2Fmenu&15550100=a&last&none=")
		redactor := resend.NewRedactor([]byte("key"))
		for _, path := range test.keep {
			if err := redactor.Keep(path); err != nil {
				t.Fatal(err)
			}
		}
		got, err := redactor.Message(m)
		if err != nil {
			t.Fatal(err)
		}
		path := strings.ReplaceAll(test.path, "CALL", got.CallToken())
		if p := got.Header.Get(schemas.HeaderPath); !regexp.MustCompile(path).MatchString(p) {
			t.Errorf("keeping %q: path %s, want %s", test.keep, p, path)
		}
		if q := got.Header.Get(schemas.HeaderQuery); !test.query.MatchString(q) {
			t.Errorf("keeping %q: query %s, want %s", test.keep, q, test.query)
		}
	}
}

// TestRedactor_keep keeps the members that steer an application, and nothing beside
// them.
func TestRedactor_keep(t *testing.T) {
	redactor := resend.NewRedactor([]byte("key"))
	for _, path := range []string{"data.dtmfResult.tones", "data.operationContext", "data.customContext", "data.participants.identifier.phoneNumber", "data.customer", "data.tones", "query.step"} {
		if err := redactor.Keep(path); err != nil {
			t.Fatal(err)
		}
	}
	got, err := redactor.Message(personalMessage())
	if err != nil {
		t.Fatal(err)
	}
	for _, kept := range []string{
		`"tones":["one","two","three"]`, `"operationContext":"secret +15550100123"`, `"customer":15550100123`,
		`"x-secret-15550100123":"secret"`, `"phoneNumber":{"value":"+15550100123"}`, `"rawId":"4:+999`, `"label":"x`, `"message":"x`,
	} {
		if !strings.Contains(string(got.Data), kept) {
			t.Errorf("%s is missing in\n%s", kept, got.Data)
		}
	}
	if diff := cmp.Diff([]string{"data.tones", "query.step"}, redactor.Unused()); diff != "" {
		t.Error(diff)
	}
}

// TestRedactor_keepSecret: what lets a client answer the call is not kept.
func TestRedactor_keepSecret(t *testing.T) {
	redactor := resend.NewRedactor([]byte("key"))
	for _, path := range []string{"data.incomingCallContext", "data", "data.", "id", "query", "query.", "path.0", "operationContext", ""} {
		if err := redactor.Keep(path); err == nil {
			t.Errorf("%q is kept", path)
		}
	}
	if err := redactor.Keep("data.call"); err != nil {
		t.Fatal(err)
	}
	m := personalMessage()
	m.Data = []byte(`{"data":{"call":{"incomingCallContext":"secret","more":[{"incomingCallContext":["secret"],"a":"kept"}]}}}`)
	got, err := redactor.Message(m)
	if err != nil || strings.Contains(string(got.Data), `"secret"`) || !strings.Contains(string(got.Data), `"a":"kept"`) {
		t.Errorf("%v: %s", err, got.Data)
	}
}

// TestRedactor_call: a call is still one after redaction, whatever the form of its
// ids, and so are times that deviate from RFC 3339.
func TestRedactor_call(t *testing.T) {
	var text strings.Builder
	redactor, file := resend.NewRedactor(nil), replay.NewCapture(&text)
	for i, data := range []string{
		`"time":"2026-03-01T12:00:00","data":{"callConnectionId":"` + callGUID + `","serverCallId":"aHR0cHM6Ly9z+A=="}`,
		`"time":"2026-03-01t12:00:01z","data":{"callConnectionId":"` + strings.ToUpper(callGUID) + `","correlationId":"c0ffee00-0000-4000-8000-0123456789ab"}`,
		`"time":"2026-03-01T12:00:60Z","data":{"callConnectionId":"other","serverCallId":"aHR0cHM6Ly9z+A"}`,
		`"time":null,"data":{"callConnectionId":"third","correlationId":"C0FFEE00-0000-4000-8000-0123456789AB"}`,
	} {
		m := &replay.StoredMessage{Stream: "ACS", Sequence: uint64(i + 1), Time: time.Date(2026, 3, 1, 12, 0, i, 0, time.UTC), Subject: "acs.contoso.PlayStarted.d._", Data: []byte(`{"id":"1","source":"s","type":"PlayStarted",` + data + `}`)}
		redacted, err := redactor.Message(m)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := redacted.Event(); err != nil || e.Made.IsZero() != (i == 3) {
			t.Errorf("event %d: %v, made %v", i, err, e.Made)
		}
		file.Send(t.Context(), redacted, func(error) {})
	}
	if err := file.Flush(); err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`"callConnectionId":"([^"]+)"`).FindStringSubmatch(text.String())[1]
	story, err := replay.CaptureStory(t.Context(), strings.NewReader(text.String()), id, time.Now())
	if err != nil || len(story.Steps) != 4 || len(story.Legs) != 3 {
		t.Errorf("story of %s: %+v, %v", id, story, err)
	}
}

// TestRedactor_invalid is an error that does not quote it.
func TestRedactor_invalid(t *testing.T) {
	for _, data := range []string{"", "secret", `{"a":secret}`, `{"a":1`} {
		m := personalMessage()
		m.Data = []byte(data)
		if _, err := resend.NewRedactor(nil).Message(m); err == nil || !strings.HasPrefix(err.Error(), "sequence 9 cannot be redacted") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: error %v", data, err)
		}
	}
}
