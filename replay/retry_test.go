package replay_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// TestReader_deletedMessages warns at the right place of messages that an operator
// has deleted.
func TestReader_deletedMessages(t *testing.T) {
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
		r.OnWarning = func(err error) { got = append(got, err.Error()) }
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

// TestReader_purgeWhileReading takes away what comes next while the reader is
// busy with a message.
func TestReader_purgeWhileReading(t *testing.T) {
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
	warnings := r.warned()
	if len(warnings) != 1 || !strings.HasSuffix(warnings[0], "to 4000 any more") {
		t.Fatalf("warnings %q", warnings)
	}
	var first int
	fmt.Sscanf(warnings[0], "stream ACS does not hold sequences %d to", &first)
	if read != first-1+1000 {
		t.Errorf("%d messages were read and %d are missed", read, 4001-first)
	}
}

// TestReader_purgedWithFilter warns although it cannot know what was missed.
func TestReader_purgedWithFilter(t *testing.T) {
	s := newStream(t)
	s.store(10)
	s.purge(6)
	r := s.reader()
	if diff := cmp.Diff([]uint64{7, 10}, r.read(t, replay.Selection{Types: []string{"CallConnected"}, Since: replay.Position{Sequence: 3}})); diff != "" {
		t.Error(diff)
	}
	want := []string{"stream ACS does not hold sequences 3 to 5 any more; the events of the selection among them are missed"}
	if diff := cmp.Diff(want, r.warned()); diff != "" {
		t.Error("warnings (-want +got):\n", diff)
	}
}

// TestReader_disconnects breaks the connection again and again. Nothing is
// missed, and nothing comes twice.
func TestReader_disconnects(t *testing.T) {
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
	if next != n+1 || len(r.warned()) > 0 {
		t.Errorf("the reading ended before %d, warnings %q", next, r.warned())
	}
}

func TestReader_streamCreatedAgain(t *testing.T) {
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
	if !errors.Is(last, replay.ErrRecreated) || !strings.Contains(last.Error(), "stream ACS") {
		t.Errorf("%d messages, then: %v", n, last)
	}
}

// modelled runs a test against a fake server, in synctest's time, with a stream of 20
// events. Fate decides about each direct get.
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
		natstest.CreateStream(t, js, jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{"acs.>"}, AllowDirect: true})
		for i := range 20 {
			if _, err := js.PublishMsg(t.Context(), event(i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second) // of synctest's, so that the events are apart
		}
		test(t, newReader(js))
		if unknown := server.Unknown(); len(unknown) > 0 {
			t.Errorf("the fake server does not know %q", unknown)
		}
	})
}

// TestReader_faults lets direct gets go wrong, from one of them on.
func TestReader_faults(t *testing.T) {
	between := func(first, last int, fate fakenats.Fate) func(int) fakenats.Fate {
		return func(get int) fakenats.Fate {
			if get >= first && get <= last {
				return fate
			}
			return fakenats.Fate{}
		}
	}
	noResponders := fakenats.Fate{Refusal: &jetstream.APIError{}}
	for _, test := range []struct {
		name     string
		fate     func(get int) fakenats.Fate
		s        replay.Selection
		next     uint64 // where a reading that stops can be continued; zero when it does not stop
		want     string // of the error
		warnings []string
	}{
		{name: "a replica that is behind, and then another", fate: between(1, 3, fakenats.Fate{Behind: 10 * time.Second})},
		{name: "only replicas that are behind", fate: between(3, 1000, fakenats.Fate{Behind: time.Hour}), next: 11, want: "behind"},
		{name: "NATS disconnects", fate: between(3, 1000, noResponders), next: 11, want: nats.ErrNoResponders.Error()},
		{name: "one answer is lost", fate: between(2, 2, fakenats.Fate{Silent: true})},
		{name: "no answer at all", fate: between(1, 1000, fakenats.Fate{Lost: true}), want: "no answer"},
		{name: "an outage while following", fate: between(3, 11, noResponders), s: replay.Selection{Follow: true, Limit: 20},
			warnings: []string{"continues when that is over", "the reading of stream ACS continues"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			modelled(t, test.fate, func(t *testing.T, r *reader) {
				began := time.Now()
				if test.want == "" {
					if diff := cmp.Diff(through(1, 20), r.read(t, test.s)); diff != "" {
						t.Error(diff)
					}
				} else {
					err := r.fails(t, test.s)
					stopped, ok := errors.AsType[*replay.StoppedError](err)
					if !strings.Contains(err.Error(), test.want) || ok != (test.next > 0) || ok && stopped.Next != test.next || time.Since(began) > time.Minute {
						t.Errorf("after %v: %v", time.Since(began), err)
					}
				}
				warnings := r.warned()
				if !slices.EqualFunc(warnings, test.warnings, strings.Contains) {
					t.Errorf("warnings %q", warnings)
				}
			})
		})
	}
}

func TestReader_withoutConnection(t *testing.T) {
	r := newReader(nil)
	r.JetStream = func(context.Context) (jetstream.JetStream, error) { return nil, nats.ErrConnectionClosed }
	if err := r.fails(t, replay.Selection{}); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("error %v", err)
	}
}

// withReplicas is a server whose streams have replicas.
type withReplicas struct {
	jetstream.JetStream
	replicas []*jetstream.PeerInfo
}

func (s withReplicas) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	stream, err := s.JetStream.Stream(ctx, name)
	return streamWithReplicas{stream, s.replicas}, err
}

type streamWithReplicas struct {
	jetstream.Stream
	replicas []*jetstream.PeerInfo
}

func (s streamWithReplicas) CachedInfo() *jetstream.StreamInfo {
	info := *s.Stream.CachedInfo()
	info.Cluster = &jetstream.ClusterInfo{Replicas: s.replicas}
	return &info
}

// TestReader_laggingReplicas warns of replicas that are behind: with a filter it
// cannot know whether one of them has answered.
func TestReader_laggingReplicas(t *testing.T) {
	s := newStream(t)
	s.store(10)
	r := newReader(withReplicas{s.js, []*jetstream.PeerInfo{{Name: "n1", Current: true}, {Name: "n2", Current: false}, {Name: "n3", Current: true, Offline: true}}})
	if got := r.read(t, replay.Selection{Types: []string{"CallConnected"}}); len(got) != 4 {
		t.Errorf("read %v", got)
	}
	var names []string
	for _, notice := range r.warned() {
		var name string
		fmt.Sscanf(notice, "replica %s of stream ACS is behind", &name)
		names = append(names, name)
	}
	if diff := cmp.Diff([]string{"n2", "n3"}, names); diff != "" {
		t.Errorf("warnings %q (-want +got):\n%s", r.warned(), diff)
	}
}
