package publish

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// newSession returns a session that has published nothing yet.
func newSession(t *testing.T, js jetstream.JetStream) *session {
	s := &session{
		forwarder: &forwarder{logger: slog.New(slog.DiscardHandler), metrics: newMetrics()},
		js:        js, nc: js.Conn(), inbox: js.Conn().NewInbox() + ".", turns: newTurns(),
	}
	s.ctx, s.stop = context.WithCancelCause(t.Context())
	return s
}

// Comparing takes a round trip each, and a reconnect can bring hundreds of
// repetitions: answers that have arrived are not late.
func TestAnAnswerThatWaitsIsNotOverdue(t *testing.T) {
	js := natstest.Start(t).JetStream()
	for _, c := range []struct {
		name    string
		sent    time.Duration // ago
		arrived int
		overdue bool
	}{
		{"in time", ackTimeout - time.Second, 0, false},
		{"overdue", ackTimeout + time.Second, 0, true},
		{"arrived", ackTimeout + time.Second, 2, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSession(t, js)
			busy := make(chan struct{})
			var err error
			if s.replies, err = s.nc.Subscribe(s.inbox+"*", func(*nats.Msg) { <-busy }); err != nil {
				t.Fatal(err)
			}
			defer close(busy)
			for range c.arrived {
				if err := s.nc.Publish(s.inbox+"1", nil); err != nil {
					t.Fatal(err)
				}
			}
			if c.arrived > 0 {
				natstest.Until(t, func() bool { n, _, err := s.replies.Pending(); return err == nil && n > 0 })
			}
			s.flights[1] = flight{index: 1, record: &record{stream: schemas.Stream}, sent: time.Now().Add(-c.sent)}
			s.expire()
			if overdue := errors.Is(context.Cause(s.ctx), jetstream.ErrAsyncPublishTimeout); overdue != c.overdue {
				t.Errorf("ended with %v", context.Cause(s.ctx))
			}
		})
	}
}

// One comparison that fails must not end them all: a session can last for
// weeks.
func TestComparingIsTriedAgain(t *testing.T) {
	js := natstest.Start(t).JetStream()
	s := newSession(t, js)
	config := jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{"acs.>"}}
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	stored, err := js.Publish(t.Context(), "acs.contoso.CallConnected.a", []byte("first"))
	if err != nil {
		t.Fatal(err)
	}
	other := &record{stream: schemas.Stream, payload: []byte("second")}
	if err := s.compare(other, stored.Sequence); err != nil || s.blind.Load() == 0 {
		t.Fatalf("without direct get: %v, blind until %d", err, s.blind.Load())
	}
	config.AllowDirect = true
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if err := s.compare(other, stored.Sequence); err != nil {
		t.Errorf("compared at once: %v", err)
	}
	s.blind.Add(-int64(compareAgain))
	if err := s.compare(other, stored.Sequence); !errors.Is(err, errConflict) {
		t.Errorf("after a while: %v", err)
	}
}

// The next session sends again what was not answered, and must find the cursor
// where it was.
func TestAnswersAfterTheEndAreVoid(t *testing.T) {
	s := newSession(t, natstest.Start(t).JetStream())
	s.flights[1] = flight{index: 1, record: &record{stream: schemas.Stream}, sent: time.Now()}
	s.end()
	s.answered(&nats.Msg{Subject: s.inbox + "1", Data: []byte(`{"stream":"ACS","seq":1}`)})
	if s.acked() != 0 || s.doubtful != 1 {
		t.Errorf("acknowledged up to %d, doubtful up to %d", s.acked(), s.doubtful)
	}
}
