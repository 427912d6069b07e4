package resend_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/replay/resend"
	"github.com/acsbridge/acsbridge/schemas"
)

const copiesStream = "ACS_REPLAY"

// copies are a target in the same server, which has a stream for them.
func (s *stream) copies(change ...func(*jetstream.StreamConfig)) *resend.Copies {
	s.t.Helper()
	s.create(copiesStream, schemas.ReplayPrefix+".>", change)
	return &resend.Copies{
		JetStream: func(context.Context) (jetstream.JetStream, error) { return s.js, nil },
		ID:        "r-1", Prefix: schemas.ReplayPrefix, Source: schemas.Stream,
	}
}

// TestCopies compares each copy with its original.
func TestCopies(t *testing.T) {
	s := newStream(t)
	m := event(0)
	m.Header.Set(schemas.HeaderMsgID, "source#0")
	m.Header.Set(schemas.HeaderExpectedStream, schemas.Stream)
	m.Header.Set(schemas.HeaderQuery, "callerId=%2B1")
	if _, err := s.js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	s.store(300)
	before := time.Now()
	sender := resend.Sender{Target: s.copies()}
	if err := sender.Send(t.Context(), s.reader().Read(t.Context(), replay.Selection{})); err != nil {
		t.Fatal(err)
	}
	got := s.server.Messages(copiesStream)
	if len(got) != 301 {
		t.Fatalf("%d copies", len(got))
	}
	seen := map[string]bool{}
	for _, c := range got {
		seen[c.Header.Get(schemas.HeaderReplayOf)] = true
	}
	for i := range 301 {
		if of := fmt.Sprintf("ACS/%d", i+1); !seen[of] {
			t.Errorf("no copy of %s", of)
		}
	}
	first := got[0]
	at, err := time.Parse(time.RFC3339Nano, first.Header.Get(schemas.HeaderReplayAt))
	if err != nil || at.Before(before) || at.After(time.Now()) {
		t.Errorf("%s %q: %v", schemas.HeaderReplayAt, first.Header.Get(schemas.HeaderReplayAt), err)
	}
	first.Header.Del(schemas.HeaderReplayAt)
	want := nats.Header{
		schemas.HeaderEventID: {"0"}, schemas.HeaderQuery: {"callerId=%2B1"},
		schemas.HeaderMsgID: {"r-1#ACS/1"}, schemas.HeaderReplayID: {"r-1"}, schemas.HeaderReplayOf: {"ACS/1"},
	}
	if diff := cmp.Diff(want, first.Header); diff != "" || first.Subject != "acs-replay.contoso.CallConnected.5.call-0" || string(first.Data) != string(m.Data) {
		t.Errorf("subject %s, data %s, headers (-want +got):\n%s", first.Subject, first.Data, diff)
	}
}

// TestCopies_subjectWithoutSlot gives a copy the subject of today.
func TestCopies_subjectWithoutSlot(t *testing.T) {
	m := &replay.StoredMessage{Stream: schemas.Stream, Sequence: 1, Subject: "acs.contoso.CallConnected.call-0"}
	if got, want := (&resend.Copies{Prefix: "copies"}).Copy(m, time.Now()).Subject, schemas.WithSlot("copies.contoso.CallConnected.call-0"); got != want {
		t.Errorf("subject %s, want %s", got, want)
	}
}

// TestCopies_again sends one replay twice, which is stored once, and another,
// which is stored beside it.
func TestCopies_again(t *testing.T) {
	s := newStream(t)
	s.store(50)
	target := s.copies()
	for i, id := range []string{"r-1", "r-1", "r-2"} {
		target.ID = id
		if err := (&resend.Sender{Target: target}).Send(t.Context(), s.reader().Read(t.Context(), replay.Selection{})); err != nil {
			t.Fatal(err)
		}
		if n, want := len(s.server.Messages(copiesStream)), 50*max(i, 1); n != want {
			t.Errorf("%d copies after replay %d, want %d", n, i+1, want)
		}
	}
}

// TestCopies_live go to the stream that they are of, and nowhere else.
func TestCopies_live(t *testing.T) {
	s := newStream(t)
	s.store(10)
	target := s.copies()
	target.Prefix, target.Live = schemas.SubjectPrefix, true
	until := replay.Selection{Until: replay.Position{Sequence: 10}}
	if err := (&resend.Sender{Target: target}).Send(t.Context(), s.reader().Read(t.Context(), until)); err != nil {
		t.Fatal(err)
	}
	got := s.server.Messages(schemas.Stream)
	if len(got) != 20 || got[19].Header.Get(schemas.HeaderExpectedStream) != schemas.Stream {
		t.Errorf("%d messages", len(got))
	}
	target.Source = "OTHER"
	err := (&resend.Sender{Target: target}).Send(t.Context(), s.reader().Read(t.Context(), until))
	if err == nil || len(s.server.Messages(schemas.Stream)) != 20 {
		t.Errorf("copies of another stream: error %v, %d messages", err, len(s.server.Messages(schemas.Stream)))
	}
}

// TestCopies_wrongStream ends at the first acknowledgement of the stream
// that the originals are in.
func TestCopies_wrongStream(t *testing.T) {
	s := newStream(t, func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "elsewhere.>") })
	s.store(100)
	target := s.copies()
	target.Prefix = "elsewhere"
	sender := resend.Sender{Target: target, MaxInFlight: 1}
	err := sender.Send(t.Context(), s.reader().Read(t.Context(), replay.Selection{Until: replay.Position{Sequence: 100}}))
	if err == nil || !strings.Contains(err.Error(), "stream ACS stored a copy that was meant for another") || sender.Progress().Next != 1 {
		t.Errorf("error %v, progress %+v", err, sender.Progress())
	}
	if n := len(s.server.Messages(schemas.Stream)); n != 101 {
		t.Errorf("%d messages in the stream", n)
	}
}

// TestCopies_tooLarge is reported, and the others are sent.
func TestCopies_tooLarge(t *testing.T) {
	s := newStream(t)
	s.store(5)
	m := event(5)
	m.Data = make([]byte, 5000)
	if _, err := s.js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	s.store(5)
	var rejected []string
	sender := resend.Sender{Target: s.copies(func(c *jetstream.StreamConfig) { c.MaxMsgSize = 4000 }), OnDone: func(_ *replay.StoredMessage, err error) {
		if err != nil {
			rejected = append(rejected, err.Error())
		}
	}}
	if err := sender.Send(t.Context(), s.reader().Read(t.Context(), replay.Selection{})); err != nil {
		t.Fatal(err)
	}
	if p := sender.Progress(); p.Accepted != 10 || p.Rejected != 1 || len(rejected) != 1 || !strings.HasPrefix(rejected[0], "sequence 6: publish: ") {
		t.Errorf("%+v, %q", p, rejected)
	}
}

// TestCopies_noStream says how to make one.
func TestCopies_noStream(t *testing.T) {
	s := newStream(t)
	s.store(3)
	target := s.copies()
	target.Prefix = "nowhere"
	err := (&resend.Sender{Target: target}).Send(t.Context(), s.reader().Read(t.Context(), replay.Selection{}))
	if !errors.Is(err, jetstream.ErrNoStreamResponse) || !strings.Contains(err.Error(), "nats stream add --subjects 'nowhere.>'") {
		t.Errorf("error %v", err)
	}
}
