package publish

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/publish/journal"
	"github.com/acsbridge/acsbridge/schemas"
)

// openLog returns a journal in dir.
func openLog(t *testing.T, dir string, opts journal.Options) *journal.Journal {
	t.Helper()
	j, err := journal.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

// fill appends n records of ten bytes.
func fill(t *testing.T, j *journal.Journal, n int) {
	t.Helper()
	records := make([]journal.Record, n)
	for i := range records {
		records[i].Data = []byte("0123456789")
	}
	if _, err := j.Append(t.Context(), records...); err != nil {
		t.Fatal(err)
	}
}

func TestForwarder_startsAtTheCursor(t *testing.T) {
	ten := openLog(t, t.TempDir(), journal.Options{})
	fill(t, ten, 10)
	rest := openLog(t, t.TempDir(), journal.Options{})
	fill(t, rest, 10)
	if err := rest.Truncate(5); err != nil {
		t.Fatal(err)
	}
	at := func(acked uint64) cursor { return cursor{acked: acked, valid: true} }
	for _, c := range []struct {
		name      string
		journal   *journal.Journal
		cursor    cursor
		keep      time.Duration
		want      uint64
		maybeSent uint64
	}{
		{"no journal yet", openLog(t, t.TempDir(), journal.Options{}), cursor{}, 0, 0, 0},
		{"no cursor: all is sent again", ten, cursor{}, 0, 0, 10},
		{"no cursor, truncated", rest, cursor{}, 0, 5, 10},
		{"no valid cursor", ten, cursor{acked: 7}, 0, 0, 10},
		{"in the middle", ten, at(7), 0, 7, 10},
		{"all acknowledged", ten, at(10), 0, 10, 10},
		{"ahead of the journal", ten, at(11), 0, 0, 10},
		{"just before the first record", rest, at(5), 0, 5, 10},
		{"behind the first record", rest, at(4), 0, 5, 10},
		{"the tail is sent again", rest, at(9), time.Minute, 5, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newForwarder(&forwarder{journal: c.journal, cursor: &c.cursor, keep: c.keep})
			if f.position != c.want || f.maybeSent != c.maybeSent {
				t.Errorf("got %d, maybe sent up to %d; want %d, %d", f.position, f.maybeSent, c.want, c.maybeSent)
			}
		})
	}
}

func TestCursor_readAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cursor")
	c, err := openCursor(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.valid {
		t.Error("an empty file holds a cursor")
	}
	for _, sync := range []bool{true, false} {
		if err := c.save(c.acked+1000, sync); err != nil || !c.valid {
			t.Fatal(err, c.valid)
		}
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	if c, err = openCursor(path); err != nil || !c.valid || c.acked != 2000 {
		t.Fatalf("got %+v, %v", c, err)
	}
	if _, err := c.file.WriteAt([]byte{1}, 3); err != nil { // as a torn write would
		t.Fatal(err)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	if c, err = openCursor(path); err != nil || c.valid || c.acked != 0 {
		t.Errorf("damaged: got %+v, %v", c, err)
	}
	if err := c.close(); err != nil {
		t.Error(err)
	}
}

func TestForwarder_truncate(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name    string
		opts    journal.Options
		records int
		acked   uint64
		last    time.Time
		force   bool
		want    uint64 // the first record that is left
	}{
		{"few and lately", journal.Options{}, 100, 90, now, false, 1},
		{"few, at the end", journal.Options{}, 100, 90, now, true, 91},
		{"few and long ago", journal.Options{}, 100, 90, now.Add(-truncateEvery), false, 91},
		{"many", journal.Options{}, truncateRecords + 10, truncateRecords + 1, now, false, truncateRecords + 2},
		{"one less than many", journal.Options{}, truncateRecords + 10, truncateRecords, now, false, 1},
		{"full", journal.Options{MaxBytes: 1000}, 100, 90, now, false, 91},
		{"nothing acknowledged", journal.Options{}, 100, 0, now, true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := openLog(t, t.TempDir(), c.opts)
			fill(t, j, c.records)
			f := newForwarder(&forwarder{journal: j, cursor: &cursor{acked: c.acked, valid: true}})
			tr := truncation{last: c.last}
			if err := f.truncate(&tr, c.force); err != nil {
				t.Fatal(err)
			}
			if first, _ := j.Bounds(); first != c.want {
				t.Errorf("first record is %d, want %d", first, c.want)
			}
			if truncated := c.want > 1; truncated != !tr.last.Equal(c.last) {
				t.Errorf("truncated %v, last time noted %s", truncated, tr.last)
			}
		})
	}
}

// What lies before a record that cannot be read, and may be later, is stored.
func TestForwarder_storesWhatIsBeforeAnUnreadableRecord(t *testing.T) {
	server := natstest.Start(t)
	js := server.JetStream()
	natstest.CreateStream(t, js, StreamConfig{}.withDefaults().events())
	j := openLog(t, t.TempDir(), journal.Options{})
	const good = 20
	for n := range good {
		r := callRecord("a")
		r.receivedAt, r.payload = time.Now(), []byte("{}")
		r.headers = []schemas.Header{{Name: schemas.HeaderMsgID, Value: strconv.Itoa(n)}, {Name: schemas.HeaderExpectedStream, Value: schemas.Stream}}
		if _, err := j.Append(t.Context(), encodeAll([]*record{r})...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.Append(t.Context(), journal.Record{Data: append([]byte{recordVersion + 1}, make([]byte, fixedSize)...)}); err != nil {
		t.Fatal(err)
	}
	link, err := natsconn.Connect(natsconn.Config{URL: server.URL()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	js, err = link.JetStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	f := newForwarder(&forwarder{
		journal: j, link: link, target: StreamConfig{}.withDefaults().eventTarget(link, logger), cursor: &cursor{},
		logger: logger, metrics: newMetrics(),
	})
	if err := f.send(t.Context(), js); !errors.Is(err, errVersion) {
		t.Errorf("send returned %v", err)
	}
	if acked := f.acked(); acked != good {
		t.Errorf("acknowledged up to %d, want %d", acked, good)
	}
	server.Await(schemas.Stream, good)
}

// A request that is lost with its connection is waited for no longer.
func TestForwarder_prepareEndsWithTheConnection(t *testing.T) {
	server := natstest.Start(t, func(o *server.Options) { o.JetStream = false })
	j, err := journal.Open(t.TempDir(), journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	proxy := natstest.NewProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	link, err := natsconn.Connect(natsconn.Config{URL: proxy.URL()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	js, err := link.JetStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Conn().Subscribe("$JS.API.STREAM.INFO.>", func(*nats.Msg) { proxy.Cut() }); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	f := newForwarder(&forwarder{
		journal: j, link: link, target: StreamConfig{}.withDefaults().eventTarget(link, logger), cursor: &cursor{},
		logger: logger, metrics: newMetrics(),
	})
	if err := f.send(t.Context(), js); !errors.Is(err, nats.ErrDisconnected) {
		t.Errorf("send returned %v", err)
	}
	if strings.Contains(log.String(), "stream cannot be used") {
		t.Errorf("the answer was waited for: %s", &log)
	}
}

// Between the answer to an update and the next look the stream can be deleted.
func TestEnsure_goneAfterItsUpdate(t *testing.T) {
	js := natstest.Start(t, func(o *server.Options) { o.JetStream = false }).JetStream()
	const other = `{"config":{"name":"ACS","subjects":["acs.>"],"max_msgs":5}}`
	looks := 0
	for subject, answer := range map[string]func() string{
		"$JS.API.STREAM.INFO.ACS": func() string {
			if looks++; looks == 1 {
				return other
			}
			return `{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`
		},
		"$JS.API.STREAM.UPDATE.ACS": func() string { return other },
	} {
		if _, err := js.Conn().Subscribe(subject, func(m *nats.Msg) { _ = m.Respond([]byte(answer())) }); err != nil {
			t.Fatal(err)
		}
	}
	_, err := ensure(t.Context(), js, StreamConfig{}.withDefaults().events(), schemas.SubjectPrefix, true)
	if err == nil || !strings.Contains(err.Error(), "10008") || looks != 2 {
		t.Errorf("after %d looks: %v", looks, err)
	}
}
