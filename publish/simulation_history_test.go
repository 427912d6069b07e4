package publish_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/acsbridge/acsbridge/internal/fakenats"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

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
