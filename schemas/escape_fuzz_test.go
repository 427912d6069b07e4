package schemas_test

import (
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/schemas"
)

// hostile are texts that mean something to NATS, or to a terminal.
var hostile = []string{
	"", "plain", ".", "..", "a.b", "*", ">", "a.>", "$JS.API.STREAM.DELETE.ACS", "a b", "a\tb", "\x00", "\r\nPUB acs.evil 0\r\n",
	"a\r\nNats-Rollup: all", "grüße", "\xff\xfe", "%2e", "%", "h_00000000000000000000000000000000", "_", strings.Repeat("x", 65), strings.Repeat("é", 40),
}

// FuzzSubject holds every subject to four tokens of plain characters, whatever
// type and call an event names, and two of them apart that differ.
func FuzzSubject(f *testing.F) {
	for _, s := range hostile {
		f.Add("Microsoft.Communication."+s, s, "c-42")
		f.Add(s, "CallConnected", s)
	}
	f.Fuzz(func(t *testing.T, ceType, call, other string) {
		subject := schemas.Subject("acs", "contoso", &schemas.Inbound{Type: ceType, CallConnectionID: call})
		tokens := strings.Split(subject, ".")
		if len(tokens) != 5 || tokens[0] != "acs" || tokens[1] != "contoso" {
			t.Fatalf("subject %q", subject)
		}
		parts, ok := schemas.ParseSubject(subject)
		if want := (schemas.SubjectParts{Resource: tokens[1], Type: tokens[2], Slot: tokens[3], Call: tokens[4]}); !ok || parts != want {
			t.Fatalf("subject %q is read as %+v, %v", subject, parts, ok)
		}
		for _, token := range tokens {
			if len(token) == 0 || len(token) > 64 || strings.Trim(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
				t.Fatalf("token %q of subject %q", token, subject)
			}
		}
		if call != other && call != "" && other != "" && schemas.Token(call) == schemas.Token(other) &&
			schemas.Token(call) != call && schemas.Token(other) != other {
			t.Fatalf("%q and %q have one token", call, other)
		}
	})
}

// FuzzHeaderURL holds what is kept of a path or a query to the characters that
// a header can carry, and leaves the escapes as they came.
func FuzzHeaderURL(f *testing.F) {
	for _, s := range hostile {
		f.Add(s, 40)
		f.Add("callerId=%2B1555&x="+s, 1024)
	}
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = max(0, limit%2000)
		got, cut := schemas.HeaderURL(s, limit)
		checkHeader(t, got, limit)
		if again, cutAgain := schemas.HeaderURL(got, limit); again != got || cutAgain {
			t.Fatalf("%q became %q when it was escaped again", got, again)
		}
		if !cut && strings.Trim(s, " ") == s && strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0 && got != s {
			t.Fatalf("%q, which needs nothing, became %q", s, got)
		}
	})
}

// FuzzMsgID holds a message id to one header value, and ids of different events
// apart.
func FuzzMsgID(f *testing.F) {
	for _, s := range hostile {
		f.Add(s, "1", "source", s)
		f.Add("calling/callConnections/c-42", s, s, "1")
	}
	f.Fuzz(func(t *testing.T, source, id, otherSource, otherID string) {
		one := schemas.Inbound{Source: source, ID: id}
		got := one.MsgID()
		if len(got) == 0 || len(got) > 256 || strings.IndexFunc(got, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
			t.Fatalf("message id %q", got)
		}
		two := schemas.Inbound{Source: otherSource, ID: otherID}
		if (source != otherSource || id != otherID) && got == two.MsgID() {
			t.Fatalf("%q#%q and %q#%q have one message id", source, id, otherSource, otherID)
		}
	})
}
