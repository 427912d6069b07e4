package publish_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/internal/fakenats"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// check holds the streams against what was promised.
func (w *world) check() {
	at := make(map[*sent]uint64) // sequence of each event that the stream has
	for _, m := range w.server.Messages(schemas.Stream) {
		s, ok := w.history.events[m.Header.Get(schemas.HeaderMsgID)]
		switch {
		case !ok:
			w.t.Errorf("sequence %d: %s %v was not published", m.Sequence, m.Subject, m.Header)
			continue
		case at[s] != 0:
			w.fail(s, "stored twice: as sequences %d and %d", at[s], m.Sequence)
			continue
		}
		at[s] = m.Sequence
		w.checkMessage(s, &m)
	}
	for _, s := range w.history.events {
		if s.durable && at[s] == 0 {
			w.fail(s, "lost: it was answered and is not in the stream")
		}
	}
	w.checkOrder(at)
	w.checkQuarantine()
}

// fail reports what is wrong with an event, and its history.
func (w *world) fail(s *sent, format string, args ...any) {
	w.t.Errorf("%s: "+format+"\n%s", append(append([]any{s.ID}, args...), w.history.of(s.MsgID()))...)
}

// checkMessage holds a stored message against the event.
func (w *world) checkMessage(s *sent, m *fakenats.Message) {
	if !bytes.Equal(m.Data, s.Raw) {
		w.fail(s, "stored with the payload %q, want %q", m.Data, s.Raw)
	}
	if want := schemas.Subject(schemas.SubjectPrefix, "contoso", &s.Inbound); m.Subject != want {
		w.fail(s, "stored on the subject %s, want %s", m.Subject, want)
	}
	d, ok := s.deliveries[m.Header.Get("acs-delivery-id")]
	if !ok {
		w.fail(s, "stored from a delivery that it is not in: %v", m.Header)
		return
	}
	want := map[string]string{
		"Nats-Msg-Id": s.MsgID(), "Nats-Expected-Stream": schemas.Stream, "content-type": schemas.ContentTypeEvent,
		"ce-id": s.ID, "ce-source": s.Source, "ce-type": s.Type, "ce-time": s.Time,
		"acs-resource": "contoso", "acs-delivery-id": d.ID.String(), "acs-path": d.Path,
		"acs-received-at": d.ReceivedAt.UTC().Format(time.RFC3339Nano),
	}
	got := make(map[string]string)
	for name := range m.Header {
		if !strings.HasPrefix(name, "acs-token-") && name != "acs-delivery-index" {
			got[name] = m.Header.Get(name)
		}
	}
	maps.DeleteFunc(want, func(_, value string) bool { return value == "" })
	if diff := cmp.Diff(want, got); diff != "" {
		w.fail(s, "stored with other headers (-want +got):\n%s", diff)
	}
}

// checkOrder holds the events of each call against the order in which they
// were published: those of one callback, and of callbacks that followed one
// another.
func (w *world) checkOrder(at map[*sent]uint64) {
	ordered := func(first, second *sent) {
		if at[first] > at[second] && at[second] != 0 {
			w.fail(second, "is sequence %d, before %s, which is %d\n%s", at[second], first.ID, at[first], w.history.of(first.MsgID()))
		}
	}
	for _, pair := range w.history.pairs {
		if pair[0].call != "" {
			ordered(pair[0], pair[1])
		}
	}
	for _, first := range w.history.events {
		for _, second := range w.history.events {
			if first.call != "" && first.call == second.call && first.ended < second.began {
				ordered(first, second)
			}
		}
	}
}

// checkQuarantine holds quarantined callbacks against the quarantine stream. Such a
// callback may be in the dead-letter file instead, or as well; an event never.
func (w *world) checkQuarantine() {
	stored, dead := make(map[string]int), make(map[string]bool)
	for _, m := range w.server.Messages(schemas.QuarantineStream) {
		stored[string(m.Data)]++
	}
	content, err := os.ReadFile(filepath.Join(w.dir, "dead-letters.ndjson"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Error(err)
	}
	for line := range bytes.Lines(content) {
		var l schemas.DeadLetter
		if err := json.Unmarshal(line, &l); err != nil {
			w.t.Errorf("dead-letter file: %v in %q", err, line)
		}
		if l.Stream != schemas.QuarantineStream {
			w.t.Errorf("an event is in the dead-letter file: %s: %s", l.Reason, l.Payload)
		}
		dead[string(l.Payload)] = true
	}
	for body, durable := range w.history.bodies {
		if n := stored[body]; n > 1 {
			w.t.Errorf("%q is %d times in quarantine", body, n)
		} else if durable && n == 0 && !dead[body] {
			w.t.Errorf("%q was answered and is not in quarantine", body)
		}
		delete(stored, body)
	}
	if len(stored) > 0 {
		w.t.Errorf("in quarantine and not published: %v", stored)
	}
}

// history is what happened in a run, in its order.
type history struct {
	begin time.Time

	mu     sync.Mutex
	steps  int // counts what happens, because much happens in the same instant
	lines  []line
	events map[string]*sent     // by message id
	bodies map[string]bool      // of callbacks for quarantine: whether one was answered
	pairs  [][2]*sent           // neighbours in an answered callback, the second one new
	tried  map[string]time.Time // when a message id, or a body, was first published and perhaps stored
}

// line is something that happened, to a message or to the whole.
type line struct {
	at   time.Duration
	id   string
	text string
}

// sent is an event and what its sender knows of it.
type sent struct {
	schemas.Inbound
	call       string
	deliveries map[string]*publish.Delivery // by id
	began      int                          // step at which it was first published
	ended      int                          // step after which nothing of it can be stored behind later events
	durable    bool                         // a publish was answered
}

func newHistory() *history {
	return &history{begin: time.Now(), events: make(map[string]*sent), bodies: make(map[string]bool), tried: make(map[string]time.Time)}
}

// add notes something and returns its step. The history is locked.
func (h *history) add(id, format string, args ...any) int {
	h.steps++
	h.lines = append(h.lines, line{time.Since(h.begin), id, fmt.Sprintf(format, args...)})
	return h.steps
}

func (h *history) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.add("", format, args...)
}

// trace notes what happens at the server.
func (h *history) trace(r fakenats.Request, what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.MsgID == "" {
		h.add("", "%s: %s %s", r.Client, r.Subject, what)
		return
	}
	h.add(r.MsgID, "from %s: %s", r.Client, what)
}

// Write takes the bridge's log.
func (h *history) Write(b []byte) (int, error) {
	h.note("%s", bytes.TrimSpace(b))
	return len(b), nil
}

// publish notes that events are published, and returns what notes the outcome.
func (h *history) publish(call string, d *publish.Delivery, events []schemas.Inbound) func(outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := time.Now()
	list := make([]*sent, len(events))
	var pairs [][2]*sent
	for i, e := range events {
		step := h.add(e.MsgID(), "published in delivery %s", d.ID)
		s, ok := h.events[e.MsgID()]
		if !ok {
			s = &sent{Inbound: e, call: call, began: step, deliveries: make(map[string]*publish.Delivery)}
			h.events[e.MsgID()] = s
		}
		s.deliveries[d.ID.String()] = d
		list[i] = s
		if _, tried := h.tried[s.MsgID()]; i > 0 && !tried {
			pairs = append(pairs, [2]*sent{list[i-1], s})
		}
	}
	return func(result outcome) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, s := range list {
			step := h.add(s.MsgID(), "%s", result)
			h.try(s.MsgID(), at, result)
			if !s.durable { // a repetition changes nothing for one that is
				s.ended = step
			}
			s.durable = s.durable || result == answered
		}
		if result == answered {
			h.pairs = append(h.pairs, pairs...)
		}
	}
}

// quarantine notes that a callback goes to quarantine.
func (h *history) quarantine(body string) func(outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := time.Now()
	if _, ok := h.bodies[body]; !ok {
		h.bodies[body] = false
	}
	return func(result outcome) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.try(body, at, result)
		h.bodies[body] = h.bodies[body] || result == answered
	}
}

// try notes when something was first published that may be stored by that. The
// history is locked.
func (h *history) try(id string, at time.Time, result outcome) {
	if _, ok := h.tried[id]; !ok && result != failed {
		h.tried[id] = at
	}
}

// firstTry returns when that was, or zero.
func (h *history) firstTry(id string) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tried[id]
}

// of returns everything that happened to an event.
func (h *history) of(id string) string { return h.text("history of "+id, id) }

// faults returns what happened to the whole.
func (h *history) faults() string { return h.text("what happened", "") }

func (h *history) text(title, id string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	fmt.Fprintln(&b, title)
	for _, l := range h.lines {
		if l.id == id {
			fmt.Fprintf(&b, "  %12v %s\n", l.at, l.text)
		}
	}
	return b.String()
}
