package publish

import (
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// Between the answer to an update and the next look the stream can be deleted.
func TestEnsure_goneAfterItsUpdate(t *testing.T) {
	js := natstest.Start(t, func(o *server.Options) { o.JetStream = false }).JetStream()
	const other = `{"config":{"name":"ACS","subjects":["acs.>"],"max_msgs":5}}`
	looks := 0
	for subject, answer := range map[string]func() string{
		"$JS.API.STREAM.INFO.ACS": func() string {
			if looks++; looks == 1 {
				return other
			}
			return `{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`
		},
		"$JS.API.STREAM.UPDATE.ACS": func() string { return other },
	} {
		if _, err := js.Conn().Subscribe(subject, func(m *nats.Msg) { _ = m.Respond([]byte(answer())) }); err != nil {
			t.Fatal(err)
		}
	}
	_, err := ensure(t.Context(), js, StreamConfig{}.withDefaults().events(), schemas.SubjectPrefix, true)
	if err == nil || !strings.Contains(err.Error(), "10008") || looks != 2 {
		t.Errorf("after %d looks: %v", looks, err)
	}
}
