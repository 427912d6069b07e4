package console_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/schemas"
)

// TestTimeline_wrongYears has events whose times are further apart than a duration holds,
// as another program than the bridge can store them.
func TestTimeline_wrongYears(t *testing.T) {
	c, js := newConsole(t)
	for _, received := range []string{"0002-01-01T00:00:00Z", "9999-12-31T23:59:59Z"} {
		m := nats.NewMsg(schemas.WithSlot("acs.contoso.CallConnected.c-1"))
		m.Header.Set(schemas.HeaderReceivedAt, received)
		m.Data = []byte(eventJSON(received, "x"))
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	status, text := request{path: "/calls/c-1"}.page(t, c)
	if ticks := strings.Count(text, `<text class="tick"`); status != http.StatusOK || ticks == 0 || ticks > 10 {
		t.Errorf("%d with %d times on the axis", status, ticks)
	}
}
