package publish

import (
	"errors"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// newSender returns a sender that has published nothing yet.
func newSender(js jetstream.JetStream) *sender {
	quiet := slog.New(slog.DiscardHandler)
	f := &forwarder{
		logger: quiet, metrics: newMetrics(), waiters: make(map[uint64]*waiter),
		target: StreamConfig{}.withDefaults().eventTarget(&natsconn.Link{}, quiet),
	}
	return &sender{
		forwarder: f, acks: acksOf(place{stream: schemas.Stream}), js: js, inbox: "_INBOX.x.",
		pending: newPending(0), answers: make(chan *nats.Msg, maxAnswers), comparer: newComparer(f, js),
	}
}

// send admits a record of a call and sends it when it is ready.
func (s *sender) send(call string) {
	r := callRecord(call)
	r.payload = []byte("{}")
	s.pending.admit(r)
	s.sendReady()
}

// sendReady sends the record that is ready and returns its index, zero for none.
func (s *sender) sendReady() uint64 {
	e := s.pending.takeReady()
	if e == nil {
		return 0
	}
	s.pending.begin(e, sent)
	e.sent = time.Now()
	return e.index
}

// answer is the stream's answer to a record.
func (s *sender) answer(t *testing.T, index uint64, text string) {
	t.Helper()
	m := &nats.Msg{Subject: s.inbox + strconv.FormatUint(index, 10), Data: []byte(text)}
	if err := s.answered(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

func TestSender_overdue(t *testing.T) {
	for name, c := range map[string]struct {
		sent    time.Duration // ago
		arrived int           // answers that were not looked at
		state   entryState
		overdue bool
	}{
		"in time":        {natsconn.RequestTimeout - time.Second, 0, sent, false},
		"overdue":        {natsconn.RequestTimeout + time.Second, 0, sent, true},
		"arrived":        {natsconn.RequestTimeout + time.Second, 2, sent, false},
		"not sent":       {natsconn.RequestTimeout + time.Second, 0, waiting, false},
		"being compared": {natsconn.RequestTimeout + time.Second, 0, comparing, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSender(nil)
			for range c.arrived {
				s.answers <- &nats.Msg{}
			}
			e := s.pending.admit(callRecord("a"))
			e.state, e.sent = c.state, time.Now().Add(-c.sent)
			if err := s.overdue(); errors.Is(err, jetstream.ErrAsyncPublishTimeout) != c.overdue {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A comparison waits for the server. Meanwhile neither its call does nor the answers
// behind it.
func TestSender_nothingWaitsForAComparison(t *testing.T) {
	js := natstest.Start(t).JetStream()
	s := newSender(js)
	asked := make(chan *nats.Msg, 1)
	if _, err := js.Conn().ChanSubscribe("$JS.API.DIRECT.GET."+schemas.Stream, asked); err != nil {
		t.Fatal(err)
	}
	s.send("a")
	s.send("a")
	s.send("b")
	s.answer(t, 1, `{"stream":"ACS","seq":1,"duplicate":true}`)
	request := <-asked
	if index := s.sendReady(); index != 2 {
		t.Fatalf("ready while the first is compared: %d", index)
	}
	s.answer(t, 1, `{"stream":"ACS","seq":1,"duplicate":true}`) // once more
	s.answer(t, 2, `{"stream":"ACS","seq":2}`)
	s.answer(t, 3, `{"stream":"ACS","seq":3}`)
	if acked := s.forwarder.acked(); acked != 0 {
		t.Errorf("while the first is compared: acknowledged up to %d", acked)
	}
	found := nats.NewMsg(request.Reply)
	found.Data = []byte("{}")
	found.Header = nats.Header{"Nats-Stream": {"ACS"}, "Nats-Subject": {"acs.contoso.PlayCompleted.c.a"}, "Nats-Sequence": {"1"},
		"Nats-Time-Stamp": {time.Now().Format(time.RFC3339Nano)}, "Nats-Num-Pending": {"0"}, "Nats-Last-Sequence": {"0"}}
	if err := js.Conn().PublishMsg(found); err != nil {
		t.Fatal(err)
	}
	if err := s.compared(<-s.comparer.results); err != nil {
		t.Fatal(err)
	}
	if acked := s.forwarder.acked(); acked != 3 || len(asked) > 0 {
		t.Errorf("afterwards: acknowledged up to %d, %d more comparisons", acked, len(asked))
	}
}
