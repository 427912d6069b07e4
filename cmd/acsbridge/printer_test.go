package main

import (
	"strings"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/replay"
)

// TestLinesForPeople writes messages with colour and without, and what is
// hostile to a terminal harmlessly.
func TestLinesForPeople(t *testing.T) {
	at := time.Date(2026, 3, 1, 10, 0, 0, 120_000_000, time.Local)
	message := func(subject, data string) *replay.Message {
		return &replay.Message{Stream: "ACS", Sequence: 7, Time: at, Subject: subject, Data: []byte(data)}
	}
	connected := message("acs.contoso.CallConnected.c-1", `{"id":"e","type":"Microsoft.Communication.CallConnected","data":{"callConnectionId":"c-1","operationContext":"the context","resultInformation":{"code":200,"message":"all well"}}}`)
	failed := message("acs.contoso.PlayFailed.c-1", `{"id":"e","type":"PlayFailed","data":{"callConnectionId":"c-1","resultInformation":{"code":400,"subCode":8535}}}`)
	for _, test := range []struct {
		name string
		p    printer
		m    *replay.Message
		want string
	}{
		{"plain", printer{now: at}, connected, "10:00:00.120  CallConnected            200/0                  contoso    c-1\n"},
		{"of another day", printer{now: at.Add(24 * time.Hour)}, failed, "2026-03-01 10:00:00.120  PlayFailed               400/8535               contoso    c-1\n"},
		{"with personal data", printer{now: at, personal: true}, connected, "10:00:00.120  CallConnected            200/0                  contoso    c-1  context=the context \"all well\"\n"},
		{"a failure is red", printer{now: at, ink: true}, failed, "\x1b[2m10:00:00.120\x1b[0m  \x1b[31mPlayFailed              \x1b[0m 400/8535               contoso    \x1b[36mc-1\x1b[0m\n"},
		{"hostile", printer{now: at}, message("acs.contoso.X.c", `{"id":"e","type":"\u001b[2J\u009b\u202e","data":{"callConnectionId":"\r\nforged"}}`),
			"10:00:00.120  ?[2J??                                          contoso    ??forged\n"},
		{"endless", printer{now: at}, message("acs.contoso.X.c", `{"id":"e","type":"T","data":{"callConnectionId":"`+strings.Repeat("x", 500)+`"}}`),
			"10:00:00.120  T                                               contoso    " + strings.Repeat("x", 120) + "…\n"},
		{"no event", printer{now: at}, message("acs-quarantine.contoso.not_json", "no\x1b"), "10:00:00.120  acs-quarantine.contoso.not_json  3 bytes that are no event\n"},
	} {
		if got := string(test.p.appendMessage(nil, test.m)); got != test.want {
			t.Errorf("%s:\n got %q\nwant %q", test.name, got, test.want)
		}
	}
}
