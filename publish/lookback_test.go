package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/acsbridge/acsbridge/internal/directget"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// newLookback returns a lookback for a journal whose first records have these ids.
func newLookback(js jetstream.JetStream, ids ...string) *lookback {
	pending := func(context.Context, string, uint64) (map[messageID]uint64, error) {
		waiting := make(map[messageID]uint64)
		for _, id := range ids {
			waiting[hashID(id)] = 0
		}
		return waiting, nil
	}
	return &lookback{js: js, pending: pending, logger: slog.New(slog.DiscardHandler), metrics: newMetrics()}
}

// lookUp looks for a record that was received some time ago.
func (l *lookback) lookUp(ctx context.Context, id string, ago, window time.Duration) (sequence uint64, err error) {
	old := &record{receivedAt: time.Now().Add(-ago), stream: "ACS", headers: []schemas.Header{{Name: schemas.HeaderMsgID, Value: id}}}
	return l.find(ctx, old, &entry{index: 1, record: old}, window)
}

// lookbackTest is a stream and a lookback on it.
type lookbackTest struct {
	*lookback
	t      *testing.T
	stream jetstream.StreamConfig
}

func newLookbackTest(t *testing.T) *lookbackTest {
	js := natstest.Start(t).JetStream()
	r := &lookbackTest{t: t, lookback: newLookback(js, "a", "b", "c")}
	r.stream = jetstream.StreamConfig{Name: "ACS", Subjects: []string{"acs.>"}, AllowDirect: true}
	natstest.CreateStream(t, js, r.stream)
	return r
}

// store puts a message with an id into the stream.
func (r *lookbackTest) store(id string) {
	r.t.Helper()
	m := &nats.Msg{Subject: "acs.contoso.CallConnected.2.c", Header: nats.Header{schemas.HeaderMsgID: {id}}}
	if _, err := r.js.PublishMsg(context.Background(), m); err != nil {
		r.t.Fatal(err)
	}
}

// has reports whether a record is found that was received some time ago. The window is an
// hour.
func (r *lookbackTest) has(id string, ago time.Duration) bool {
	r.t.Helper()
	sequence, err := r.lookUp(context.Background(), id, ago, time.Hour)
	if err != nil {
		r.t.Fatal(err)
	}
	return sequence > 0
}

// reads returns how many messages were read since the last call.
func (r *lookbackTest) reads(before *float64) float64 {
	n := testutil.ToFloat64(r.metrics.lookback)
	n, *before = n-*before, n
	return n
}

func TestLookback_quarterOfAWindow(t *testing.T) {
	r := newLookbackTest(t)
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
		if known := r.has(c.id, c.ago); known != c.known {
			t.Errorf("%s of %s ago: known %v", c.id, c.ago, known)
		}
		if n := r.reads(&before); n != c.reads {
			t.Errorf("%s of %s ago: %v messages were read, want %v", c.id, c.ago, n, c.reads)
		}
	}
}

// A long backlog outlives what the stream remembers of the time since the
// tail was read.
func TestLookback_goesOn(t *testing.T) {
	r := newLookbackTest(t)
	r.store("a")
	if !r.has("a", 2*time.Hour) {
		t.Error("a is not known")
	}
	r.store("b")
	if r.has("b", 2*time.Hour) {
		t.Error("b was read too early to be known")
	}
	r.ends["ACS"].read = time.Now().Add(-29 * time.Minute) // of half a window
	var before float64
	r.reads(&before)
	if r.has("b", 2*time.Hour); r.reads(&before) > 0 {
		t.Error("the reading went on before it was time")
	}
	r.ends["ACS"].read = time.Now().Add(-31 * time.Minute)
	if !r.has("b", 2*time.Hour) || !r.has("a", 2*time.Hour) {
		t.Error("a or b is not known")
	}
	if n := r.reads(&before); n != 1 {
		t.Errorf("%v messages were read, want the one that is new", n)
	}
	r.ends["ACS"].read = time.Now().Add(-31 * time.Minute)
	if r.has("c", 2*time.Hour) { // nothing is new
		t.Error("c is known")
	}
}

// A cluster whose nodes come and go ends a sender every few seconds.
func TestLookback_newSenderGoesOn(t *testing.T) {
	r := newLookbackTest(t)
	r.store("a")
	if !r.has("a", 2*time.Hour) {
		t.Error("a is not known")
	}
	r.store("b")
	r.begin(r.js)
	var before float64
	r.reads(&before)
	for _, id := range []string{"a", "b"} {
		if !r.has(id, 2*time.Hour) {
			t.Errorf("%s is not known", id)
		}
	}
	if n := r.reads(&before); n != 1 {
		t.Errorf("%v messages were read, want the one that is new", n)
	}
}

// A sender may end in the middle of a reading.
func TestLookback_brokenOffGoesOn(t *testing.T) {
	r := newLookbackTest(t)
	for range directget.MaxMessages {
		r.store("")
	}
	r.store("a")
	ctx, cancel := context.WithCancel(t.Context())
	old := &record{receivedAt: time.Now().Add(-2 * time.Hour), stream: "ACS", headers: []schemas.Header{{Name: schemas.HeaderMsgID, Value: "a"}}}
	tail, err := r.endOf(ctx, "ACS", 1, old.receivedAt.Add(-time.Hour), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if more, err := r.readBatch(ctx, "ACS", tail); err != nil || !more {
		t.Fatalf("more is %v, %v", more, err)
	}
	cancel()
	if _, err := r.find(ctx, old, &entry{index: 1, record: old}, time.Hour); err == nil {
		t.Fatal("an unread tail is not an error")
	}
	r.begin(r.js)
	var before float64
	r.reads(&before)
	if !r.has("a", 2*time.Hour) {
		t.Error("a is not known")
	}
	if n := r.reads(&before); n != 1 {
		t.Errorf("%v messages were read, want the one that is left", n)
	}
}

// A server that lost its power may have lost the end of a stream, and its
// sequences are given out again.
func TestLookback_streamLostItsEnd(t *testing.T) {
	for _, stored := range [][]string{nil, {"b"}, {"b", "b2"}, {"b", "b2", "b3"}} {
		r := newLookbackTest(t)
		r.store("a")
		r.store("c")
		for _, id := range []string{"a", "c"} {
			if !r.has(id, 2*time.Hour) {
				t.Errorf("%s is not known", id)
			}
		}
		if err := r.js.DeleteStream(t.Context(), "ACS"); err != nil {
			t.Fatal(err)
		}
		natstest.CreateStream(t, r.js, r.stream)
		for _, id := range stored {
			r.store(id)
		}
		r.begin(r.js)
		if r.has("a", 2*time.Hour) || r.has("c", 2*time.Hour) {
			t.Errorf("with %d others stored, what was lost is known", len(stored))
		}
		if r.has("b", 2*time.Hour) != (len(stored) > 0) {
			t.Errorf("with %d others stored, it is not known what is there", len(stored))
		}
	}
}

func TestLookback_manyMessages(t *testing.T) {
	r := newLookbackTest(t)
	const messages = 2*directget.MaxMessages + 1
	ids := make([]string, messages)
	for n := range messages {
		ids[n] = strconv.Itoa(n)
	}
	r.lookback = newLookback(r.js, ids...)
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
		if !r.has(strconv.Itoa(n), 2*time.Hour) {
			t.Fatalf("message %d of %d is not known", n, messages)
		}
	}
	if n := testutil.ToFloat64(r.metrics.lookback); n != messages {
		t.Errorf("%v messages were read, want %d", n, messages)
	}
}

// What others have stored during a long outage has no bound: of that, only what
// waits in the journal is kept. For records that come later, it is what was
// stored lately.
func TestLookback_keepsWhatIsRecent(t *testing.T) {
	const window = time.Second
	r := newLookbackTest(t)
	r.store("a")
	r.store("x")
	<-time.After(2 * window)
	r.store("y")
	stored := func(id string) bool {
		sequence, err := r.lookUp(t.Context(), id, time.Hour, window)
		if err != nil {
			t.Fatal(err)
		}
		return sequence > 0
	}
	for id, want := range map[string]bool{"a": true, "b": false, "x": false, "y": true} {
		if stored(id) != want {
			t.Errorf("%s: known %v", id, !want)
		}
	}
	r.store("z") // and whatever is stored after that
	r.ends["ACS"].read = time.Now().Add(-window)
	if !stored("z") {
		t.Error("what was stored after the first reading is not known")
	}
}

// No replica is behind where there is nothing to be read.
func TestLookback_nothingToRead(t *testing.T) {
	r := newLookbackTest(t)
	r.store("a")
	r.store("b")
	held, err := r.js.Stream(t.Context(), "ACS")
	if err != nil {
		t.Fatal(err)
	}
	if err := held.DeleteMsg(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if !r.has("a", 2*time.Hour) || r.has("b", 2*time.Hour) {
		t.Error("a is in the stream, b was deleted")
	}
	if err := held.DeleteMsg(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	clear(r.ends)
	if r.has("a", 2*time.Hour) {
		t.Error("a was deleted")
	}
	r.store("c")
	<-time.After(100 * time.Millisecond)
	const window = 40 * time.Millisecond // and c was stored before it
	clear(r.ends)
	if sequence, err := r.lookUp(t.Context(), "c", window, window); sequence != 0 || err != nil {
		t.Errorf("got %d, %v", sequence, err)
	}
}

// A tail that cannot be read must stop the sender: a record might be stored
// twice.
func TestLookback_directGetFails(t *testing.T) {
	r := newLookbackTest(t)
	r.stream.AllowDirect = false
	if _, err := r.js.UpdateStream(context.Background(), r.stream); err != nil {
		t.Fatal(err)
	}
	old := &record{receivedAt: time.Now().Add(-time.Hour), stream: "ACS"}
	for range 2 { // the second time it must not pass for an empty one
		if _, err := r.find(context.Background(), old, &entry{index: 1, record: old}, time.Hour); err == nil || !strings.Contains(err.Error(), "direct get") {
			t.Errorf("got %v", err)
		}
	}
}

// part is a message of an answer to a batched direct get: its own sequence, the
// one before it in the batch, and how many are pending behind it.
type part struct{ sequence, before, pending int }

func (p part) String() string {
	return fmt.Sprintf("NATS/1.0\r\nNats-Stream: ACS\r\nNats-Subject: acs.x\r\nNats-Time-Stamp: 2026-01-01T00:00:00Z\r\n"+
		"Nats-Sequence: %d\r\nNats-Last-Sequence: %d\r\nNats-Num-Pending: %d\r\nNats-Msg-Id: %c\r\n\r\n", p.sequence, p.before, p.pending, 'a'+p.sequence-1)
}

// What the bridge must not take for the whole tail.
func TestLookback_answerWithHoles(t *testing.T) {
	for _, c := range []struct {
		name    string
		newest  int      // what the leader says is the last message, zero when it says nothing
		answers [][]part // the last message of each is followed by the end of the batch
		known   string
		err     string
	}{
		{"whole", 0, [][]part{{{1, 0, 2}, {2, 1, 1}, {3, 2, 0}}}, "abc", ""},
		{"in two batches", 0, [][]part{{{1, 0, 2}, {2, 1, 1}}, {{3, 0, 0}}}, "abc", ""},
		{"deleted in between", 0, [][]part{{{1, 0, 1}, {3, 1, 0}}}, "ac", ""},
		{"deleted meanwhile", 0, [][]part{{{1, 0, 1}}, nil}, "a", ""},
		{"as the leader says", 3, [][]part{{{1, 0, 2}, {2, 1, 1}, {3, 2, 0}}}, "abc", ""},
		{"of a replica that is behind", 3, [][]part{{{1, 0, 1}, {2, 1, 0}}}, "", "behind"},
		{"of a replica that has nothing", 3, [][]part{nil}, "", "behind"},
		{"lost at the beginning", 0, [][]part{{{2, 1, 1}, {3, 2, 0}}}, "", "sequence 2 came after 0"},
		{"lost in between", 0, [][]part{{{1, 0, 2}, {3, 2, 0}}}, "", "sequence 3 came after 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := natstest.Start(t, func(o *server.Options) { o.JetStream = false })
			nc := s.JetStream().Conn()
			asked := 0
			if _, err := nc.Subscribe("$JS.API.DIRECT.GET.ACS", func(m *nats.Msg) {
				parts := c.answers[asked]
				asked++
				end := "NATS/1.0 204 EOB\r\n\r\n"
				if parts == nil {
					end = "NATS/1.0 404 Message Not Found\r\n\r\n"
				}
				for _, p := range parts {
					respond(nc, m, p.String(), "{}")
				}
				respond(nc, m, end, "")
			}); err != nil {
				t.Fatal(err)
			}
			if _, err := nc.Subscribe("$JS.API.STREAM.INFO.ACS", func(m *nats.Msg) {
				answer := fmt.Sprintf(`{"config":{"name":"ACS"},"state":{"messages":1,"last_seq":%d,"last_ts":%q}}`, c.newest, time.Now().Format(time.RFC3339))
				if c.newest == 0 {
					answer = `{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`
				}
				_ = m.Respond([]byte(answer))
			}); err != nil {
				t.Fatal(err)
			}
			js, err := jetstream.New(nc)
			if err != nil {
				t.Fatal(err)
			}
			r := newLookback(js, "a", "b", "c")
			var known string
			for _, id := range []string{"a", "b", "c"} {
				sequence, err := r.lookUp(t.Context(), id, time.Hour, time.Hour)
				if c.err != "" {
					if err == nil || !strings.Contains(err.Error(), c.err) {
						t.Errorf("got %v, want %s", err, c.err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if sequence > 0 {
					known += id
				}
			}
			if known != c.known {
				t.Errorf("known are %q, want %q", known, c.known)
			}
			if asked != len(c.answers) {
				t.Errorf("%d requests, want %d", asked, len(c.answers))
			}
		})
	}
}

// What another stream has is not what was asked for: a record would count as stored
// that is not.
func TestLookback_answerOfAnotherStream(t *testing.T) {
	nc := natstest.Start(t, func(o *server.Options) { o.JetStream = false }).JetStream().Conn()
	if _, err := nc.Subscribe("$JS.API.DIRECT.GET.ACS", func(m *nats.Msg) {
		respond(nc, m, strings.Replace(part{1, 0, 0}.String(), "Nats-Stream: ACS", "Nats-Stream: OTHER", 1), "{}")
		respond(nc, m, "NATS/1.0 204 EOB\r\n\r\n", "")
	}); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	r := newLookback(js, "a")
	if sequence, err := r.lookUp(t.Context(), "a", time.Hour, time.Hour); !errors.Is(err, errForeign) {
		t.Errorf("lookback: sequence %d, %v, want errForeign", sequence, err)
	}
	if m, err := messageAt(t.Context(), js, "ACS", 1); !errors.Is(err, errForeign) {
		t.Errorf("comparison: %v, %v, want errForeign", m, err)
	}
}

// respond answers with a block of headers as the server writes it.
func respond(nc *nats.Conn, m *nats.Msg, head, body string) {
	headers, err := nats.DecodeHeadersMsg([]byte(head))
	if err != nil {
		panic(err)
	}
	_ = nc.PublishMsg(&nats.Msg{Subject: m.Reply, Header: headers, Data: []byte(body)})
}

// Records overtake those of a call that has many. What waits with the oldest pending
// record is looked for, and a young record does not end the lookback for it.
func TestLookback_overtaking(t *testing.T) {
	r := newLookbackTest(t)
	r.store("a")
	r.store("b")
	var from uint64
	pending := r.pending
	r.pending = func(ctx context.Context, stream string, first uint64) (map[messageID]uint64, error) {
		from = first
		return pending(ctx, stream, first)
	}
	received := func(id string, ago time.Duration) *record {
		return &record{receivedAt: time.Now().Add(-ago), stream: "ACS", headers: []schemas.Header{{Name: schemas.HeaderMsgID, Value: id}}}
	}
	oldest := &entry{index: 7, record: received("a", time.Hour)}
	var before float64
	for _, c := range []struct {
		record *record
		found  bool
		reads  float64
	}{
		{received("b", 50*time.Minute), true, 2},
		{received("x", time.Second), false, 0}, // of another call
		{oldest.record, true, 0},
	} {
		sequence, err := r.find(t.Context(), c.record, oldest, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if found, reads := sequence > 0, r.reads(&before); found != c.found || reads != c.reads {
			t.Errorf("%s: found %v after %v messages, want %v after %v", c.record.msgID(), found, reads, c.found, c.reads)
		}
	}
	if from != 7 {
		t.Errorf("pending from record %d on, want 7", from)
	}
}
