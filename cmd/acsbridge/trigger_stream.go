package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/running"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// triggerStoredWithin bounds the wait for an event that was answered 200 to be in the
// stream: the bridge answers without waiting for a slow one.
const triggerStoredWithin = 2 * time.Second

// triggerStream looks in the stream of a bridge for the events that are sent to it. A
// nil one knows no stream and prints nothing.
type triggerStream struct {
	reader *replay.Reader
	link   *natsconn.Link

	last    uint64            // sequence of the stream before the callback
	stored  map[string]uint64 // message id → sequence, of the events that were there by then
	expired map[string]uint64 // likewise, of those that the stream no longer recognises
	printed map[uint64]bool
}

// openTriggerStream connects to the stream of a bridge that was found. Where that fails
// the events are sent all the same.
func openTriggerStream(ctx context.Context, std stdio, s *running.State) *triggerStream {
	if s == nil {
		return nil
	}
	settings := config.Reader{Stream: s.Stream, SubjectPrefix: s.SubjectPrefix}
	settings.NatsURL = s.NatsURL
	reader, link, err := settings.Open(ctx, std.err)
	if err != nil {
		fmt.Fprintf(std.err, "acsbridge: what the stream has of the events is not known: %v\n", err)
		return nil
	}
	return &triggerStream{reader: reader, link: link, printed: map[uint64]bool{}}
}

func (t *triggerStream) close() {
	if t != nil {
		t.link.Close()
	}
}

// before notes which events of a callback the stream has.
func (t *triggerStream) before(ctx context.Context, callback *acstest.Callback) {
	if t == nil {
		return
	}
	t.stored, t.expired = map[string]uint64{}, map[string]uint64{}
	info, err := t.reader.Info(ctx)
	if err != nil {
		return
	}
	t.last = info.State.LastSeq
	for i := range callback.Events {
		e := &callback.Events[i]
		id := e.MsgID()
		if m := t.find(ctx, id, replay.Selection{CallToken: lastToken(e, callback.Grid)}); m != nil {
			if time.Since(m.Time) < info.Config.Duplicates {
				t.stored[id] = m.Sequence
			} else {
				t.expired[id] = m.Sequence
			}
		}
	}
}

// print writes where the stream has an event that was answered 200.
func (t *triggerStream) print(ctx context.Context, w io.Writer, e *acstest.WireEvent, grid bool) {
	if t == nil {
		return
	}
	id := e.MsgID()
	sequence, duplicate := t.stored[id]
	if !duplicate {
		ctx, cancel := context.WithTimeout(ctx, triggerStoredWithin)
		defer cancel()
		m := t.find(ctx, id, replay.Selection{CallToken: lastToken(e, grid), Since: replay.Position{Sequence: t.last + 1}, Follow: true})
		switch {
		case m != nil:
			sequence, duplicate = m.Sequence, t.printed[m.Sequence]
		default:
			sequence, duplicate = t.expired[id], true
		}
	}
	t.printed[sequence] = true
	text := fmt.Sprintf("sequence %d", sequence)
	switch {
	case sequence == 0:
		text = "not there yet; the bridge has it"
	case duplicate:
		text += ", a duplicate: it was there already"
	case t.expired[id] > 0:
		text += fmt.Sprintf(", and %d, which is too old to be recognised", t.expired[id])
	}
	fmt.Fprintf(w, "  %-16s  %s\n", "stream "+t.reader.Stream, text)
}

// find returns the last selected message with an id; the first for a selection that
// follows. It returns nil without one.
func (t *triggerStream) find(ctx context.Context, id string, selection replay.Selection) (found *replay.StoredMessage) {
	for m, err := range t.reader.Read(ctx, selection) {
		if err != nil {
			break
		}
		if m.Header.Get(schemas.HeaderMsgID) == id {
			found = m
			if selection.Follow {
				break
			}
		}
	}
	return found
}

// idsOf returns the ids of an event's call.
func idsOf(e *acstest.WireEvent) schemas.CallIDs {
	data, _ := schemas.ParseData(e.Type, e.Data) // data that is not an object has no ids
	return (&schemas.Event{Subject: e.Subject, Data: data}).IDs()
}

// lastToken returns the last token of the subject that an event has in the stream.
func lastToken(e *acstest.WireEvent, grid bool) string {
	switch ids := idsOf(e); {
	case ids.CallConnectionID != "":
		return schemas.CallToken(ids.CallConnectionID)
	case grid && ids.CorrelationID != "":
		return schemas.CallToken(ids.CorrelationID)
	}
	return schemas.NoCall
}
