package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/running"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestDemoReader_compare names the events that are missing, and those that are there
// twice. Events of others do not count.
func TestDemoReader_compare(t *testing.T) {
	r := &demoReader{first: map[string]time.Time{"a#1": {}, "b#2": {}, "others#7": {}}, twice: map[string]bool{"b#2": true, "others#7": true}}
	read, errs := r.compare([]string{"a#1", "b#2", "c#3"})
	text := errors.Join(errs...).Error()
	want := "the event b#2 is in the stream twice\nthe event c#3 was answered 200 and is not in the stream"
	if read != 2 || text != want {
		t.Errorf("%d read, %s\nwant 2, %s", read, text, want)
	}

	_, errs = r.compare(strings.Fields(strings.Repeat("x#1 ", 2*maxFaults)))
	if last := errs[len(errs)-1].Error(); len(errs) != maxFaults+1 || last != "and 10 more events" {
		t.Errorf("%d errors, the last %q", len(errs), last)
	}
}

// TestTriggerStream_print has an event that the stream lacks, one that it has, and one
// that it has and no longer recognises.
func TestTriggerStream_print(t *testing.T) {
	server := natstest.Start(t)
	js := server.JetStream()
	config := jetstream.StreamConfig{Name: schemas.Stream, Subjects: []string{"acs.>"}, AllowDirect: true, Duplicates: 10 * time.Minute}
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	event := acstest.WireEvent{ID: "1", Source: "s", Type: "Microsoft.Communication.PlayFailed", Data: []byte(`{"callConnectionId":"c-1"}`)}
	callback := &acstest.Callback{Events: []acstest.WireEvent{event}}
	publish := func() (duplicate bool) {
		m := nats.NewMsg("acs.contoso.PlayFailed." + schemas.Slot("c-1") + ".c-1")
		m.Header.Set(schemas.HeaderMsgID, event.MsgID())
		ack, err := js.PublishMsg(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		return ack.Duplicate
	}
	stream := openTriggerStream(t.Context(), stdio{err: t.Output()}, &running.State{NatsURL: server.URL(), Stream: schemas.Stream, SubjectPrefix: schemas.SubjectPrefix})
	defer stream.close()
	check := func(want string) {
		t.Helper()
		var out bytes.Buffer
		stream.print(t.Context(), &out, &event, false)
		if got := out.String(); got != "  stream ACS        "+want+"\n" {
			t.Errorf("printed %q, want %q", got, want)
		}
	}

	stream.before(t.Context(), callback)
	publish()
	check("sequence 1")
	stream.before(t.Context(), callback)
	publish()
	check("sequence 1, a duplicate: it was there already")

	config.Duplicates = 100 * time.Millisecond
	natstest.Until(t, func() bool {
		config.Duplicates++ // the server may wake with the window before, and then waits for that one
		if _, err := js.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		stream.before(t.Context(), callback)
		return len(stream.expired) == 1 && !publish()
	})
	check("sequence 2, and 1, which is too old to be recognised")
}
