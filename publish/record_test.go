package publish

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/publish/journal"
	"github.com/acsbridge/acsbridge/schemas"
)

var sample = record{
	receivedAt: time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC),
	stream:     "ACS",
	subject:    "acs.contoso.CallConnected.a.c-1",
	headers:    []schemas.Header{{Name: "Nats-Msg-Id", Value: "source#1"}, {Name: "ce-id", Value: "1"}, {Name: "empty", Value: ""}},
	payload:    []byte(`{"id":"1"}`),
}

func TestRecord_roundTrip(t *testing.T) {
	for _, want := range []*record{&sample, {receivedAt: sample.receivedAt, headers: []schemas.Header{}, payload: []byte{}}} {
		got, err := decodeRecord(want.encode())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(record{})); diff != "" {
			t.Error(diff)
		}
	}
	if got, want := sample.resource(), "contoso"; got != want {
		t.Errorf("resource: got %q, want %q", got, want)
	}
	if got, want := sample.msgID(), "source#1"; got != want {
		t.Errorf("message id: got %q, want %q", got, want)
	}
	at, err := receivedAt(sample.encode())
	if err != nil || !at.Equal(sample.receivedAt) {
		t.Errorf("received at: got %v, %v", at, err)
	}
}

func TestRecord_anotherVersion(t *testing.T) {
	b := sample.encode()
	b[0] = recordVersion + 1
	if _, err := decodeRecord(b); !errors.Is(err, errVersion) || errors.Is(err, journal.ErrCorrupt) {
		t.Errorf("got %v, want errVersion: it waits for the version that wrote it", err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	whole := sample.encode()
	f.Add(whole)
	for _, n := range []int{0, 1, 9, 12, 30, 60} {
		f.Add(whole[:n])
	}
	f.Add(append(append([]byte{}, whole[:9]...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b)
		if err != nil {
			return
		}
		again, err := decodeRecord(r.encode())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, again, cmp.AllowUnexported(record{})); diff != "" {
			t.Error(diff)
		}
	})
}

// TestRecord_brokenLayout reads records whose stream, subject and headers take another
// length than the record says, as only a writer of wrong records makes them.
func TestRecord_brokenLayout(t *testing.T) {
	whole := sample.encode()
	end := fixedSize + int(binary.BigEndian.Uint32(whole[1+8:]))
	for name, claimed := range map[string]int{"a byte less": end - 1, "a byte more": end + 1, "past its end": len(whole) + 1} {
		broken := slices.Clone(whole)
		binary.BigEndian.PutUint32(broken[1+8:], uint32(claimed-fixedSize))
		if r, err := decodeRecord(broken); !errors.Is(err, journal.ErrCorrupt) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func TestTruncation_keepsWhatTheStreamMayLose(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	tr := truncation{keep: 10 * time.Second}
	for s := range 30 { // a hundred records a second are acknowledged
		now := start.Add(time.Duration(s) * time.Second)
		limit := tr.limit(now, uint64(100*s))
		want := uint64(0)
		if s >= 10 {
			want = uint64(100 * (s - 10))
		}
		if limit != want {
			t.Fatalf("after %d s: limit %d, want %d", s, limit, want)
		}
	}
	if got := (&truncation{}).limit(start, 5); got != 5 {
		t.Errorf("without keep: limit %d, want 5", got)
	}
}

// A message is used again for record after record, and must carry nothing of
// the one before.
func TestRecord_fill(t *testing.T) {
	m := &nats.Msg{Header: make(nats.Header)}
	for _, r := range []record{
		{subject: "a", headers: []schemas.Header{{Name: "x", Value: "1"}, {Name: "y", Value: "2"}}, payload: []byte("1")},
		{subject: "b", headers: []schemas.Header{{Name: "x", Value: "3"}, {Name: "y", Value: "4"}}, payload: []byte("2")},
		{subject: "c", headers: []schemas.Header{{Name: "z", Value: "5"}}},
		{subject: "d", headers: []schemas.Header{{Name: "z", Value: "6"}, {Name: "x", Value: ""}}, payload: []byte("4")},
		{subject: "e"},
	} {
		r.fill(m)
		want := &nats.Msg{Subject: r.subject, Data: r.payload, Header: make(nats.Header)}
		for _, h := range r.headers {
			want.Header[h.Name] = []string{h.Value}
		}
		if diff := cmp.Diff(want, m, cmpopts.IgnoreUnexported(nats.Msg{})); diff != "" {
			t.Error(diff)
		}
	}
}

// What is done for each record that is sent makes no garbage.
func TestRecord_fillAllocations(t *testing.T) {
	r := callRecord("a")
	r.headers = []schemas.Header{{Name: "a", Value: "1"}, {Name: "b", Value: "2"}}
	m := &nats.Msg{Header: make(nats.Header)}
	acks := acksOf(place{stream: schemas.Stream})
	answer := &nats.Msg{Data: []byte(`{"stream":"ACS","seq":123}`)}
	got := testing.AllocsPerRun(100, func() {
		r.fill(m)
		if _, err := acks.read(answer); err != nil {
			t.Fatal(err)
		}
	})
	if got > 0 {
		t.Errorf("%g allocations", got)
	}
}
