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

// answered returns a reader whose requests are answered with the sequences that answer
// returns, of a stream of 20.
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

// TestReader_brokenAnswer asks again when the second answer lacks a message, or
// repeats one.
func TestReader_brokenAnswer(t *testing.T) {
	for _, second := range [][]uint64{{9, 10, 12, 13}, {1}} {
		r := answered(t, func(_ *natstest.Server, request int, from uint64) []uint64 {
			if request == 2 {
				return second
			}
			return through(from, min(from+7, 20))
		})
		if diff := cmp.Diff(through(1, 20), r.read(t, replay.Selection{Limit: 20})); diff != "" || len(r.warned()) > 0 {
			t.Errorf("after %v: warnings %q, sequences (-want +got):\n%s", second, r.warned(), diff)
		}
	}
}

// TestReader_disconnectDuringRequest does not wait for an answer that went to an old
// connection.
func TestReader_disconnectDuringRequest(t *testing.T) {
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
	if !restarted.Load() || strings.Join(r.warned(), "") != "" {
		t.Errorf("warnings %q", r.warned())
	}
}
