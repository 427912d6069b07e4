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

// newRecall returns a recall for a journal whose first records have these ids.
func newRecall(js jetstream.JetStream, ids ...string) recall {
	backlog := func(context.Context, string, uint64) (map[messageID]uint64, error) {
		waiting := make(map[messageID]uint64)
		for _, id := range ids {
			waiting[hashID(id)] = 0
		}
		return waiting, nil
	}
	return recall{js: js, backlog: backlog, logger: slog.New(slog.DiscardHandler), metrics: newMetrics()}
}

// recalled is a stream and a recall of it.
type recalled struct {
	recall
	t      *testing.T
	stream jetstream.StreamConfig
}

func newRecalled(t *testing.T) *recalled {
	js := natstest.Start(t).JetStream()
	r := &recalled{t: t, recall: newRecall(js, "a", "b", "c")}
	r.stream = jetstream.StreamConfig{Name: "ACS", Subjects: []string{"acs.>"}, AllowDirect: true}
	if _, err := js.CreateStream(context.Background(), r.stream); err != nil {
		t.Fatal(err)
	}
	return r
}

// store puts a message with an id into the stream.
func (r *recalled) store(id string) {
	r.t.Helper()
	m := &nats.Msg{Subject: "acs.contoso.CallConnected.2.c", Header: nats.Header{schemas.HeaderMsgID: {id}}}
	if _, err := r.js.PublishMsg(context.Background(), m); err != nil {
		r.t.Fatal(err)
	}
}

// knows asks for a record that was received some time ago. The window is an
// hour.
func (r *recalled) known(id string, ago time.Duration) bool {
	r.t.Helper()
	rec := &record{receivedAt: time.Now().Add(-ago), stream: "ACS", headers: []schemas.Header{{Name: schemas.HeaderMsgID, Value: id}}}
	sequence, err := r.knows(context.Background(), 1, rec, time.Hour)
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

func TestWhatIsOlderThanAQuarterOfAWindowIsReadBack(t *testing.T) {
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
		{"a", 14 * time.Minute, false, 0},
		{"a", 16 * time.Minute, true, 2},
		{"b", 16 * time.Minute, true, 0}, // once is enough
		{"c", 16 * time.Minute, false, 0},
		{"a", 40 * time.Minute, true, 0}, // a little earlier is within the margin
		{"a", 3 * time.Hour, true, 2},    // that far it was not read
		{"a", 14 * time.Minute, false, 0},
		{"a", 3 * time.Hour, true, 0},      // records are not quite in the order of their times
		{"a", -7 * time.Minute, false, 0},  // clocks differ: and the backlog is done with
		{"a", -16 * time.Minute, true, 2},  // our clock was set back
		{"b", 1000 * time.Hour, true, 0},   // that reading goes back to the beginning
		{"c", -16 * time.Minute, false, 0}, //
		{"c", 7 * time.Minute, false, 0},   // done with
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
	r.tails["ACS"].read = time.Now().Add(-29 * time.Minute) // of half a window
	var before float64
	r.reads(&before)
	if r.known("b", 2*time.Hour); r.reads(&before) > 0 {
		t.Error("the reading went on before it was time")
	}
	r.tails["ACS"].read = time.Now().Add(-31 * time.Minute)
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

// A cluster whose nodes come and go ends a session every few seconds.
func TestANewSessionGoesOnWithTheReadingOfTheOneBefore(t *testing.T) {
	r := newRecalled(t)
	r.store("a")
	if !r.known("a", 2*time.Hour) {
		t.Error("a is not known")
	}
	r.store("b")
	r.begin(r.js)
	var before float64
	r.reads(&before)
	for _, id := range []string{"a", "b"} {
		if !r.known(id, 2*time.Hour) {
			t.Errorf("%s is not known", id)
		}
	}
	if n := r.reads(&before); n != 1 {
		t.Errorf("%v messages were read, want the one that is new", n)
	}
}

// A session may end in the middle of a reading.
func TestAReadingThatBrokeOffGoesOn(t *testing.T) {
	r := newRecalled(t)
	for range recallMessages {
		r.store("")
	}
	r.store("a")
	ctx, cancel := context.WithCancel(t.Context())
	old := &record{receivedAt: time.Now().Add(-2 * time.Hour), stream: "ACS", headers: []schemas.Header{{Name: schemas.HeaderMsgID, Value: "a"}}}
	tail, err := r.tail(ctx, "ACS", 1, old.receivedAt.Add(-time.Hour), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, more, err := r.readBatch(ctx, "ACS", tail); err != nil || !more {
		t.Fatalf("more is %v, %v", more, err)
	}
	cancel()
	if _, err := r.knows(ctx, 1, old, time.Hour); err == nil {
		t.Fatal("an unread tail is no error")
	}
	r.begin(r.js)
	var before float64
	r.reads(&before)
	if !r.known("a", 2*time.Hour) {
		t.Error("a is not known")
	}
	if n := r.reads(&before); n != 1 {
		t.Errorf("%v messages were read, want the one that is left", n)
	}
}

// A server that lost its power may have lost the end of a stream, and its
// sequences are given out again.
func TestWhatWasReadIsReadAnewWhenTheStreamLostIt(t *testing.T) {
	for _, stored := range [][]string{nil, {"b"}, {"b", "b2"}, {"b", "b2", "b3"}} {
		r := newRecalled(t)
		r.store("a")
		r.store("c")
		for _, id := range []string{"a", "c"} {
			if !r.known(id, 2*time.Hour) {
				t.Errorf("%s is not known", id)
			}
		}
		if err := r.js.DeleteStream(t.Context(), "ACS"); err != nil {
			t.Fatal(err)
		}
		if _, err := r.js.CreateStream(t.Context(), r.stream); err != nil {
			t.Fatal(err)
		}
		for _, id := range stored {
			r.store(id)
		}
		r.begin(r.js)
		if r.known("a", 2*time.Hour) || r.known("c", 2*time.Hour) {
			t.Errorf("with %d others stored, what was lost is known", len(stored))
		}
		if r.known("b", 2*time.Hour) != (len(stored) > 0) {
			t.Errorf("with %d others stored, it is not known what is there", len(stored))
		}
	}
}

func TestATailOfManyMessagesIsReadWhole(t *testing.T) {
	r := newRecalled(t)
	const messages = 2*recallMessages + 1
	ids := make([]string, messages)
	for n := range messages {
		ids[n] = strconv.Itoa(n)
	}
	r.recall = newRecall(r.js, ids...)
	for n := range messages {
		m := &nats.Msg{Subject: "acs.contoso.CallConnected.2.c", Header: nats.Header{schemas.HeaderMsgID: {strconv.Itoa(n)}}}
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

// What others have stored during a long outage has no bound: of that, only what
// waits in the journal is kept. For records that come later, it is what was
// stored lately.
func TestWhatOthersStoredIsKeptOnlyWhenItIsRecent(t *testing.T) {
	const window = time.Second
	r := newRecalled(t)
	r.store("a")
	r.store("x")
	<-time.After(2 * window)
	r.store("y")
	knows := func(id string) bool {
		old := &record{receivedAt: time.Now().Add(-time.Hour), stream: "ACS", headers: []schemas.Header{{Name: schemas.HeaderMsgID, Value: id}}}
		sequence, err := r.knows(t.Context(), 1, old, window)
		if err != nil {
			t.Fatal(err)
		}
		return sequence > 0
	}
	for id, want := range map[string]bool{"a": true, "b": false, "x": false, "y": true} {
		if knows(id) != want {
			t.Errorf("%s: known %v", id, !want)
		}
	}
	r.store("z") // and whatever is stored after that
	r.tails["ACS"].read = time.Now().Add(-window)
	if !knows("z") {
		t.Error("what was stored after the first reading is not known")
	}
}

// No replica is behind where there is nothing to be read.
func TestAnEmptyTailIsWhole(t *testing.T) {
	r := newRecalled(t)
	r.store("a")
	r.store("b")
	held, err := r.js.Stream(t.Context(), "ACS")
	if err != nil {
		t.Fatal(err)
	}
	if err := held.DeleteMsg(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if !r.known("a", 2*time.Hour) || r.known("b", 2*time.Hour) {
		t.Error("a is in the stream, b was deleted")
	}
	if err := held.DeleteMsg(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	clear(r.tails)
	if r.known("a", 2*time.Hour) {
		t.Error("a was deleted")
	}
	r.store("c")
	<-time.After(100 * time.Millisecond)
	const window = 40 * time.Millisecond // and c was stored before it
	rec := &record{receivedAt: time.Now().Add(-window), stream: "ACS", headers: []schemas.Header{{Name: schemas.HeaderMsgID, Value: "c"}}}
	clear(r.tails)
	if sequence, err := r.knows(t.Context(), 1, rec, window); sequence != 0 || err != nil {
		t.Errorf("got %d, %v", sequence, err)
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
		if _, err := r.knows(context.Background(), 1, old, time.Hour); err == nil || !strings.Contains(err.Error(), "direct get") {
			t.Errorf("got %v", err)
		}
	}
}
