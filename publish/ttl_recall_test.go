package publish_test

import (
	"context"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestATailThatHasEndedHoldsNothingUp: after a long outage the stream's tail is
// read back, and the last of it may be an incoming call that is gone.
func TestATailThatHasEndedHoldsNothingUp(t *testing.T) {
	server := natstest.Start(t)
	limitedLife(t, server, true)
	b := start(t, server.URL(), publish.Options{Dir: t.TempDir()})
	natstest.Until(t, func() bool { return b.Status().Sending })
	send := func(d *publish.Delivery, e schemas.Inbound) {
		t.Helper()
		if err := b.Publish(context.Background(), claims(t), d, []schemas.Inbound{e}); err != nil {
			t.Fatal(err)
		}
	}
	send(delivery(), event("a", 1))
	send(delivery(), gridEvent("IncomingCall", 1, time.Now().Add(-time.Hour)))
	b.drained()
	natstest.Until(t, func() bool { return len(server.Messages(schemas.Stream)) == 1 })

	late := delivery()
	late.ReceivedAt = time.Now().Add(-10 * time.Minute)
	send(late, event("a", 1)) // a repetition, out of the window as far as its time says
	send(late, event("a", 2))
	b.drained()
	got := server.Messages(schemas.Stream)
	if len(got) != 2 || got[0].Header.Get("ce-id") != "a-1" || got[1].Header.Get("ce-id") != "a-2" {
		t.Errorf("the stream has %d messages", len(got))
	}
}
