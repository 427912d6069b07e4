package view

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestPrinter_messages writes messages with colour and without, and what is
// hostile to a terminal harmlessly.
func TestPrinter_messages(t *testing.T) {
	at := time.Date(2026, 3, 1, 10, 0, 0, 120_000_000, time.Local)
	message := func(subject, data string) *replay.StoredMessage {
		return &replay.StoredMessage{Stream: "ACS", Sequence: 7, Time: at, Subject: subject, Data: []byte(data)}
	}
	connected := message("acs.contoso.CallConnected.a.c-1", `{"id":"e","type":"Microsoft.Communication.CallConnected","data":{"callConnectionId":"c-1","operationContext":"the context","resultInformation":{"code":200,"message":"all well"}}}`)
	failed := message("acs.contoso.PlayFailed.a.c-1", `{"id":"e","type":"PlayFailed","data":{"callConnectionId":"c-1","resultInformation":{"code":400,"subCode":8535}}}`)
	for _, test := range []struct {
		name string
		p    Printer
		m    *replay.StoredMessage
		want string
	}{
		{"plain", Printer{Now: at}, connected, "10:00:00.120  CallConnected            200/0                  contoso    c-1\n"},
		{"of another day", Printer{Now: at.Add(24 * time.Hour)}, failed, "2026-03-01 10:00:00.120  PlayFailed               400/8535               contoso    c-1\n"},
		{"with personal data", Printer{Now: at, Personal: true}, connected, "10:00:00.120  CallConnected            200/0                  contoso    c-1  context=the context \"all well\"\n"},
		{"a failure is red", Printer{Now: at, Color: true}, failed, "\x1b[2m10:00:00.120\x1b[0m  \x1b[31mPlayFailed              \x1b[0m 400/8535               contoso    \x1b[36mc-1\x1b[0m\n"},
		{"hostile", Printer{Now: at}, message("acs.contoso.X.2.c", `{"id":"e","type":"\u001b[2J\u009b\u202e","data":{"callConnectionId":"\r\nforged"}}`),
			"10:00:00.120  ?[2J??                                          contoso    ??forged\n"},
		{"endless", Printer{Now: at}, message("acs.contoso.X.2.c", `{"id":"e","type":"T","data":{"callConnectionId":"`+strings.Repeat("x", 500)+`"}}`),
			"10:00:00.120  T                                               contoso    " + strings.Repeat("x", 120) + "…\n"},
		{"no event", Printer{Now: at}, message("acs-quarantine.contoso.not_json", "no\x1b"), "10:00:00.120  acs-quarantine.contoso.not_json  3 bytes, not an event\n"},
	} {
		if got := string(test.p.AppendMessage(nil, test.m)); got != test.want {
			t.Errorf("%s:\n got %q\nwant %q", test.name, got, test.want)
		}
	}
}

// TestPrinter_columns keeps columns in line behind whatever is longer than usual.
func TestPrinter_columns(t *testing.T) {
	at := time.Date(2026, 3, 1, 10, 0, 0, 0, time.Local)
	line := func(p *Printer, at time.Time, resource, kind, data string) string {
		return string(p.AppendMessage(nil, &replay.StoredMessage{Time: at, Subject: "acs." + resource + "." + kind + ".a.c-1",
			Data: []byte(`{"id":"e","type":"Microsoft.Communication.` + kind + `","data":{"callConnectionId":"c-1"` + data + `}}`)}))
	}
	write := func(p *Printer) (lines []string) {
		return []string{
			line(p, at, "contoso", "CallConnected", `,"resultInformation":{"code":200,"subCode":0}`),
			line(p, at.Add(-24*time.Hour), "contoso", "ContinuousDtmfRecognitionToneReceived", ""),
			line(p, at, "contoso-production-1", "CallConnected", ""),
			line(p, at, "contoso", "OfALaterVersion"+strings.Repeat("Long", 20), ""),
			line(p, at, "contoso", "ParticipantsUpdated", `,"sequenceNumber":1234567,"participants":[{},{},{},{},{},{},{},{},{},{}],"resultInformation":{"code":200,"subCode":5002}`),
		}
	}
	p := &Printer{Now: at}
	write(p)
	lines := write(p)
	column := func(line, text string) int { return utf8.RuneCountInString(line[:strings.Index(line, text)]) }
	for _, l := range lines {
		if column(l, " c-1") != column(lines[0], " c-1") || column(l, "contoso") != column(lines[0], "contoso") {
			t.Errorf("not in line:\n%s", strings.Join(lines, ""))
			break
		}
	}
	if !strings.Contains(lines[3], "…") {
		t.Errorf("not cut: %q", lines[3])
	}
}

// TestPrinter_Quarantined fits a dead letter into 80 columns, with any known type, the id of
// its call, and a time of another day.
func TestPrinter_Quarantined(t *testing.T) {
	const call = "421f0b00-5d5c-4a1c-9f3e-0c5a1c2d3e4f"
	m := &replay.StoredMessage{Time: time.Date(2026, 3, 1, 10, 0, 0, 0, time.Local), Header: nats.Header{schemas.HeaderResource: {"contoso-west-eu1"}}}
	p := &Printer{Now: m.Time.Add(24 * time.Hour)}
	for _, event := range schemas.Types() {
		got := p.Quarantined(123456, "too_many_parked", event.Name, call, 1<<20, m)
		want := "123456  2026-03-01 10:00:00.000  too_many_parked  contoso-west-eu1 1048576 bytes\n      " + call + " " + event.Name
		if got != want {
			t.Fatalf("\n got %q\nwant %q", got, want)
		}
		for line := range strings.Lines(got) {
			if n := len(strings.TrimSuffix(line, "\n")); n > 80 {
				t.Errorf("%d columns: %s", n, line)
			}
		}
	}
}

// TestPrinter_people shows the participants of an event, masked or not.
func TestPrinter_people(t *testing.T) {
	for _, test := range []struct{ kind, data, masked, whole string }{
		{"IncomingCall", `"to":{"rawId":"8:acs:5aba7c7e-ac50_0000"},"from":{"rawId":"4:+15550100123"}`, "  4:+***23 8:acs:***00\n", "  4:+15550100123 8:acs:5aba7c7e-ac50_0000\n"},
		{"ParticipantsUpdated", `"participants":[{"identifier":{"rawId":"8:acs:5aba7c7e-ac50_0000"}}]`, "  8:acs:***00\n", "  8:acs:5aba7c7e-ac50_0000\n"},
		{"AddParticipantSucceeded", `"participant":{"phoneNumber":{"value":"+15550100123"}}`, "  +***23\n", "  +15550100123\n"},
	} {
		m := &replay.StoredMessage{Subject: "acs.contoso." + test.kind + ".2.c", Data: []byte(`{"id":"e","type":"Microsoft.Communication.` + test.kind + `","data":{` + test.data + `}}`)}
		for personal, want := range map[bool]string{false: test.masked, true: test.whole} {
			if got := string((&Printer{Personal: personal}).AppendMessage(nil, m)); !strings.HasSuffix(got, want) {
				t.Errorf("got %q, want %q at its end", got, want)
			}
		}
	}
}

// TestPrinter_truncated names what was cut, in lines and in stories.
func TestPrinter_truncated(t *testing.T) {
	m := &replay.StoredMessage{Subject: "acs.contoso.CallConnected.2.c", Header: nats.Header{schemas.HeaderTruncated: {"acs-path,acs-query"}},
		Data: []byte(`{"id":"e","type":"CallConnected","data":{"callConnectionId":"c"}}`)}
	p := &Printer{}
	e, err := m.Event()
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{strings.TrimSpace(string(p.AppendMessage(nil, m))), p.details(&replay.Step{StoredEvent: e, Message: m})} {
		if !strings.HasSuffix(got, "[cut: acs-path,acs-query]") {
			t.Errorf("got %q", got)
		}
	}
}

// TestPlural is about one.
func TestPlural(t *testing.T) {
	for n, want := range map[int]string{0: "0 events", 1: "1 event", 2: "2 events"} {
		if got := Plural(n, "event"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestPrintError_ofServer has a text of a server in an error.
func TestPrintError_ofServer(t *testing.T) {
	var out strings.Builder
	PrintError(&out, errors.New("server answers 500 \x1b[2J\u202e\nrun \"acsbridge – help\""))
	if want := "acsbridge: server answers 500 ?[2J?\nrun \"acsbridge – help\"\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
