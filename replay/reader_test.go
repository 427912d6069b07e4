package replay_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestReader compares each message with the published one.
func TestReader(t *testing.T) {
	s := newStream(t)
	began := time.Now()
	const n = 2500 // more than two requests
	s.store(n)
	i := 0
	for m, err := range s.reader().Read(t.Context(), replay.Selection{}) {
		if err != nil {
			t.Fatal(err)
		}
		want := event(i)
		i++
		if m.Stream != schemas.Stream || m.Sequence != uint64(i) || m.Subject != want.Subject || m.Time.Before(began.Add(-time.Second)) || m.Time.After(time.Now()) {
			t.Fatalf("message %d: stream %s, sequence %d, subject %s, time %v", i, m.Stream, m.Sequence, m.Subject, m.Time)
		}
		if diff := cmp.Diff(want.Header, m.Header); diff != "" || string(m.Data) != string(want.Data) {
			t.Fatalf("message %d: data %s, headers (-want +got):\n%s", i, m.Data, diff)
		}
	}
	if i != n {
		t.Errorf("%d messages, want %d", i, n)
	}
}

// TestReader_selection reads parts of a stream of 60 events, and of a capture of it.
func TestReader_selection(t *testing.T) {
	s := newStream(t)
	s.store(30)
	middle := time.Now()
	s.store(30)
	var all []*replay.StoredMessage
	for m, err := range s.reader().Read(t.Context(), replay.Selection{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	captured := capture(t, all...)
	for _, test := range []struct {
		name string
		s    replay.Selection
		want func(*replay.StoredMessage) bool
	}{
		{"a resource", replay.Selection{Resource: "fabrikam"}, func(m *replay.StoredMessage) bool { return strings.HasPrefix(m.Subject, "acs.fabrikam.") }},
		{"a type", replay.Selection{Types: []string{"CallConnected"}}, func(m *replay.StoredMessage) bool { return strings.Contains(m.Subject, ".CallConnected.") }},
		{"a type in full", replay.Selection{Types: []string{"Microsoft.Communication.CallConnected"}}, func(m *replay.StoredMessage) bool { return strings.Contains(m.Subject, ".CallConnected.") }},
		{"a call", replay.Selection{Call: "call-3"}, func(m *replay.StoredMessage) bool { return strings.HasSuffix(m.Subject, ".call-3") }},
		{"several types", replay.Selection{Types: []string{"CallConnected", "Microsoft.Communication.PlayCompleted"}}, func(m *replay.StoredMessage) bool {
			return strings.Contains(m.Subject, ".CallConnected.") || strings.Contains(m.Subject, ".PlayCompleted.")
		}},
		{"several types, one there", replay.Selection{Types: []string{"Absent", "CallConnected"}, Resource: "contoso"}, func(m *replay.StoredMessage) bool {
			return strings.HasPrefix(m.Subject, "acs.contoso.CallConnected.")
		}},
		{"the first of several types", replay.Selection{Types: []string{"CallConnected", "PlayCompleted"}, Limit: 3}, func(m *replay.StoredMessage) bool {
			return m.Sequence == 1 || m.Sequence == 2 || m.Sequence == 4
		}},
		{"all three", replay.Selection{Resource: "contoso", Types: []string{"PlayCompleted"}, Call: "call-4"}, func(m *replay.StoredMessage) bool { return m.Subject == "acs.contoso.PlayCompleted.4.call-4" }},
		{"no such call", replay.Selection{Call: "*"}, func(*replay.StoredMessage) bool { return false }},
		{"since a sequence", replay.Selection{Since: replay.Position{Sequence: 51}}, func(m *replay.StoredMessage) bool { return m.Sequence >= 51 }},
		{"since after the end", replay.Selection{Since: replay.Position{Sequence: 61}}, func(*replay.StoredMessage) bool { return false }},
		{"since a time", replay.Selection{Since: replay.Position{Time: middle}}, func(m *replay.StoredMessage) bool { return m.Sequence > 30 }},
		{"since now", replay.Selection{Since: replay.Position{Time: time.Now()}}, func(*replay.StoredMessage) bool { return false }},
		{"until a sequence", replay.Selection{Until: replay.Position{Sequence: 7}}, func(m *replay.StoredMessage) bool { return m.Sequence <= 7 }},
		{"until a sequence of others", replay.Selection{Types: []string{"CallConnected"}, Until: replay.Position{Sequence: 6}}, func(m *replay.StoredMessage) bool { return m.Sequence == 1 || m.Sequence == 4 }},
		{"until a time", replay.Selection{Until: replay.Position{Time: middle}}, func(m *replay.StoredMessage) bool { return m.Sequence <= 30 }},
		{"the first of them", replay.Selection{Types: []string{"PlayCompleted"}, Limit: 3}, func(m *replay.StoredMessage) bool { return m.Sequence == 2 || m.Sequence == 5 || m.Sequence == 8 }},
		{"a call since a time", replay.Selection{Call: "call-3", Since: replay.Position{Time: middle}}, func(m *replay.StoredMessage) bool { return m.Sequence > 30 && strings.HasSuffix(m.Subject, ".call-3") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := s.reader()
			want := []uint64{}
			for _, m := range all {
				if test.want(m) {
					want = append(want, m.Sequence)
				}
			}
			if diff := cmp.Diff(want, r.read(t, test.s)); diff != "" || len(r.warned()) > 0 {
				t.Errorf("warnings %q, sequences (-want +got):\n%s", r.warned(), diff)
			}
			got := []uint64{}
			for m, err := range replay.ReadCapture(strings.NewReader(captured), test.s) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, m.Sequence)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("sequences of the capture (-want +got):\n%s", diff)
			}
		})
	}
}

// TestReader_subjectsWithoutSlots: a reading says that the stream has events of the
// old form, also when its filter does not find them.
func TestReader_subjectsWithoutSlots(t *testing.T) {
	s := newStream(t)
	s.store(1)
	old := event(1)
	parts, _ := schemas.ParseSubject(old.Subject)
	old.Subject = strings.Join([]string{"acs", parts.Resource, parts.Type, parts.Call}, ".")
	for range 2 {
		if _, err := s.js.PublishMsg(t.Context(), old); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		s    replay.Selection
		want []uint64
	}{
		{replay.Selection{}, []uint64{1, 2, 3}},
		{replay.Selection{Call: "call-1"}, []uint64{}},
		{replay.Selection{Resource: "contoso"}, []uint64{1}},
	} {
		r := s.reader()
		got := r.read(t, test.s)
		warnings := r.warned()
		if diff := cmp.Diff(test.want, got); diff != "" || len(warnings) != 1 || !strings.Contains(warnings[0], "stream ACS holds events with subjects of the old form acs.<resource>") {
			t.Errorf("%+v: warnings %q, sequences (-want +got):\n%s", test.s, warnings, diff)
		}
	}
	for m, err := range s.reader().Read(t.Context(), replay.Selection{Since: replay.Position{Sequence: 2}, Limit: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := m.Event()
		if err != nil || e.Resource != parts.Resource || e.Call != parts.Call {
			t.Errorf("event %+v, error %v", e, err)
		}
	}
}

func TestReader_emptyStream(t *testing.T) {
	s := newStream(t)
	for _, selection := range []replay.Selection{{}, {Call: "call-1"}, {Since: replay.Position{Sequence: 1}}, {Since: replay.Position{Time: time.Now().Add(-time.Hour)}}} {
		if got := s.reader().read(t, selection); len(got) > 0 {
			t.Errorf("%+v: %v", selection, got)
		}
	}
}

// TestReader_follow reads messages that are stored later, with and without a filter.
func TestReader_follow(t *testing.T) {
	for _, test := range []struct {
		name string
		s    replay.Selection
		want []uint64
	}{
		{"everything", replay.Selection{Limit: 20}, through(1, 20)},
		{"a type", replay.Selection{Types: []string{"CallConnected"}, Limit: 6}, []uint64{1, 4, 7, 10, 11, 14}},
		{"since a time", replay.Selection{Since: replay.Position{Time: time.Now().Add(-time.Hour)}, Limit: 20}, through(1, 20)},
		{"since a sequence", replay.Selection{Since: replay.Position{Sequence: 5}, Limit: 16}, through(5, 20)},
		{"until a sequence", replay.Selection{Until: replay.Position{Sequence: 15}}, through(1, 15)},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStream(t)
			test.s.Follow = true
			r := s.reader()
			first, got := make(chan struct{}), make(chan []uint64, 1)
			go func() {
				var list []uint64
				begun := sync.OnceFunc(func() { close(first) })
				defer begun() // also when it ends early
				for m, err := range r.Read(t.Context(), test.s) {
					if err != nil {
						t.Error(err)
						break
					}
					if list = append(list, m.Sequence); len(list) == 2 {
						begun()
					}
				}
				got <- list
			}()
			s.store(10)
			<-first
			s.store(10)
			if diff := cmp.Diff(test.want, <-got); diff != "" || len(r.warned()) > 0 {
				t.Errorf("warnings %q, sequences (-want +got):\n%s", r.warned(), diff)
			}
		})
	}
}

// TestReader_followEnds ends with the context, and at a time.
func TestReader_followEnds(t *testing.T) {
	s := newStream(t)
	s.store(3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	var last error
	for _, err := range s.reader().Read(ctx, replay.Selection{Follow: true}) {
		if last = err; err == nil {
			if n++; n == 3 {
				cancel()
			}
		}
	}
	if n != 3 || !errors.Is(last, context.Canceled) {
		t.Errorf("%d messages, then %v", n, last)
	}
	if got := s.reader().read(t, replay.Selection{Follow: true, Until: replay.Position{Time: time.Now().Add(50 * time.Millisecond)}}); len(got) != 3 {
		t.Errorf("until a time: %v", got)
	}
}

// TestReader_noDirectGet says what to do.
func TestReader_noDirectGet(t *testing.T) {
	s := newStream(t, func(c *jetstream.StreamConfig) { c.AllowDirect = false })
	s.store(1)
	r := s.reader()
	if got, want := fmt.Sprint(r.fails(t, replay.Selection{})), "the stream has no direct get: nats stream edit ACS --allow-direct"; !strings.Contains(got, want) {
		t.Errorf("%s\nwant …%s", got, want)
	}
	r.Stream = "NONE"
	if got, want := fmt.Sprint(r.fails(t, replay.Selection{})), "there is no stream NONE"; !strings.Contains(got, want) {
		t.Errorf("%s\nwant …%s", got, want)
	}
}

func TestParsePosition(t *testing.T) {
	zone := time.FixedZone("there", 2*60*60)
	now := time.Date(2026, 3, 1, 12, 30, 0, 0, zone)
	for text, want := range map[string]replay.Position{
		"all":                       {},
		"seq:4711":                  {Sequence: 4711},
		"10m":                       {Time: now.Add(-10 * time.Minute)},
		"1h30m":                     {Time: now.Add(-90 * time.Minute)},
		"0s":                        {Time: now},
		"2d":                        {Time: now.Add(-48 * time.Hour)},
		"2026-02-28T10:00:00Z":      {Time: time.Date(2026, 2, 28, 10, 0, 0, 0, time.UTC)},
		"2026-02-28T10:00:00.5Z":    {Time: time.Date(2026, 2, 28, 10, 0, 0, 5e8, time.UTC)},
		"2026-02-28T10:00:00+01:00": {Time: time.Date(2026, 2, 28, 9, 0, 0, 0, time.UTC)},
		"2026-02-28T10:00":          {Time: time.Date(2026, 2, 28, 10, 0, 0, 0, zone)},
		"2026-02-28 10:00:01":       {Time: time.Date(2026, 2, 28, 10, 0, 1, 0, zone)},
		"2026-02-28":                {Time: time.Date(2026, 2, 28, 0, 0, 0, 0, zone)},
		"2026-02-28t10:00:00z":      {Time: time.Date(2026, 2, 28, 10, 0, 0, 0, time.UTC)},
		"2026-02-28T10:00:00+0100":  {Time: time.Date(2026, 2, 28, 9, 0, 0, 0, time.UTC)},
		"2026-02-28T23:59:60Z":      {Time: time.Date(2026, 2, 28, 23, 59, 59, 0, time.UTC)},
		"2026-02-28t23:59:60":       {Time: time.Date(2026, 2, 28, 23, 59, 59, 0, zone)},
		"2026-02-28 10:00:01,5":     {Time: time.Date(2026, 2, 28, 10, 0, 1, 5e8, zone)},
	} {
		got, err := replay.ParsePosition(text, now)
		if err != nil || got.Sequence != want.Sequence || !got.Time.Equal(want.Time) {
			t.Errorf("%s: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "seq:", "seq:0", "seq:-1", "10", "-5m", "d", "-1d", "99999d", "yesterday", "2026-02-30", "ALL"} {
		if got, err := replay.ParsePosition(text, now); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}
