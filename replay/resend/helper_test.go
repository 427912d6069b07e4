package resend_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// stream is an event stream on a real server.
type stream struct {
	t      testing.TB
	server *natstest.Server
	js     jetstream.JetStream
}

func newStream(t testing.TB, change ...func(*jetstream.StreamConfig)) *stream {
	t.Helper()
	s := &stream{t: t, server: natstest.Start(t)}
	s.js = s.server.JetStream()
	s.create(schemas.Stream, "acs.>", change)
	return s
}

func (s *stream) create(name, subjects string, change []func(*jetstream.StreamConfig)) {
	s.t.Helper()
	config := jetstream.StreamConfig{Name: name, Subjects: []string{subjects}, AllowDirect: true}
	for _, f := range change {
		f(&config)
	}
	natstest.CreateStream(s.t, s.js, config)
}

// store stores n events of five calls in turn.
func (s *stream) store(n int) {
	s.t.Helper()
	for i := range n {
		if _, err := s.js.PublishMsg(s.t.Context(), event(i)); err != nil {
			s.t.Fatal(err)
		}
	}
}

func event(i int) *nats.Msg {
	m := nats.NewMsg(schemas.WithSlot(fmt.Sprintf("acs.contoso.CallConnected.call-%d", i%5)))
	m.Header.Set(schemas.HeaderEventID, fmt.Sprint(i))
	m.Data = fmt.Appendf(nil, `{"id":"%d","type":"Microsoft.Communication.CallConnected"}`, i)
	return m
}

func (s *stream) reader() *replay.Reader {
	return &replay.Reader{
		JetStream: func(context.Context) (jetstream.JetStream, error) { return s.js, nil },
		Stream:    schemas.Stream, Prefix: schemas.SubjectPrefix,
	}
}
