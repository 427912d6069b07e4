package replay_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// answered returns a reader and the server that it asks. What it is answered is
// up to the test: the sequences for a request from one on, of a stream of 20.
func answered(t *testing.T, answer func(server *natstest.Server, request int, from uint64) []uint64) *reader {
	t.Helper()
	server := natstest.Start(t, func(o *natsserver.Options) { o.JetStream = false })
	connect := func() *nats.Conn {
		nc, err := nats.Connect(server.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(time.Millisecond), nats.ReconnectBufSize(-1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	nc := connect()
	requests := 0
	if _, err := nc.Subscribe("$JS.API.DIRECT.GET."+schemas.Stream, func(m *nats.Msg) {
		var ask struct{ Seq uint64 }
		if err := json.Unmarshal(m.Data, &ask); err != nil {
			t.Error(err)
		}
		requests++
		for _, sequence := range answer(server, requests, ask.Seq) {
			last := sequence - 1
			if sequence == ask.Seq {
				last = 0
			}
			_ = m.RespondMsg(&nats.Msg{Data: []byte("{}"), Header: nats.Header{
				"Nats-Stream": {schemas.Stream}, "Nats-Subject": {"acs.contoso.X.2.c"}, "Nats-Sequence": {fmt.Sprint(sequence)},
				"Nats-Time-Stamp": {"2026-03-01T10:00:00Z"}, "Nats-Num-Pending": {fmt.Sprint(20 - sequence)}, "Nats-Last-Sequence": {fmt.Sprint(last)},
			}})
		}
		_ = m.RespondMsg(&nats.Msg{Header: nats.Header{"Status": {"204"}, "Description": {"EOB"}}})
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(connect())
	if err != nil {
		t.Fatal(err)
	}
	return newReader(js)
}

// TestAnAnswerThatLacksAMessage is believed as far as it is whole.
func TestAnAnswerThatLacksAMessage(t *testing.T) {
	r := answered(t, func(_ *natstest.Server, request int, from uint64) []uint64 {
		list := through(from, min(from+7, 20))
		if request == 2 {
			return append(list[:2:2], list[3:]...)
		}
		return list
	})
	if diff := cmp.Diff(through(1, 20), r.read(t, replay.Selection{Limit: 20})); diff != "" || len(r.heard()) > 0 {
		t.Errorf("notices %q, sequences (-want +got):\n%s", r.heard(), diff)
	}
}

// TestAnAnswerFromBefore repeats what was read, and is not believed.
func TestAnAnswerFromBefore(t *testing.T) {
	r := answered(t, func(_ *natstest.Server, request int, from uint64) []uint64 {
		if request == 2 {
			return []uint64{1}
		}
		return through(from, min(from+7, 20))
	})
	if diff := cmp.Diff(through(1, 20), r.read(t, replay.Selection{Limit: 20})); diff != "" {
		t.Error(diff)
	}
}

// TestARequestEndsWithItsConnection: nobody waits for an answer that went to a
// connection which is no more.
func TestARequestEndsWithItsConnection(t *testing.T) {
	var restarted atomic.Bool
	r := answered(t, func(server *natstest.Server, request int, from uint64) []uint64 {
		if from == 9 && restarted.CompareAndSwap(false, true) {
			server.Restart()
		}
		return through(from, min(from+7, 20))
	})
	began := time.Now()
	if diff := cmp.Diff(through(1, 20), r.read(t, replay.Selection{Limit: 20})); diff != "" {
		t.Error(diff)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("took %v; an answer is waited for 10 s", took)
	}
	if !restarted.Load() || strings.Join(r.heard(), "") != "" {
		t.Errorf("notices %q", r.heard())
	}
}
