package replay_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// storeCalls stores calls of n events each, so that events of overlap calls alternate.
// Each third call is of fabrikam, and each fifth could not be connected.
func (s *stream) storeCalls(calls, overlap int) {
	s.t.Helper()
	stored := func() {
		select {
		case <-s.js.PublishAsyncComplete():
		case <-time.After(time.Minute):
			s.t.Fatal("the stream does not take the events")
		}
	}
	for from := 0; from < calls; from += overlap {
		for _, kind := range []string{"CallConnected", "ParticipantsUpdated", "PlayStarted", "PlayCompleted", "CallDisconnected"} {
			for i := from; i < min(from+overlap, calls); i++ {
				resource, failed := "contoso", i%5 == 4
				if i%3 == 2 {
					resource = "fabrikam"
				}
				if failed && kind != "CallDisconnected" {
					if kind != "CallConnected" {
						continue
					}
					kind = "CreateCallFailed"
				}
				m := nats.NewMsg(schemas.WithSlot(fmt.Sprintf("acs.%s.%s.call-%d", resource, kind, i)))
				m.Data = fmt.Appendf(nil, `{"id":"%d-%s","source":"calling/callConnections/call-%[1]d","type":"Microsoft.Communication.%[2]s","data":{"callConnectionId":"call-%[1]d","serverCallId":"server-%[1]d"},"specversion":"1.0"}`, i, kind)
				if kind == "CreateCallFailed" {
					kind = "CallConnected"
				}
				if _, err := s.js.PublishMsgAsync(m); err != nil {
					s.t.Fatal(err)
				}
			}
		}
		stored()
	}
}

// index has the events from a sequence on.
func (s *stream) index(from uint64) *replay.Index {
	s.t.Helper()
	var x *replay.Index
	for m, err := range s.reader().Read(s.t.Context(), replay.Selection{Since: replay.Position{Sequence: from}}) {
		if err != nil {
			s.t.Fatal(err)
		}
		if x == nil {
			x = replay.NewIndex(from, m.Time)
			if from == 1 {
				x = replay.NewIndex(from, time.Time{})
			}
		}
		step, err := m.Step()
		if err != nil {
			s.t.Fatal(err)
		}
		x.Add(step)
	}
	return x
}

// pages reads all pages and returns the names of the calls.
func pages(t testing.TB, r *reader, page replay.Page) (calls []string, count int) {
	t.Helper()
	for {
		recent, err := r.Recent(t.Context(), page, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		count++
		for _, call := range recent.Calls {
			calls = append(calls, call.Legs[0].ID)
			if want := 5; call.Events != want && call.Failures == 0 {
				t.Errorf("%s has %d events, want %d", call.Legs[0].ID, call.Events, want)
			}
		}
		if recent.Next == 0 {
			return calls, count
		}
		page.Before = recent.Next
	}
}

func TestReader_recentPages(t *testing.T) {
	t.Parallel()
	s := newStream(t)
	s.storeCalls(700, 300) // more than a first span holds
	r := s.reader()
	var want []string
	for from := 600; from >= 0; from -= 300 {
		for i := min(from+300, 700) - 1; i >= from; i-- {
			want = append(want, fmt.Sprintf("call-%d", i))
		}
	}
	of := func(keep func(int) bool) (list []string) {
		for _, name := range want {
			var i int
			if fmt.Sscanf(name, "call-%d", &i); keep(i) {
				list = append(list, name)
			}
		}
		return list
	}
	for name, test := range map[string]struct {
		page replay.Page
		want []string
	}{
		"all":      {replay.Page{Calls: 64}, want},
		"resource": {replay.Page{Resource: "fabrikam", Calls: 64}, of(func(i int) bool { return i%3 == 2 })},
		"type":     {replay.Page{Type: "PlayStarted", Calls: 64}, of(func(i int) bool { return i%5 != 4 })},
		"state":    {replay.Page{State: replay.Failed, Calls: 64}, of(func(i int) bool { return i%5 == 4 })},
		"future":   {replay.Page{Since: time.Now().Add(time.Hour)}, nil},
		"past":     {replay.Page{Until: s.began.Add(-time.Hour)}, nil},
	} {
		for index, from := range map[string]uint64{"no index": 0, "index": 1, "index of the last calls": 1801} {
			r := s.reader()
			if from > 0 {
				r.Index = s.index(from)
			}
			got, count := pages(t, r, test.page)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s, %s: calls of %d pages (-want +got):\n%s", name, index, count, diff)
			}
		}
	}
	// Pages of a time: between the storing of the last call of the first group and the end.
	first, err := r.Recent(t.Context(), replay.Page{Calls: 1}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	since, _ := pages(t, r, replay.Page{Since: first.Calls[0].Last()})
	if !slices.Contains(since, "call-699") || slices.Contains(since, "call-0") {
		t.Errorf("since the end of the newest call: %v", since)
	}
	if got := r.warned(); len(got) > 0 {
		t.Error("warnings:", got)
	}
}

// TestReader_recentIndexBehind has an event that the index lacks yet, and one that it has and
// the stream no more: no call is missing.
func TestReader_recentIndexBehind(t *testing.T) {
	t.Parallel()
	s := newStream(t)
	for _, kind := range []string{"CallConnected", "PlayStarted"} {
		for i := range 8 {
			s.add(kind, fmt.Sprint("c", i), 0, "")
		}
	}
	r := s.reader()
	r.Index = s.index(9)
	want := []string{"c7", "c6", "c5", "c4", "c3", "c2", "c1", "c0"}
	listed := func() (calls []string) {
		page := replay.Page{Calls: 4}
		for {
			recent, err := r.Recent(t.Context(), page, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			for _, call := range recent.Calls {
				calls = append(calls, call.Legs[0].ID)
			}
			if page.Before = recent.Next; recent.Next == 0 {
				return calls
			}
		}
	}
	s.add("PlayCompleted", "c4", 0, "")
	if diff := cmp.Diff(want, listed()); diff != "" {
		t.Errorf("with an event more in the stream (-want +got):\n%s", diff)
	}
	s.remove(17)
	s.remove(13)
	if diff := cmp.Diff(append(want, "c4"), listed()); diff != "" { // also where its newest event is now
		t.Errorf("with an event less in the stream (-want +got):\n%s", diff)
	}
}

// BenchmarkRecent reads the first page at 100,000 calls, the last one, and a page whose calls
// the stream does not have.
func BenchmarkRecent(b *testing.B) {
	s := newStream(b)
	s.storeCalls(100_000, 50)
	r := s.reader()
	indexed := s.reader()
	indexed.Index = s.index(400_000)
	b.Run("indexed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := indexed.Recent(b.Context(), replay.Page{}, time.Now()); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, page := range map[string]replay.Page{
		"first": {}, "old": {Before: 2000}, "failed": {State: replay.Failed}, "resource": {Resource: "fabrikam"},
		"type": {Type: "CreateCallFailed"}, "none": {State: replay.Partial}, "unknown-type": {Type: "HoldFailed"},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Recent(b.Context(), page, time.Now()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
