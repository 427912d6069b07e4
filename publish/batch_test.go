package publish

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// part is a message of an answer to a batched direct get: its own sequence, the
// one before it in the batch, and how many are pending behind it.
type part struct{ sequence, before, pending int }

func (p part) String() string {
	return fmt.Sprintf("NATS/1.0\r\nNats-Stream: ACS\r\nNats-Subject: acs.x\r\nNats-Time-Stamp: 2026-01-01T00:00:00Z\r\n"+
		"Nats-Sequence: %d\r\nNats-Last-Sequence: %d\r\nNats-Num-Pending: %d\r\nNats-Msg-Id: %c\r\n\r\n", p.sequence, p.before, p.pending, 'a'+p.sequence-1)
}

// What the bridge must not take for the whole tail.
func TestAnAnswerWithHolesIsNoTail(t *testing.T) {
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
			r := newRecall(js, "a", "b", "c")
			var known string
			for _, id := range []string{"a", "b", "c"} {
				old := &record{receivedAt: time.Now().Add(-time.Hour), stream: "ACS", headers: []schemas.Header{{Name: "Nats-Msg-Id", Value: id}}}
				sequence, err := r.knows(t.Context(), 1, old, time.Hour)
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

// A replica has a message a little later than the leader that answered for it.
func TestComparingWaitsForAReplica(t *testing.T) {
	for _, c := range []struct {
		name   string
		absent int // answers before the message is there
		want   error
	}{
		{"there", 0, errConflict},
		{"there soon", compareAttempts - 1, errConflict},
		{"removed", compareAttempts, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := natstest.Start(t, func(o *server.Options) { o.JetStream = false })
			js := s.JetStream()
			asked := 0
			if _, err := js.Conn().Subscribe("$JS.API.DIRECT.GET.ACS", func(m *nats.Msg) {
				if asked++; asked <= c.absent {
					respond(js.Conn(), m, "NATS/1.0 404 Message Not Found\r\n\r\n", "")
					return
				}
				respond(js.Conn(), m, part{1, 0, 0}.String(), "other")
				respond(js.Conn(), m, "NATS/1.0 204 EOB\r\n\r\n", "")
			}); err != nil {
				t.Fatal(err)
			}
			if err := compare(t.Context(), js, &record{stream: "ACS"}, 1); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
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
