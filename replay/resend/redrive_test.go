package resend_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/replay/resend"
	"github.com/acsbridge/acsbridge/schemas"
)

const (
	oneEvent = `{"id":"1","source":"s","type":"Microsoft.Communication.PlayCompleted","specversion":"1.0","data":{"callConnectionId":"c-1"}}`
	another  = `{"id":"2","source":"s","type":"a.b c","time":"2026-03-01T12:00:00Z","specversion":"1.0","data":{"callConnectionId":"*"}}`
)

// quarantined is a callback as the bridge keeps it, which reads well today.
func quarantined() *replay.StoredMessage {
	return &replay.StoredMessage{
		Stream: schemas.QuarantineStream, Sequence: 17, Subject: "acs-quarantine.contoso.not_json", Data: []byte("[" + oneEvent + ",\n" + another + "]"),
		Header: nats.Header{
			schemas.HeaderQuarantineReason: {"not_json"}, schemas.HeaderContentType: {"text/json"}, schemas.HeaderMsgID: {"hash"},
			schemas.HeaderExpectedStream: {schemas.QuarantineStream}, schemas.HeaderResource: {"contoso"},
			schemas.HeaderTokenIssuer: {"iss"}, schemas.HeaderTokenAudience: {"aud"}, schemas.HeaderTokenKeyID: {"kid"},
			schemas.HeaderTokenExpires: {"1772366700"}, schemas.HeaderReceivedAt: {"2026-03-01T12:00:00Z"},
			schemas.HeaderDeliveryID: {"d-1"}, schemas.HeaderQuery: {"q=1"},
		},
	}
}

// letter is a dead letter of one event.
func letter() *replay.StoredMessage {
	m := quarantined()
	m.Stream, m.Subject, m.Data = schemas.Stream, "acs.contoso.PlayCompleted.a.c-1", []byte(oneEvent)
	m.Header.Set(schemas.HeaderExpectedStream, schemas.Stream)
	m.Header.Set(schemas.HeaderMsgID, "s#1")
	m.Header.Del(schemas.HeaderQuarantineReason)
	return m
}

func redrive(s *stream) *resend.Redrive {
	r := &replay.Reader{Stream: schemas.Stream, Prefix: schemas.SubjectPrefix}
	if s != nil {
		r = s.reader()
	}
	return &resend.Redrive{Reader: r, Decode: ingest.Decode}
}

// TestRedriveMessages are what the bridge would have published.
func TestRedriveMessages(t *testing.T) {
	got, err := redrive(nil).Messages(quarantined())
	if err != nil || len(got) != 2 {
		t.Fatalf("%d events, %v", len(got), err)
	}
	common := nats.Header{
		schemas.HeaderContentType: {schemas.ContentTypeEvent}, schemas.HeaderExpectedStream: {schemas.Stream}, schemas.HeaderResource: {"contoso"},
		schemas.HeaderTokenIssuer: {"iss"}, schemas.HeaderTokenAudience: {"aud"}, schemas.HeaderTokenKeyID: {"kid"},
		schemas.HeaderTokenExpires: {"1772366700"}, schemas.HeaderReceivedAt: {"2026-03-01T12:00:00Z"}, schemas.HeaderDeliveryID: {"d-1"},
		schemas.HeaderQuery: {"q=1"}, schemas.HeaderRedrivenFrom: {"ACS_QUARANTINE/17"},
	}
	for i, want := range []struct {
		subject, data string
		header        nats.Header
	}{
		{"acs.contoso.PlayCompleted.a.c-1", oneEvent, nats.Header{
			schemas.HeaderMsgID: {"s#1"}, schemas.HeaderDeliveryIndex: {"0/2"}, schemas.HeaderEventID: {"1"}, schemas.HeaderEventSource: {"s"},
			schemas.HeaderEventType: {"Microsoft.Communication.PlayCompleted"},
		}},
		{schemas.Subject("acs", "contoso", &schemas.Inbound{Type: "a.b c", CallConnectionID: "*"}), another, nats.Header{
			schemas.HeaderMsgID: {"s#2"}, schemas.HeaderDeliveryIndex: {"1/2"}, schemas.HeaderEventID: {"2"}, schemas.HeaderEventSource: {"s"},
			schemas.HeaderEventType: {"a.b c"}, schemas.HeaderEventTime: {"2026-03-01T12:00:00Z"},
		}},
	} {
		for name, values := range common {
			want.header[name] = values
		}
		if diff := cmp.Diff(want.header, got[i].Header); diff != "" || got[i].Subject != want.subject || string(got[i].Data) != want.data {
			t.Errorf("%s %s, headers (-want +got):\n%s", got[i].Subject, got[i].Data, diff)
		}
	}
}

// TestRedriveMessages_truncatedHeaders names the headers of the callback that were cut, and
// those of the event that are too long now.
func TestRedriveMessages_truncatedHeaders(t *testing.T) {
	m := quarantined()
	long := strings.Repeat("s", 600)
	m.Data = []byte(strings.Replace("["+oneEvent+","+another+"]", `"source":"s"`, `"source":"`+long+`"`, 1))
	m.Header.Set(schemas.HeaderTruncated, "acs-query,ce-id")
	got, err := redrive(nil).Messages(m)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"acs-query,ce-source", "acs-query"} {
		if cut := got[i].Header.Get(schemas.HeaderTruncated); cut != want {
			t.Errorf("event %d: %q, want %q", i, cut, want)
		}
	}
}

// TestRedrive_refused breaks each thing that is checked.
func TestRedrive_refused(t *testing.T) {
	set := func(name, value string) func(*replay.StoredMessage) {
		return func(m *replay.StoredMessage) { m.Header.Set(name, value) }
	}
	data := func(text string) func(*replay.StoredMessage) {
		return func(m *replay.StoredMessage) { m.Data = []byte(text) }
	}
	both := []struct {
		name   string
		change func(*replay.StoredMessage)
		want   string
	}{
		{"without claims", set(schemas.HeaderTokenAudience, ""), "header acs-token-aud is missing"},
		{"without an issuer", set(schemas.HeaderTokenIssuer, ""), "header acs-token-iss is missing"},
		{"without a key", set(schemas.HeaderTokenKeyID, ""), "header acs-token-kid is missing"},
		{"without a token", func(m *replay.StoredMessage) {
			for _, name := range []string{schemas.HeaderTokenIssuer, schemas.HeaderTokenAudience, schemas.HeaderTokenKeyID, schemas.HeaderTokenExpires} {
				m.Header.Del(name)
			}
		}, "header acs-token-iss is missing"},
		{"without an id", set(schemas.HeaderDeliveryID, ""), "header acs-delivery-id is missing"},
		{"of another resource", set(schemas.HeaderResource, "fabrikam"), "header acs-resource is not the resource"},
		{"without an end of its token", set(schemas.HeaderTokenExpires, "soon"), "header acs-token-exp is not a date"},
		{"without a time", set(schemas.HeaderReceivedAt, "noon"), "header acs-received-at is not a time"},
		{"late", set(schemas.HeaderReceivedAt, "2026-03-01T12:10:01Z"), "it came after its token had expired"},
		{"no JSON", data("hello"), "not_json"},
		{"twice the same member", data(strings.Replace(oneEvent, `"id":"1"`, `"id":"1","id":"2"`, 1)), "duplicate_member"},
		{"no event", data(`{"id":"1"}`), "not_cloudevents"},
	}
	for _, test := range append(both, []struct {
		name   string
		change func(*replay.StoredMessage)
		want   string
	}{
		{"of another stream", func(m *replay.StoredMessage) { m.Stream = schemas.Stream }, "it is not a callback in quarantine"},
		{"of another subject", func(m *replay.StoredMessage) { m.Subject = "acs-replay.contoso.not_json" }, "it is not a callback in quarantine"},
		{"of another reason", set(schemas.HeaderQuarantineReason, "too_deep"), "it is not a callback in quarantine"},
	}...) {
		m := quarantined()
		test.change(m)
		if got, err := redrive(nil).Messages(m); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("a callback %s: %d events, error %v, want %s", test.name, len(got), err, test.want)
		}
	}
	for _, test := range append(both, []struct {
		name   string
		change func(*replay.StoredMessage)
		want   string
	}{
		{"corrupt", func(m *replay.StoredMessage) { m.Subject = "" }, "its content is lost"},
		{"of another stream", func(m *replay.StoredMessage) { m.Stream = "OTHER" }, "its subject and its headers are not those of a record"},
		{"of another call", func(m *replay.StoredMessage) { m.Subject = "acs.contoso.PlayCompleted.6.c-2" }, "its subject is not that of its event"},
		{"of another type", func(m *replay.StoredMessage) { m.Subject = "other.contoso.PlayFailed.a.c-1" }, "its subject is not that of its event"},
		{"of another id", set(schemas.HeaderMsgID, "s#2"), "its message id is not that of its event"},
		{"of two events", data("[" + oneEvent + "," + oneEvent + "]"), "its subject is not that of its event"},
	}...) {
		m := letter()
		test.change(m)
		if _, err := redrive(nil).Letter(m); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("a letter %s: error %v, want %s", test.name, err, test.want)
		}
	}
}

// TestRedriveLetter_subjectOfAnEarlierVersion: a letter from before there were slots,
// before GUIDs were written in small letters, or from when a recording's subject had no
// call, is published under the subject of today.
func TestRedriveLetter_subjectOfAnEarlierVersion(t *testing.T) {
	const guid = "7c1b1a5e-62f0-4d3b-9c55-0b1b6c8d9e0f"
	m := letter()
	m.Data = []byte(strings.Replace(oneEvent, `"c-1"`, `"`+strings.ToUpper(guid)+`"`, 1))
	want := schemas.WithSlot("acs.contoso.PlayCompleted." + guid)
	for _, subject := range []string{
		want, "acs.contoso.PlayCompleted." + guid, "acs.contoso.PlayCompleted." + strings.ToUpper(guid),
		schemas.WithSlot("acs.contoso.PlayCompleted." + strings.ToUpper(guid)), "acs.contoso.PlayCompleted._", "acs.contoso.PlayCompleted.d._",
	} {
		m.Subject = subject
		if got, err := redrive(nil).Letter(m); err != nil || got.Subject != want {
			t.Errorf("%s: got %v, error %v", subject, got, err)
		}
	}
}

// A letter of other settings goes to the stream and the prefix of today; one for
// quarantine, which both have in common, stays for that.
func TestRedriveLetter_otherSettings(t *testing.T) {
	r := redrive(nil)
	r.Reader.Stream, r.Reader.Prefix = "CALLS", "calls"
	m := letter()
	got, err := r.Letter(m)
	if err != nil || got.Subject != "calls.contoso.PlayCompleted.a.c-1" || got.Header.Get(schemas.HeaderExpectedStream) != "CALLS" {
		t.Errorf("got %+v, %v", got, err)
	}
	if m.Header.Get(schemas.HeaderExpectedStream) != schemas.Stream {
		t.Error("the letter itself was changed")
	}
	m = quarantined()
	got, err = r.Letter(m)
	if err != nil || got.Subject != m.Subject || got.Header.Get(schemas.HeaderExpectedStream) != schemas.QuarantineStream {
		t.Errorf("for quarantine: got %+v, %v", got, err)
	}
	m.Data = []byte("hello")
	if got, err = r.Letter(m); err != nil || string(got.Data) != "hello" {
		t.Errorf("for quarantine: got %+v, %v", got, err)
	}
	m.Subject = "calls.contoso.PlayCompleted.c-1"
	if _, err := r.Letter(m); err == nil {
		t.Error("a letter for quarantine would be published as an event")
	}
	events, err := r.Messages(quarantined())
	if err != nil || events[0].Subject != "calls.contoso.PlayCompleted.a.c-1" || events[0].Header.Get(schemas.HeaderExpectedStream) != "CALLS" {
		t.Errorf("of quarantine: got %+v, %v", events, err)
	}
}

// TestRedriveMessages_eventGrid can have come with a key in the place of a token, and
// is read as what it is.
func TestRedriveMessages_eventGrid(t *testing.T) {
	m := quarantined()
	m.Data = []byte(`[{"id":"1","topic":"t","subject":"s","eventType":"Microsoft.Communication.IncomingCall","eventTime":"2026-03-01T12:00:00Z","data":{"correlationId":"r-1"},"dataVersion":"1.0","metadataVersion":"1"}]`)
	if _, err := redrive(nil).Messages(m); err == nil {
		t.Error("it passes for a callback")
	}
	for _, name := range []string{schemas.HeaderTokenIssuer, schemas.HeaderTokenAudience, schemas.HeaderTokenKeyID, schemas.HeaderTokenExpires} {
		m.Header.Del(name)
	}
	if _, err := redrive(nil).Messages(m); err == nil {
		t.Error("a callback without a token passes")
	}
	m.Header.Set(schemas.HeaderGridSubscription, "calls")
	got, err := redrive(nil).Messages(m)
	if err != nil {
		t.Fatal(err)
	}
	if h := got[0].Header; got[0].Subject != "acs.contoso.IncomingCall.a.r-1" || h.Get(schemas.HeaderContentType) != "application/json" ||
		h.Get(schemas.HeaderExpiresAt) != "2026-03-01T12:00:30Z" || h.Get(schemas.HeaderMsgID) != "t#1" {
		t.Errorf("%s %v", got[0].Subject, h)
	}
	m.Header.Set(schemas.HeaderTokenIssuer, "iss")
	if _, err := redrive(nil).Messages(m); err == nil {
		t.Error("half a token passes")
	}
}

// publishLetter redrives a dead letter.
func (s *stream) publishLetter(m *replay.StoredMessage) error {
	s.t.Helper()
	r := redrive(s)
	out, err := r.Letter(m)
	if err != nil {
		s.t.Fatal(err)
	}
	return r.Publish(s.t.Context(), out)
}

// TestRedrivePublish_otherEvent has an event in the stream under the id of another, in
// the same place and elsewhere.
func TestRedrivePublish_otherEvent(t *testing.T) {
	s := newStream(t)
	if err := s.publishLetter(letter()); err != nil {
		t.Fatal(err)
	}
	other, elsewhere := letter(), letter()
	other.Data = []byte(strings.Replace(oneEvent, `}}`, `,"x":1}}`, 1))
	elsewhere.Data = []byte(strings.Replace(oneEvent, `c-1`, `c-2`, 1))
	elsewhere.Subject = "acs.contoso.PlayCompleted.6.c-2"
	for _, m := range []*replay.StoredMessage{other, elsewhere} {
		if err := s.publishLetter(m); !errors.Is(err, resend.ErrOtherEvent) {
			t.Errorf("%s: error %v", m.Subject, err)
		}
	}
	if n := len(s.server.Messages(schemas.Stream)); n != 1 {
		t.Errorf("%d events", n)
	}
}

// TestRedrivePublish_again stores an event once, also when the stream has forgotten
// its message id.
func TestRedrivePublish_again(t *testing.T) {
	s := newStream(t, func(c *jetstream.StreamConfig) { c.Duplicates = 100 * time.Millisecond })
	if err := s.publishLetter(letter()); err != nil {
		t.Fatal(err)
	}
	forgotten := func() bool { // what came before the probe is, when the probe is
		ack, err := s.js.Publish(t.Context(), "acs.probe", nil, jetstream.WithMsgID("probe"))
		return err == nil && !ack.Duplicate
	}
	if !forgotten() {
		t.Fatal("no probe")
	}
	natstest.Until(t, forgotten)
	if err := s.publishLetter(letter()); err != nil {
		t.Fatal(err)
	}
	other := letter()
	other.Data = []byte(strings.Replace(oneEvent, `}}`, `,"x":1}}`, 1))
	if err := s.publishLetter(other); !errors.Is(err, resend.ErrOtherEvent) {
		t.Errorf("error %v", err)
	}
	var events int
	for _, m := range s.server.Messages(schemas.Stream) {
		if m.Subject != "acs.probe" {
			events++
		}
	}
	if events != 1 {
		t.Errorf("%d events", events)
	}
}
