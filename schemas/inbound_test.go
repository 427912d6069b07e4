package schemas_test

import (
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/schemas"
)

func TestSubject_eventGrid(t *testing.T) {
	for _, test := range []struct {
		connection, correlation, want string
	}{
		{"", "k-42", "acs.contoso.IncomingCall.d.k-42"},
		{"", "", "acs.contoso.IncomingCall.d._"},
		{"c-42", "k-42", "acs.contoso.IncomingCall.8.c-42"},
		{"", "a.>", "acs.contoso.IncomingCall.e." + schemas.Token("a.>")},
	} {
		e := schemas.Inbound{Type: schemas.TypeIncomingCall, CallConnectionID: test.connection, Grid: &schemas.GridEvent{CorrelationID: test.correlation}}
		if got := schemas.Subject("acs", "contoso", &e); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

func TestInbound_Expires(t *testing.T) {
	received := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		eventType, at string
		grid          *schemas.GridEvent
		want          time.Duration // after it was received
		ends          bool
	}{
		{schemas.TypeIncomingCall, "2026-03-01T11:59:58.5Z", &schemas.GridEvent{}, 28500 * time.Millisecond, true},
		{schemas.TypeIncomingCall, "2026-03-01T12:59:58+01:00", &schemas.GridEvent{}, 28 * time.Second, true},
		{schemas.TypeIncomingCall, "2026-03-01T11:00:00Z", &schemas.GridEvent{}, 30*time.Second - time.Hour, true},
		{schemas.TypeIncomingCall, "2026-03-01T12:00:01Z", &schemas.GridEvent{}, 30 * time.Second, true}, // a clock is wrong
		{schemas.TypeIncomingCall, "", &schemas.GridEvent{}, 30 * time.Second, true},
		{schemas.TypeIncomingCall, "soon", &schemas.GridEvent{}, 30 * time.Second, true},
		{schemas.TypeIncomingCall, "", nil, 0, false}, // what comes by callbacks is not known to ring
		{schemas.TypePrefix + "CallStarted", "2026-03-01T11:59:58Z", &schemas.GridEvent{}, 0, false},
	} {
		e := schemas.Inbound{Type: test.eventType, Time: test.at, Grid: test.grid}
		at, ends := e.Expires(received)
		if ends != test.ends || ends && !at.Equal(received.Add(test.want)) {
			t.Errorf("%s at %q: %v, %v", test.eventType, test.at, at, ends)
		}
	}
}
