//go:build linux && faults

package consume_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/directget"
	"github.com/acsbridge/acsbridge/schemas"
)

// states compares the entries in the bucket with what was sent, and the dead letters.
func (w *faultWorld) states() (violations []string) {
	letters := make(map[string]int)
	for _, m := range w.messages(consume.DeadStream("faults")) {
		letters[m.Header.Get(schemas.HeaderDeadMsgID)]++
	}
	entries := make(map[string][]byte)
	for _, m := range w.messages("KV_" + consume.Bucket("faults")) {
		if _, token, ok := strings.Cut(m.Subject, ".call."); ok && len(m.Data) > 0 {
			entries[token] = m.Data
		}
	}
	for id, c := range w.oracle.calls {
		for _, v := range c.checkEntry(entries[schemas.CallToken(id)]) {
			violations = append(violations, fmt.Sprintf("%s: %s\n\t%s", id, v, entries[schemas.CallToken(id)]))
		}
		for _, e := range c.events {
			if got := letters[id+"#"+e.id]; (got > 0) != (e.context == "permanent") && !e.lost {
				violations = append(violations, fmt.Sprintf("%s: event %s (%q) has %d dead letters", id, e.id, e.context, got))
			}
		}
	}
	return violations
}

// messages returns all that a stream has.
func (w *faultWorld) messages(stream string) (list []*jetstream.RawStreamMsg) {
	w.nats.whole(w.js, stream, 0)
	q := directget.Request{Stream: stream, Seq: 1}
	for more := true; more; {
		var err error
		more, err = directget.Get(w.t.Context(), w.js, q, func(m *jetstream.RawStreamMsg) bool {
			list, q.Seq = append(list, m), m.Sequence+1
			return true
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return list
}

// checkEntry compares the entry of a call with its events: the state has each event once,
// in the order of the stream, and a redriven one at any place.
func (c *sentCall) checkEntry(value []byte) (violations []string) {
	bad := func(format string, args ...any) { violations = append(violations, fmt.Sprintf(format, args...)) }
	var entry consume.Entry
	var state tally
	if value != nil {
		if err := json.Unmarshal(value, &entry); err != nil {
			bad("its entry: %v", err)
		}
	}
	if len(entry.State) > 0 { // else no event has changed it
		if err := json.Unmarshal(entry.State, &state); err != nil {
			bad("its state: %v", err)
		}
	}
	newest, count := -1, make(map[string]int)
	for _, id := range state.Events {
		count[id]++
		if i := slices.IndexFunc(c.events, func(e *sentEvent) bool { return e.id == id }); i >= 0 && c.events[i].redrives == 0 {
			if i <= newest {
				bad("the state has event %d behind event %d", i, newest)
			}
			newest = i
		}
	}
	for _, e := range c.events {
		least, most := 1, max(1, e.redrives)
		if e.context == "permanent" && e.redrives == 0 {
			least, most = 0, 0
		} else if e.lost {
			least = 0
		}
		if n := count[e.id]; n < least || n > most {
			bad("the state has event %s %d times, want %d to %d", e.id, n, least, most)
		}
	}
	if expired, known := c.expired(); known && expired != (count[timeoutEvent] == 1) || count[timeoutEvent] > 1 {
		bad("the state has %d timeouts, want one: %v", count[timeoutEvent], expired)
	}
	if len(entry.Queue) > 0 || len(entry.Waits) > 0 {
		bad("something of it is left to do")
	}
	return violations
}

// whole waits until all replicas of a stream are online, and so many writes behind at most.
func (c *cluster) whole(js jetstream.JetStream, name string, lag uint64) {
	c.t.Helper()
	missing := func() string {
		ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
		defer cancel()
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return err.Error()
		}
		current, info := 1, stream.CachedInfo().Cluster
		for i := 0; info != nil && i < len(info.Replicas); i++ {
			if p := info.Replicas[i]; !p.Offline && (p.Current || p.Lag < lag) {
				current++
			}
		}
		if current != len(c.servers) {
			return fmt.Sprintf("%d replicas", current)
		}
		return ""
	}
	deadline := time.Now().Add(time.Minute)
	for why := missing(); why != ""; why = missing() {
		if time.Now().After(deadline) {
			c.t.Fatalf("stream %s is not whole within a minute: %s", name, why)
		}
		<-time.After(20 * time.Millisecond)
	}
}
