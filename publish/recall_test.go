package publish

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// recalled is a stream and a recall of it.
type recalled struct {
	recall
	t      *testing.T
	stream jetstream.StreamConfig
}

func newRecalled(t *testing.T) *recalled {
	js := natstest.Start(t).JetStream()
	r := &recalled{t: t, recall: recall{js: js, logger: slog.New(slog.DiscardHandler), metrics: newMetrics()}}
	r.stream = jetstream.StreamConfig{Name: "ACS", Subjects: []string{"acs.>"}, AllowDirect: true}
	if _, err := js.CreateStream(context.Background(), r.stream); err != nil {
		t.Fatal(err)
	}
	return r
}

// store puts a message with an id into the stream.
func (r *recalled) store(id string) {
	r.t.Helper()
	m := &nats.Msg{Subject: "acs.contoso.CallConnected.c", Header: nats.Header{schemas.HeaderMsgID: {id}}}
	if _, err := r.js.PublishMsg(context.Background(), m); err != nil {
		r.t.Fatal(err)
	}
}

// knows asks for a record that was received some time ago. The window is an
// hour.
func (r *recalled) known(id string, ago time.Duration) bool {
	r.t.Helper()
	rec := &record{receivedAt: time.Now().Add(-ago), stream: "ACS", headers: []header{{schemas.HeaderMsgID, id}}}
	sequence, err := r.knows(context.Background(), rec, time.Hour)
	if err != nil {
		r.t.Fatal(err)
	}
	return sequence > 0
}

// reads returns how many messages were read back since the last call.
func (r *recalled) reads(before *float64) float64 {
	n := testutil.ToFloat64(r.metrics.recalled)
	n, *before = n-*before, n
	return n
}

func TestWhatIsOlderThanHalfAWindowIsReadBack(t *testing.T) {
	r := newRecalled(t)
	r.store("a")
	r.store("b")
	var before float64
	for _, c := range []struct {
		id    string
		ago   time.Duration
		known bool
		reads float64
	}{
		{"a", 0, false, 0}, // the stream itself remembers it
		{"a", 29 * time.Minute, false, 0},
		{"a", 31 * time.Minute, true, 2},
		{"b", 31 * time.Minute, true, 0}, // once is enough
		{"c", 31 * time.Minute, false, 0},
		{"a", 40 * time.Minute, true, 0},   // a little earlier is within the margin
		{"a", 3 * time.Hour, true, 2},      // that far it was not read
		{"a", -29 * time.Minute, false, 0}, // clocks differ: and the backlog is done with
		{"a", -31 * time.Minute, true, 2},  // our clock was set back
		{"b", 1000 * time.Hour, true, 0},   // that reading goes back to the beginning
		{"c", -31 * time.Minute, false, 0}, //
		{"c", 10 * time.Minute, false, 0},  // done with
		{"c", 2 * time.Hour, false, 2},     // so it is read again
	} {
		if known := r.known(c.id, c.ago); known != c.known {
			t.Errorf("%s of %s ago: known %v", c.id, c.ago, known)
		}
		if n := r.reads(&before); n != c.reads {
			t.Errorf("%s of %s ago: %v messages were read, want %v", c.id, c.ago, n, c.reads)
		}
	}
}

// A long backlog outlives what the stream remembers of the time since the
// tail was read.
func TestTheReadingGoesOnWhereItEnded(t *testing.T) {
	r := newRecalled(t)
	r.store("a")
	if !r.known("a", 2*time.Hour) {
		t.Error("a is not known")
	}
	r.store("b")
	if r.known("b", 2*time.Hour) {
		t.Error("b was read too early to be known")
	}
	r.tails["ACS"].read = time.Now().Add(-31 * time.Minute)
	var before float64
	r.reads(&before)
	if !r.known("b", 2*time.Hour) || !r.known("a", 2*time.Hour) {
		t.Error("a or b is not known")
	}
	if n := r.reads(&before); n != 1 {
		t.Errorf("%v messages were read, want the one that is new", n)
	}
	r.tails["ACS"].read = time.Now().Add(-31 * time.Minute)
	if r.known("c", 2*time.Hour) { // nothing is new
		t.Error("c is known")
	}
}

func TestATailOfManyMessagesIsReadWhole(t *testing.T) {
	r := newRecalled(t)
	const messages = 2*recallMessages + 1
	for n := range messages {
		m := &nats.Msg{Subject: "acs.contoso.CallConnected.c", Header: nats.Header{schemas.HeaderMsgID: {strconv.Itoa(n)}}}
		if n%100 == 0 { // some are so large that they end a request
			m.Data = make([]byte, 512<<10)
		}
		if _, err := r.js.PublishMsgAsync(m); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-r.js.PublishAsyncComplete():
	case <-time.After(time.Minute):
		t.Fatal("not stored within a minute")
	}
	for n := range messages {
		if !r.known(strconv.Itoa(n), 2*time.Hour) {
			t.Fatalf("message %d of %d is not known", n, messages)
		}
	}
	if n := testutil.ToFloat64(r.metrics.recalled); n != messages {
		t.Errorf("%v messages were read, want %d", n, messages)
	}
}

// A tail that cannot be read must stop the session: a record might be stored
// twice.
func TestATailThatCannotBeReadIsAnError(t *testing.T) {
	r := newRecalled(t)
	r.stream.AllowDirect = false
	if _, err := r.js.UpdateStream(context.Background(), r.stream); err != nil {
		t.Fatal(err)
	}
	old := &record{receivedAt: time.Now().Add(-time.Hour), stream: "ACS"}
	for range 2 { // the second time it must not pass for an empty one
		if _, err := r.knows(context.Background(), old, time.Hour); err == nil || !strings.Contains(err.Error(), "direct get") {
			t.Errorf("got %v", err)
		}
	}
}
