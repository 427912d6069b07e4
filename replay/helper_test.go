package replay_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// stream is an event stream on a real server, and the operator's hand in it.
type stream struct {
	t      testing.TB
	server *natstest.Server
	js     jetstream.JetStream
	stored int       // events of calls
	began  time.Time // the calls, by ACS's clock; the stream has its own
}

func newStream(t testing.TB, change ...func(*jetstream.StreamConfig)) *stream {
	t.Helper()
	s := &stream{t: t, server: natstest.Start(t), began: time.Now().UTC().Truncate(time.Millisecond)}
	s.js = s.server.JetStream()
	s.create(change...)
	return s
}

// create makes the stream as the bridge does.
func (s *stream) create(change ...func(*jetstream.StreamConfig)) {
	s.t.Helper()
	config := jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{"acs.>"}, AllowDirect: true}
	for _, f := range change {
		f(&config)
	}
	natstest.CreateStream(s.t, s.js, config)
}

// store stores n events, of two resources, three types and five calls in turn.
func (s *stream) store(n int) {
	s.t.Helper()
	for i := range n {
		if _, err := s.js.PublishMsgAsync(event(i)); err != nil {
			s.t.Fatal(err)
		}
	}
	select {
	case <-s.js.PublishAsyncComplete():
	case <-time.After(time.Minute):
		s.t.Fatal("the stream does not take the events")
	}
}

func event(i int) *nats.Msg {
	resource := []string{"contoso", "fabrikam"}[i%2]
	kind := []string{"CallConnected", "PlayCompleted", "CallDisconnected"}[i%3]
	m := nats.NewMsg(schemas.WithSlot(fmt.Sprintf("acs.%s.%s.call-%d", resource, kind, i%5)))
	m.Header.Set(schemas.HeaderEventID, fmt.Sprint(i))
	m.Data = fmt.Appendf(nil, `{"id":"%d","type":"Microsoft.Communication.%s"}`, i, kind)
	return m
}

// purge deletes the messages before a sequence.
func (s *stream) purge(before uint64) {
	s.t.Helper()
	str, err := s.js.Stream(s.t.Context(), schemas.Stream)
	if err == nil {
		err = str.Purge(s.t.Context(), jetstream.WithPurgeSequence(before))
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// remove deletes one message.
func (s *stream) remove(sequence uint64) {
	s.t.Helper()
	str, err := s.js.Stream(s.t.Context(), schemas.Stream)
	if err == nil {
		err = str.DeleteMsg(s.t.Context(), sequence)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// reader is a Reader that records its warnings.
type reader struct {
	replay.Reader
	mu       sync.Mutex
	warnings []string
}

func (s *stream) reader() *reader { return newReader(s.js) }

func newReader(js jetstream.JetStream) *reader {
	r := &reader{}
	r.Reader = replay.Reader{
		JetStream: func(context.Context) (jetstream.JetStream, error) { return js, nil },
		Stream:    schemas.Stream, Prefix: schemas.SubjectPrefix, Interval: 5 * time.Millisecond,
		OnWarning: func(err error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.warnings = append(r.warnings, err.Error())
		},
	}
	return r
}

// warned returns the warnings so far.
func (r *reader) warned() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.warnings...)
}

// read returns the sequences of a reading that ends well.
func (r *reader) read(t testing.TB, s replay.Selection) []uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	list := []uint64{}
	for m, err := range r.Read(ctx, s) {
		if err != nil {
			t.Fatalf("after %d messages: %v", len(list), err)
		}
		list = append(list, m.Sequence)
	}
	return list
}

// fails returns the error of a reading.
func (r *reader) fails(t testing.TB, s replay.Selection) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, err := range r.Read(ctx, s) {
		if err != nil {
			return err
		}
	}
	t.Fatal("the reading ended well")
	return nil
}

// through are the sequences from first to last.
func through(first, last uint64) []uint64 {
	list := []uint64{}
	for n := first; n <= last; n++ {
		list = append(list, n)
	}
	return list
}

// messages are n messages of calls in turn, one a second.
func messages(n, calls int) []*replay.StoredMessage {
	list := make([]*replay.StoredMessage, n)
	for i := range list {
		list[i] = &replay.StoredMessage{
			Stream: schemas.Stream, Sequence: uint64(i + 1), Time: time.Unix(int64(i), 0),
			Subject: schemas.WithSlot(fmt.Sprintf("acs.contoso.CallConnected.call-%d", i%calls)),
			Header:  nats.Header{}, Data: []byte(`{"id":"` + fmt.Sprint(i) + `"}`),
		}
	}
	return list
}
