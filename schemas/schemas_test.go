package schemas_test

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/acsbridge/acsbridge/schemas"
)

func TestSubject(t *testing.T) {
	for _, test := range []struct{ ceType, call, want string }{
		{"Microsoft.Communication.CallConnected", "401f3500-a1", "acs.contoso.CallConnected.7.401f3500-a1"},
		{"CallConnected", "", "acs.contoso.CallConnected.d._"},
		{"a.b.", "c", "acs.contoso.h_e3b0c44298fc1c149afbf4c8996fb924.2.c"},
		{"a.*", ">", "acs.contoso.h_684888c0ebb17f374298b65ee2807526.6.h_62b67e1f685b7fef51102005dddd2777"},
		{"a.b c", "x.y", "acs.contoso.h_47d8a4a86c7433e263d0404a445daabd.8.h_b24ca9b75eb7b75775b5fdd41e0ef5cf"},
		{"a." + strings.Repeat("x", 64), strings.Repeat("y", 65), "acs.contoso." + strings.Repeat("x", 64) + ".1.h_" + ""},
	} {
		got := schemas.Subject("acs", "contoso", &schemas.Inbound{Type: test.ceType, CallConnectionID: test.call})
		if !strings.HasPrefix(got, test.want) {
			t.Errorf("type %q, call %q: got %s, want %s", test.ceType, test.call, got, test.want)
		}
		if n := strings.Count(got, "."); n != 4 {
			t.Errorf("%s has %d dots", got, n)
		}
	}
}

func TestInbound_MsgID(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, test := range []struct{ source, id, want string }{
		{"s", "1", "s#1"},
		{long, "1", ""}, {"a#b", "c", ""}, {"a", "b#c", "a#b#c"}, {"s", "a b", ""}, {"s", "a\r\nb", ""}, {"s", "é", ""},
	} {
		e := schemas.Inbound{Source: test.source, ID: test.id}
		got := e.MsgID()
		if test.want == "" && (len(got) != 64 || strings.Trim(got, "0123456789abcdef") != "") {
			t.Errorf("%.10s#%q: got %q, want a hash", test.source, test.id, got)
		}
		if test.want != "" && got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

// checkHeader holds a header's value to what any header can carry, and to its bound.
func checkHeader(t *testing.T, value string, limit int) {
	t.Helper()
	odd := func(r rune) bool { return r < ' ' || r > '~' }
	if len(value) > limit || strings.ContainsFunc(value, odd) || strings.TrimSpace(value) != value {
		t.Fatalf("%q, %d bytes with a limit of %d", value, len(value), limit)
	}
}

func FuzzHeaderValue(f *testing.F) {
	for _, s := range []string{"", "plain", " lead", "trail ", "100%", "a\r\nNats-Rollup: all", "grüße", "\x00\xff", "a b", "%2B", strings.Repeat("é", 400)} {
		f.Add(s, 40)
	}
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = max(0, limit%2000)
		got, cut := schemas.HeaderValue(s, limit)
		checkHeader(t, got, limit)
		back, err := url.PathUnescape(got)
		if err != nil {
			t.Fatal(err)
		}
		if !cut && back != s || cut && !strings.HasPrefix(s, back) {
			t.Fatalf("got back %q from %q (cut %v)", back, s, cut)
		}
		if cut && utf8.ValidString(s) && !utf8.ValidString(back) {
			t.Fatalf("cut inside a character: %q", back)
		}
	})
}

func TestHeaderURL_ownEscapes(t *testing.T) {
	for s, want := range map[string]string{"a%2Bb": "a%2Bb", "a=ü": "a=%C3%BC", "a b": "a b"} {
		if got, cut := schemas.HeaderURL(s, 100); got != want || cut {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
	}
	if got, cut := schemas.HeaderURL("abcdef", 3); got != "abc" || !cut {
		t.Errorf("got %q, %v", got, cut)
	}
}

func FuzzHeaderJSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":"ü😀","b":[1,2.50,null]}`, "{\n \"a\" : 1 }", `{"a":"\u0000"}`, `{`, "\x7f", `"\ud800"`,
		`"` + strings.Repeat("a", 99) + `"`, `"` + strings.Repeat("ü", 50) + `"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if !json.Valid(raw) {
			return
		}
		got, ok := schemas.HeaderJSON(raw, 100)
		if !ok {
			return
		}
		if len(got) > 100 {
			t.Fatalf("%d bytes", len(got))
		}
		for i := range len(got) {
			if got[i] < ' ' || got[i] > '~' {
				t.Fatalf("%q holds byte %#x", got, got[i])
			}
		}
		if again, want := canonical(t, []byte(got)), canonical(t, raw); again != want {
			t.Fatalf("got %s, want %s", again, want)
		}
	})
}

// canonical writes a document as encoding/json would, numbers as they are.
func canonical(t *testing.T, document []byte) string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestEvent_Brief_nothingPersonal: of data with everything in it, it says only what is
// not personal.
func TestEvent_Brief_nothingPersonal(t *testing.T) {
	const data = `{"callConnectionId":"c-1","resultInformation":{"code":200,"subCode":8533,"message":"8:acs:someone pressed"},
		"operationContext":"+15550100","recognitionType":"dtmf","dtmfResult":{"tones":["one","two"]},
		"participants":[{"identifier":{"rawId":"4:+15550100"}}],"sequenceNumber":3,"state":"active"}`
	for eventType, want := range map[string]string{
		"CallConnected":                        "200/8533",
		"NeverHeardOf":                         "200/8533",
		"RecognizeCompleted":                   "200/8533 dtmf",
		"ParticipantsUpdated":                  "200/8533 1 participant #3",
		"RecordingStateChanged":                "200/8533 active",
		"TeamsRecordingStateChanged":           "200/8533 active",
		"TeamsComplianceRecordingStateChanged": "200/8533 active",
		"IncomingCall":                         "",
	} {
		parsed, err := schemas.ParseData(eventType, []byte(data))
		if err != nil {
			t.Fatal(err)
		}
		if got := (&schemas.Event{Data: parsed}).Brief(); got != want {
			t.Errorf("%s: got %q, want %q", eventType, got, want)
		}
	}
	if got := (&schemas.Event{}).Brief(); got != "" {
		t.Errorf("got %q", got)
	}
}
