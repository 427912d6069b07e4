package replay_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/fakenats"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestDeletedMessagesAreMissed reads around what an operator has deleted, and
// says at the right place what is missing.
func TestDeletedMessagesAreMissed(t *testing.T) {
	s := newStream(t)
	s.store(20)
	s.purge(6)
	for _, sequence := range []uint64{9, 10, 11, 15, 20} {
		s.remove(sequence)
	}
	want := []string{"6", "7", "8", "stream ACS does not hold sequences 9 to 11 any more", "12", "13", "14", "stream ACS does not hold sequence 15 any more", "16", "17", "18", "19"}
	for _, test := range []struct {
		since replay.Position
		want  []string
	}{
		{replay.Position{}, want}, // what went before the beginning is not missed
		{replay.Position{Time: time.Now().Add(-time.Hour)}, want},
		{replay.Position{Sequence: 6}, want},
		{replay.Position{Sequence: 2}, append([]string{"stream ACS does not hold sequences 2 to 5 any more"}, want...)},
	} {
		r := s.reader()
		var got []string
		r.Notice = func(err error) { got = append(got, err.Error()) }
		for m, err := range r.Read(t.Context(), replay.Selection{Since: test.since}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(m.Sequence))
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("since %v (-want +got):\n%s", test.since, diff)
		}
	}
}

// TestAPurgeDuringTheReading takes away what comes next while the reader is
// busy with a message.
func TestAPurgeDuringTheReading(t *testing.T) {
	s := newStream(t)
	s.store(5000)
	r := s.reader()
	read := 0
	for m, err := range r.Read(t.Context(), replay.Selection{}) {
		if err != nil {
			t.Fatal(err)
		}
		if read++; read == 1 {
			s.purge(4001)
		}
		if read == 1 && m.Sequence != 1 {
			t.Fatalf("began at %d", m.Sequence)
		}
	}
	heard := r.heard()
	if len(heard) != 1 || !strings.HasSuffix(heard[0], "to 4000 any more") {
		t.Fatalf("notices %q", heard)
	}
	var first int
	fmt.Sscanf(heard[0], "stream ACS does not hold sequences %d to", &first)
	if read != first-1+1000 {
		t.Errorf("%d messages were read and %d are missed", read, 4001-first)
	}
}

// TestAFilteredReadingIsOvertaken cannot know what was missed, but that
// something may have been.
func TestAFilteredReadingIsOvertaken(t *testing.T) {
	s := newStream(t)
	s.store(10)
	s.purge(6)
	r := s.reader()
	if diff := cmp.Diff([]uint64{7, 10}, r.read(t, replay.Selection{Type: "CallConnected", Since: replay.Position{Sequence: 3}})); diff != "" {
		t.Error(diff)
	}
	want := []string{"stream ACS does not hold sequences 3 to 5 any more; what the selection had there is missed"}
	if diff := cmp.Diff(want, r.heard()); diff != "" {
		t.Error("notices (-want +got):\n", diff)
	}
}

// TestAReadingOutlastsCuts breaks the connection again and again. Nothing is
// missed, and nothing comes twice.
func TestAReadingOutlastsCuts(t *testing.T) {
	s := newStream(t)
	const n = 5000
	s.store(n)
	proxy := natstest.NewProxy(t, strings.TrimPrefix(s.server.URL(), "nats://"))
	nc, err := nats.Connect(proxy.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(time.Millisecond), nats.ReconnectBufSize(-1), nats.Timeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	r := newReader(js)
	next := uint64(1)
	for m, err := range r.Read(t.Context(), replay.Selection{}) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Sequence != next {
			t.Fatalf("sequence %d came in the place of %d", m.Sequence, next)
		}
		if next++; m.Sequence%700 == 0 {
			proxy.Cut()
		}
	}
	if next != n+1 || len(r.heard()) > 0 {
		t.Errorf("the reading ended before %d, notices %q", next, r.heard())
	}
}

// TestAStreamThatBeganAgain is no place to go on in.
func TestAStreamThatBeganAgain(t *testing.T) {
	s := newStream(t)
	s.store(10)
	var last error
	n := 0
	for _, err := range s.reader().Read(t.Context(), replay.Selection{Follow: true}) {
		if last = err; err != nil {
			break
		}
		if n++; n == 10 {
			if err := s.js.DeleteStream(t.Context(), schemas.Stream); err != nil {
				t.Fatal(err)
			}
			s.create()
			s.store(3)
		}
	}
	if !errors.Is(last, replay.ErrBeganAgain) || !strings.Contains(last.Error(), "stream ACS") {
		t.Errorf("%d messages, then: %v", n, last)
	}
}

// modelled runs a test against a model of a server, on synctest's time, with a
// stream of 20 events. What becomes of a direct get is the test's choice.
func modelled(t *testing.T, fate func(get int) fakenats.Fate, test func(t *testing.T, r *reader)) {
	synctest.Test(t, func(t *testing.T) {
		gets := 0
		server := fakenats.New(fakenats.Options{MaxBatch: 5, Fate: func(q fakenats.Request) fakenats.Fate {
			if !strings.Contains(q.Subject, ".DIRECT.GET.") {
				return fakenats.Fate{}
			}
			gets++
			return fate(gets)
		}})
		nc, err := nats.Connect("", nats.InProcessServer(server.Client("reader")), nats.IgnoreDiscoveredServers())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{"acs.>"}, AllowDirect: true}); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			if _, err := js.PublishMsg(t.Context(), event(i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second) // of synctest's, so that the events are apart
		}
		test(t, newReader(js))
		if unknown := server.Unknown(); len(unknown) > 0 {
			t.Errorf("the model does not know %q", unknown)
		}
	})
}

// noResponders is what a client gets when nobody listens.
var noResponders = fakenats.Fate{Refusal: &jetstream.APIError{}}

// TestAReplicaThatIsBehind answers first, and another later.
func TestAReplicaThatIsBehind(t *testing.T) {
	modelled(t, func(get int) fakenats.Fate {
		if get <= 3 {
			return fakenats.Fate{Behind: 10 * time.Second}
		}
		return fakenats.Fate{}
	}, func(t *testing.T, r *reader) {
		if diff := cmp.Diff(through(1, 20), r.read(t, replay.Selection{})); diff != "" {
			t.Error(diff)
		}
	})
}

// TestOnlyReplicasThatAreBehind never come to the end of the stream.
func TestOnlyReplicasThatAreBehind(t *testing.T) {
	modelled(t, func(get int) fakenats.Fate {
		if get <= 2 {
			return fakenats.Fate{}
		}
		return fakenats.Fate{Behind: time.Hour}
	}, func(t *testing.T, r *reader) {
		err := r.fails(t, replay.Selection{})
		stopped, ok := errors.AsType[*replay.StoppedError](err)
		if !ok || stopped.Next != 11 || !strings.Contains(err.Error(), "behind") {
			t.Errorf("got %v, want a stop at 11", err)
		}
	})
}

// TestAStopNamesWhereToGoOn has NATS go away in mid-reading for good.
func TestAStopNamesWhereToGoOn(t *testing.T) {
	modelled(t, func(get int) fakenats.Fate {
		if get <= 2 {
			return fakenats.Fate{}
		}
		return noResponders
	}, func(t *testing.T, r *reader) {
		err := r.fails(t, replay.Selection{})
		stopped, ok := errors.AsType[*replay.StoppedError](err)
		if !ok || stopped.Next != 11 || !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("got %v, want a stop at 11", err)
		}
	})
}

// TestFollowingOutlastsAnOutage goes on however long it takes, and says so.
func TestFollowingOutlastsAnOutage(t *testing.T) {
	modelled(t, func(get int) fakenats.Fate {
		if get > 2 && get < 12 {
			return noResponders
		}
		return fakenats.Fate{}
	}, func(t *testing.T, r *reader) {
		if diff := cmp.Diff(through(1, 20), r.read(t, replay.Selection{Follow: true, Limit: 20})); diff != "" {
			t.Error(diff)
		}
		heard := r.heard()
		if len(heard) != 2 || !strings.Contains(heard[0], "goes on when that is over") || heard[1] != "the reading of stream ACS goes on" {
			t.Errorf("notices %q", heard)
		}
	})
}

// TestALostAnswerIsAskedForAgain loses one whole answer.
func TestALostAnswerIsAskedForAgain(t *testing.T) {
	modelled(t, func(get int) fakenats.Fate { return fakenats.Fate{Silent: get == 2} }, func(t *testing.T, r *reader) {
		if diff := cmp.Diff(through(1, 20), r.read(t, replay.Selection{})); diff != "" {
			t.Error(diff)
		}
	})
}

// TestNoAnswerAtAll gives up after a while, with what is needed.
func TestNoAnswerAtAll(t *testing.T) {
	modelled(t, func(int) fakenats.Fate { return fakenats.Fate{Lost: true} }, func(t *testing.T, r *reader) {
		began := time.Now()
		err := r.fails(t, replay.Selection{})
		if !strings.Contains(fmt.Sprint(err), "no answer") || time.Since(began) > 20*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
	r := newReader(nil)
	r.JetStream = func(context.Context) (jetstream.JetStream, error) { return nil, nats.ErrConnectionClosed }
	if err := r.fails(t, replay.Selection{}); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("without a connection: %v", err)
	}
}

// withReplicas is a server that tells of replicas.
type withReplicas struct {
	jetstream.JetStream
	replicas []*jetstream.PeerInfo
}

func (s withReplicas) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	stream, err := s.JetStream.Stream(ctx, name)
	return toldOf{stream, s.replicas}, err
}

type toldOf struct {
	jetstream.Stream
	replicas []*jetstream.PeerInfo
}

func (s toldOf) CachedInfo() *jetstream.StreamInfo {
	info := *s.Stream.CachedInfo()
	info.Cluster = &jetstream.ClusterInfo{Replicas: s.replicas}
	return &info
}

// TestAFilteredReadingKnowsOfReplicas that are behind, and cannot know whether
// one of them has answered.
func TestAFilteredReadingKnowsOfReplicas(t *testing.T) {
	s := newStream(t)
	s.store(10)
	r := newReader(withReplicas{s.js, []*jetstream.PeerInfo{{Name: "n1", Current: true}, {Name: "n2", Current: false}, {Name: "n3", Current: true, Offline: true}}})
	if got := r.read(t, replay.Selection{Type: "CallConnected"}); len(got) != 4 {
		t.Errorf("read %v", got)
	}
	var names []string
	for _, notice := range r.heard() {
		var name string
		fmt.Sscanf(notice, "replica %s of stream ACS is behind", &name)
		names = append(names, name)
	}
	if diff := cmp.Diff([]string{"n2", "n3"}, names); diff != "" {
		t.Errorf("notices %q (-want +got):\n%s", r.heard(), diff)
	}
}
