package publish

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// newSession returns a session that has published nothing yet.
func newSession(t *testing.T, js jetstream.JetStream) *session {
	quiet := slog.New(slog.DiscardHandler)
	s := &session{
		forwarder: &forwarder{logger: quiet, metrics: newMetrics(), target: StreamConfig{}.withDefaults().eventTarget(&Link{}, quiet)},
		acks:      acksOf(place{stream: schemas.Stream}),
		js:        js, nc: js.Conn(), inbox: js.Conn().NewInbox() + ".", turns: newTurns(),
		moved: make(chan struct{}, 1), places: make(chan struct{}, comparisons),
	}
	s.ctx, s.stop = context.WithCancelCause(t.Context())
	return s
}

// A process that stood still finds answers and the time at once: what has
// arrived is not late.
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

// A comparison waits for the server. Meanwhile neither its call does nor the
// answers behind it, and its record is not overdue.
func TestNothingWaitsForAComparison(t *testing.T) {
	js := natstest.Start(t).JetStream()
	s := newSession(t, js)
	asked := make(chan *nats.Msg, 1)
	if _, err := s.nc.ChanSubscribe("$JS.API.DIRECT.GET."+schemas.Stream, asked); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.replies, err = s.nc.Subscribe(s.inbox+"*", s.answered); err != nil {
		t.Fatal(err)
	}
	for index, call := range []string{1: "a", "a", "b"} {
		if index == 0 {
			continue
		}
		r := &record{stream: schemas.Stream, subject: schemas.WithSlot("acs.contoso.CallConnected." + call), payload: []byte("{}")}
		if fl, mine := s.takeTurn(uint64(index), r); mine {
			s.takeOff(&fl)
		}
	}
	answer := func(index uint64, text string) {
		s.answered(&nats.Msg{Subject: s.inbox + strconv.FormatUint(index, 10), Data: []byte(text)})
	}
	answer(1, `{"stream":"ACS","seq":1,"duplicate":true}`)
	request := <-asked
	due := s.takeDue()
	if len(due) != 1 || due[0].index != 2 {
		t.Fatalf("due while the first is compared: %v", due)
	}
	s.takeOff(&due[0])
	answer(1, `{"stream":"ACS","seq":1,"duplicate":true}`) // once more
	answer(2, `{"stream":"ACS","seq":2}`)
	answer(3, `{"stream":"ACS","seq":3}`)
	s.flights[1].sent = time.Now().Add(-2 * ackTimeout)
	s.expire()
	if s.acked() != 0 || s.ctx.Err() != nil {
		t.Errorf("while the first is compared: acknowledged up to %d, %v", s.acked(), context.Cause(s.ctx))
	}
	found := nats.NewMsg(request.Reply)
	found.Data = []byte("{}")
	found.Header = nats.Header{"Nats-Stream": {"ACS"}, "Nats-Subject": {"acs.contoso.CallConnected.c.a"}, "Nats-Sequence": {"1"},
		"Nats-Time-Stamp": {time.Now().Format(time.RFC3339Nano)}, "Nats-Num-Pending": {"0"}, "Nats-Last-Sequence": {"0"}}
	if err := s.nc.PublishMsg(found); err != nil {
		t.Fatal(err)
	}
	s.comparing.Wait()
	if s.acked() != 3 || len(asked) > 0 {
		t.Errorf("afterwards: acknowledged up to %d, %d more comparisons", s.acked(), len(asked))
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
	stored, err := js.Publish(t.Context(), "acs.contoso.CallConnected.c.a", []byte("first"))
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
