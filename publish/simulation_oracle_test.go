package publish_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/internal/fakenats"
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
	for _, l := range w.deadLetters() {
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

// letter is a line of the dead-letter file.
type letter struct {
	Reason, Stream string
	Payload        []byte
}

func (w *world) deadLetters() (list []letter) {
	content, err := os.ReadFile(filepath.Join(w.dir, "dead-letters.ndjson"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Error(err)
	}
	for line := range bytes.Lines(content) {
		var l letter
		if err := json.Unmarshal(line, &l); err != nil {
			w.t.Errorf("dead-letter file: %v in %q", err, line)
		}
		list = append(list, l)
	}
	return list
}
