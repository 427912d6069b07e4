package replay_test

import (
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// Ids of a call as ACS writes them.
const (
	connection  = "401f3500-9f1e-4f0a-8a5c-0123456789ab"
	correlation = "9a9b9c9d-0000-4111-8222-333344445555"
	serverCall  = "aHR0cHM6Ly9hcGkuZXhhbXBsZS9j+/Y29udi9GdTZ+aT0xMC02MA=="
	recording   = "eyJQbGF0Zm9ybUVuZHBvaW50SWQ/iJ+1234w=="
)

// put stores an event as it stands.
func (s *stream) put(subject, event string) {
	s.t.Helper()
	m := nats.NewMsg(subject)
	m.Data = []byte(event)
	if _, err := s.js.PublishMsg(s.t.Context(), m); err != nil {
		s.t.Fatal(err)
	}
}

// addRecordingFile stores an event of Event Grid, whose ids stand in its subject.
func (s *stream) addRecordingFile(last string, at time.Duration, data string) {
	s.t.Helper()
	s.stored++
	subject := "/recording/call/" + correlation + "/serverCallId/" + serverCall + "/recordingId/" + recording
	s.put(schemas.WithSlot("acs.contoso.RecordingFileStatusUpdated."+last), fmt.Sprintf(`{"id":"e-%d","source":"/subscriptions/x","subject":%q,
		"type":"Microsoft.Communication.RecordingFileStatusUpdated","specversion":"1.0","time":%q,"data":{%s}}`,
		s.stored, subject, s.began.Add(at).Format(time.RFC3339Nano), data))
}

// addCallWithIDs stores a call of two legs and a recording, between two other calls.
func addCallWithIDs(s *stream) {
	shared := fmt.Sprintf(`"serverCallId":%q,"correlationId":%q`, serverCall, correlation)
	s.add("CallConnected", "before", 0, `"correlationId":"11111111-0000-4111-8222-333344445555"`)
	s.add("CallConnected", connection, 0, shared+well)
	s.add("CallConnected", "leg-2", time.Second, fmt.Sprintf(`"correlationId":%q`, strings.ToUpper(correlation)))
	s.add("RecordingStateChanged", "recorder", 2*time.Second, fmt.Sprintf(`"serverCallId":%q,"recordingId":%q,"state":"active"`, strings.TrimRight(serverCall, "="), recording))
	s.add("CallDisconnected", connection, 3*time.Second, shared+hangup)
	s.add("CallConnected", "after", 4*time.Second, `"serverCallId":"aHR0cHM6Ly9hcGkuZXhhbXBsZS9j+/Y29udi9vdGhlcg=="`)
	s.addRecordingFile(correlation, 5*time.Second, "")
}

// TestStory_byAnyID finds the same story by each id of the call, from a stream, with an
// index and with one that begins too late, and from a capture.
func TestStory_byAnyID(t *testing.T) {
	s := newStream(t)
	addCallWithIDs(s)
	var all []*replay.StoredMessage
	for m, err := range s.reader().Read(t.Context(), replay.Selection{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	indexed, late := s.reader(), s.reader()
	indexed.Index, late.Index = s.index(1), replay.NewIndex(100, time.Now())
	want := []string{"2 A", "3 B", "4 C", "5 A", "7 D"}
	for _, id := range []string{
		connection, strings.ToUpper(connection), " " + connection + "\n", "leg-2", "recorder",
		correlation, strings.ToUpper(correlation),
		serverCall, strings.TrimRight(serverCall, "="), "aHR0cHM6Ly9hcGkuZXhhbXBsZS9j%2B%2FY29udi9GdTZ%2BaT0xMC02MA%3D%3D",
		recording, strings.TrimRight(recording, "="),
	} {
		fromStream, err := s.reader().Story(t.Context(), id, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		fromIndex, err := indexed.Story(t.Context(), id, time.Now())
		if err != nil || fromIndex.Searched.Messages > 0 || fromStream.Searched.Messages < len(all) {
			t.Errorf("%s: %d messages were searched with an index, %d without, %v", id, fromIndex.Searched.Messages, fromStream.Searched.Messages, err)
		}
		fromLate, err := late.Story(t.Context(), id, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		fromCapture, err := replay.CaptureStory(t.Context(), strings.NewReader(capture(t, all...)), id, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for name, story := range map[string]*replay.Story{"stream": fromStream, "index": fromIndex, "late index": fromLate, "capture": fromCapture} {
			var got []string
			for _, step := range story.Steps {
				got = append(got, fmt.Sprint(step.Message.Sequence, " ", step.Leg.Name))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s of the %s (-want +got):\n%s", id, name, diff)
			}
		}
	}
}

// TestStory_longAgo reads back as far as it takes.
func TestStory_longAgo(t *testing.T) {
	s := newStream(t)
	addCallWithIDs(s)
	for _, ago := range []time.Duration{5 * time.Hour, 100 * time.Hour} {
		story, err := s.reader().Story(t.Context(), serverCall, time.Now().Add(ago))
		if err != nil || len(story.Steps) != 5 {
			t.Errorf("%v ago: %+v, %v", ago, story, err)
		}
	}
}

// TestStory_unknownID says where it has looked.
func TestStory_unknownID(t *testing.T) {
	s := newStream(t)
	addCallWithIDs(s)
	for _, id := range []string{"00000000-0000-0000-0000-000000000000", serverCall[:20], recording + "x", "", "_", "*", ">"} {
		story, err := s.reader().Story(t.Context(), id, time.Now())
		if err != nil || len(story.Steps) != 0 {
			t.Errorf("%q: %v, %v", id, story, err)
		}
		searched := story.Searched
		if want := map[bool]int{true: 0, false: 7}[id == ""]; searched.Messages != want || searched.Last.Before(searched.First) {
			t.Errorf("%q: searched %+v, want %d messages", id, searched, want)
		}
	}
}

// TestStory_farFromItsCall finds the file of a recording that is ready long after
// the call, and the call of such a file. The capture has the times of the stream
// that a test cannot wait for.
func TestStory_farFromItsCall(t *testing.T) {
	s := newStream(t)
	addCallWithIDs(s)
	for name, data := range map[string]string{
		"RecordingFileStatusUpdated": fmt.Sprintf(`{"recordingStartTime":%q}`, s.began.Add(2*time.Second).Format(time.RFC3339Nano)),
		"CallEnded":                  fmt.Sprintf(`{"durationOfCall":18000,"correlationId":%q}`, correlation),
	} {
		var all []*replay.StoredMessage
		for m, err := range s.reader().Read(t.Context(), replay.Selection{Until: replay.Position{Sequence: 6}}) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, m)
		}
		late := *all[0]
		late.Sequence, late.Time = 7, s.began.Add(5*time.Hour)
		late.Subject = schemas.WithSlot("acs.contoso." + name + "." + correlation)
		late.Header = nats.Header{}
		late.Data = fmt.Appendf(nil, `{"id":"late","source":"/subscriptions/x","subject":"/recording/call/%s/serverCallId/%s/recordingId/%s","type":"Microsoft.Communication.%s","data":%s}`,
			correlation, serverCall, recording, name, data)
		end := *all[1] // of a leg, found by nothing but its subject
		end.Sequence, end.Time, end.Header = 8, s.began.Add(6*time.Hour), nats.Header{}
		end.Data = fmt.Appendf(nil, `{"id":"end","source":"s","type":"Microsoft.Communication.CallDisconnected","data":{"callConnectionId":%q}}`, connection)
		all = append(all, &late, &end)
		for _, id := range []string{connection, correlation, recording} {
			story, err := replay.CaptureStory(t.Context(), strings.NewReader(capture(t, all...)), id, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if len(story.Steps) != 6 || story.Steps[4].Message.Sequence != 7 {
				t.Errorf("%s, asked for %s: %d steps", name, id, len(story.Steps))
			}
		}
	}
}

// TestStory_capitalsInTheStream: the events of a leg are one leg whatever the case
// of its id, also below subjects of both.
func TestStory_capitalsInTheStream(t *testing.T) {
	s := newStream(t)
	event := func(n int, id string) string {
		return fmt.Sprintf(`{"id":"%d","source":"s","type":"Microsoft.Communication.PlayStarted","time":%q,"data":{"callConnectionId":%q,"correlationId":%q}}`,
			n, s.began.Format(time.RFC3339Nano), id, strings.ToUpper(correlation))
	}
	capitals := strings.ToUpper(connection)
	s.put(schemas.WithSlot("acs.contoso.PlayStarted."+capitals), event(1, capitals))
	s.put(schemas.WithSlot("acs.contoso.PlayStarted."+connection), event(2, connection))
	s.put(schemas.WithSlot("acs.contoso.PlayStarted."+connection), event(3, capitals))
	for _, id := range []string{connection, capitals, correlation, strings.ToUpper(correlation)} {
		story, err := s.reader().Story(t.Context(), id, time.Now())
		if err != nil || len(story.Steps) != 3 || len(story.Legs) != 1 || story.Legs[0].ID != connection {
			t.Errorf("%s: %+v, %v", id, story, err)
		}
	}
	for _, id := range []string{connection, capitals} {
		if got := s.reader().read(t, replay.Selection{Call: id}); cmp.Diff([]uint64{2, 3}, got) != "" {
			t.Errorf("reading by %s: %v", id, got)
		}
	}
	calls, err := s.reader().Calls(t.Context(), replay.Selection{})
	if err != nil || len(calls) != 1 || len(calls[0].Legs) != 1 || calls[0].Events != 3 {
		t.Errorf("calls %+v, %v", calls, err)
	}
}

// TestStory_withoutTimes keeps events whose time is missing, or cannot be, where
// they arrived.
func TestStory_withoutTimes(t *testing.T) {
	s := newStream(t)
	arrived := s.began.Add(-time.Hour).Add(2 * time.Second)
	s.add("CallConnected", connection, -time.Hour, well[1:])
	for i, unusual := range []string{`"time":null,`, ``, `"time":"yesterday",`, `"time":7,`, `"time":"0001-01-01T00:00:00Z",`, `"time":"0001-01-01T00:00:00-08:00",`, `"time":"9999-12-31T23:59:59Z",`} {
		m := nats.NewMsg(schemas.WithSlot("acs.contoso.PlayStarted." + connection))
		m.Header.Set(schemas.HeaderReceivedAt, arrived.Format(time.RFC3339Nano))
		m.Data = fmt.Appendf(nil, `{"id":"odd-%d","source":"s",%s"type":"Microsoft.Communication.PlayStarted","data":{"callConnectionId":%q,"operationContext":"%d"}}`, i, unusual, connection, i)
		if _, err := s.js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	s.add("CallDisconnected", connection, -time.Hour+4*time.Second, well[1:])
	story, err := s.reader().Story(t.Context(), connection, s.began)
	if err != nil || len(story.Steps) != 9 {
		t.Fatalf("%+v, %v", story, err)
	}
	for _, step := range story.Steps[1:8] {
		if !step.At.Equal(arrived) || step.Note != "without a time; placed where it arrived" {
			t.Errorf("%s at %v, note %q", step.Message.Data, step.At, step.Note)
		}
	}
	if first, last := story.First(), story.Last(); last.Sub(first) != 4*time.Second || story.Steps[8].Took != 4*time.Second {
		t.Errorf("from %v to %v", first, last)
	}
	calls, err := s.reader().Calls(t.Context(), replay.Selection{})
	if err != nil || len(calls) != 1 || !calls[0].First().Equal(story.First()) || !calls[0].Last().Equal(story.Last()) {
		t.Errorf("calls %+v, %v", calls, err)
	}
}

// TestStory_messages yields what is selected of a call.
func TestStory_messages(t *testing.T) {
	s := newStream(t)
	addCallWithIDs(s)
	story, err := s.reader().Story(t.Context(), correlation, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		s    replay.Selection
		leg  string
		want []uint64
	}{
		{replay.Selection{}, "", []uint64{2, 3, 4, 5, 7}},
		{replay.Selection{}, "A", []uint64{2, 5}},
		{replay.Selection{}, strings.ToUpper(connection), []uint64{2, 5}},
		{replay.Selection{Types: []string{"CallConnected"}}, "", []uint64{2, 3}},
		{replay.Selection{Limit: 2}, "", []uint64{2, 3}},
		{replay.Selection{Since: replay.Position{Sequence: 4}, Until: replay.Position{Sequence: 5}}, "", []uint64{4, 5}},
		{replay.Selection{Resource: "fabrikam"}, "", nil},
	} {
		got := sequences(t, story.Messages(test.s, story.Leg(test.leg)))
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%+v of leg %q (-want +got):\n%s", test.s, test.leg, diff)
		}
	}
	if leg := story.Leg("none"); leg != nil {
		t.Errorf("leg %+v", leg)
	}
	if c := story.Summary(replay.Selection{Since: replay.Position{Sequence: 4}}); c == nil || c.Events != 3 || len(c.Legs) != 3 {
		t.Errorf("summary %+v", c)
	}
	if c := story.Summary(replay.Selection{Resource: "fabrikam"}); c != nil {
		t.Errorf("summary %+v", c)
	}
}

func sequences(t *testing.T, messages iter.Seq2[*replay.StoredMessage, error]) (list []uint64) {
	t.Helper()
	for m, err := range messages {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, m.Sequence)
	}
	return list
}
