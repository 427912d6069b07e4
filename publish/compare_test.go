package publish

import (
	"errors"
	"testing"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A replica has a message a little later than the leader that answered for it.
func TestCompare_waitsForAReplica(t *testing.T) {
	for _, c := range []struct {
		name   string
		absent int // answers before the message is there
		want   error
	}{
		{"there", 0, errConflict},
		{"there soon", compareAttempts - 1, errConflict},
		{"removed", compareAttempts, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := natstest.Start(t, func(o *server.Options) { o.JetStream = false })
			js := s.JetStream()
			asked := 0
			if _, err := js.Conn().Subscribe("$JS.API.DIRECT.GET.ACS", func(m *nats.Msg) {
				if asked++; asked <= c.absent {
					respond(js.Conn(), m, "NATS/1.0 404 Message Not Found\r\n\r\n", "")
					return
				}
				respond(js.Conn(), m, part{1, 0, 0}.String(), "other")
				respond(js.Conn(), m, "NATS/1.0 204 EOB\r\n\r\n", "")
			}); err != nil {
				t.Fatal(err)
			}
			if err := compare(t.Context(), js, &record{stream: "ACS"}, 1); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// One comparison that fails must not end them all: a sender can last for weeks.
func TestComparer_isTriedAgain(t *testing.T) {
	js := natstest.Start(t).JetStream()
	c := newSender(js).comparer
	config := jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{"acs.>"}}
	natstest.CreateStream(t, js, config)
	stored, err := js.Publish(t.Context(), "acs.contoso.CallConnected.c.a", []byte("first"))
	if err != nil {
		t.Fatal(err)
	}
	other := &record{stream: schemas.Stream, payload: []byte("second")}
	if err := c.compare(t.Context(), other, stored.Sequence); err != nil || c.disabledUntil.Load() == 0 {
		t.Fatalf("without direct get: %v, disabled until %d", err, c.disabledUntil.Load())
	}
	config.AllowDirect = true
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if err := c.compare(t.Context(), other, stored.Sequence); err != nil {
		t.Errorf("compared at once: %v", err)
	}
	c.disabledUntil.Add(-int64(compareAgain))
	if err := c.compare(t.Context(), other, stored.Sequence); !errors.Is(err, errConflict) {
		t.Errorf("after a while: %v", err)
	}
}
