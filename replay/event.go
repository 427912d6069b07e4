package replay

import (
	"cmp"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/schemas"
)

// StoredEvent is the event in a message. Everything in it comes from outside.
type StoredEvent struct {
	schemas.Event

	Type     string // the last part of it: CallConnected
	Resource string // as in the subject
	// Call is the callConnectionId. Without one it is the last token of the subject, or
	// the correlationId: that of an event of Event Grid. Without any of them it is
	// [schemas.NoCall].
	Call   string
	IDs    schemas.CallIDs // as [schemas.NormalizeID] writes them
	Made   time.Time       // when ACS made it; zero without a credible time
	People []string        // identifiers of the participants it names, a caller before a callee: personal data
}

// Event reads the payload: a CloudEvent, or an event in Event Grid's own schema,
// whose attributes are in the headers. It fails for anything else.
func (m *StoredMessage) Event() (*StoredEvent, error) {
	e := &StoredEvent{}
	if parsed, err := schemas.Parse(m.Header, m.Data); err == nil {
		e.Event = parsed.Event
	} else if parsed, err := schemas.ParseEvent(m.Data); err == nil { // headers that are not the bridge's
		e.Event = *parsed
	} else {
		return nil, err
	}
	attribute := func(have, header string) string {
		value, err := url.PathUnescape(m.Header.Get(header))
		if have != "" || err != nil {
			return have
		}
		return value
	}
	e.ID = attribute(e.ID, schemas.HeaderEventID)
	e.Source = attribute(e.Source, schemas.HeaderEventSource)
	e.Event.Type = attribute(e.Event.Type, schemas.HeaderEventType)
	e.Time = schemas.Timestamp(attribute(string(e.Time), schemas.HeaderEventTime))
	if e.ID == "" || e.Event.Type == "" {
		return nil, errors.New("the payload is not an event")
	}
	e.Type = schemas.ShortType(e.Event.Type)
	e.IDs = e.Event.IDs()
	e.Call = e.IDs.CallConnectionID
	if subject, ok := schemas.ParseSubject(m.Subject); ok {
		e.Resource = subject.Resource
		if e.Call == "" {
			e.Call = schemas.NormalizeID(subject.Call)
		}
		if e.Call == schemas.NoCall {
			e.Call = cmp.Or(e.IDs.CorrelationID, schemas.NoCall)
		}
	}
	made, err := e.Time.Time()
	if arrived := m.ReceivedAt(); err == nil && made.After(firstCall) && (arrived.IsZero() || made.Before(arrived.Add(maxAhead))) {
		e.Made = made
	}
	for _, one := range e.people() {
		if id := IdentifierOf(one); id != "" {
			e.People = append(e.People, id)
		}
	}
	return e, nil
}

// A time that is not between these was not written by a clock: languages write the
// year 1 or 9999 for a time that was never set.
var firstCall = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

const maxAhead = 24 * time.Hour // after the arrival, of a clock that is off

// keys are the ids by which an event belongs to its call, in the form of [key].
func (e *StoredEvent) keys() []string {
	_, recording, _ := strings.Cut(e.Subject, "/recordingId/") // of an event about its file
	switch d := e.Data.(type) {
	case *schemas.RecordingFileStatusUpdated:
		recording = cmp.Or(d.RecordingID, recording)
	case *schemas.RecordingStateChanged:
		recording = d.RecordingID
	case *schemas.TeamsRecordingStateChanged:
		recording = d.RecordingID
	case *schemas.TeamsComplianceRecordingStateChanged:
		recording = d.RecordingID
	case *schemas.StartRecordingFailed:
		recording = d.RecordingID
	}
	var keys []string
	for _, id := range []string{e.Call, e.IDs.ServerCallID, e.IDs.CorrelationID, recording} {
		if id != "" && id != schemas.NoCall {
			keys = append(keys, key(id))
		}
	}
	return keys
}

// key is the form in which ids are compared. The base64 of serverCallId and
// recordingId comes with its padding and without.
func key(id string) string { return strings.TrimRight(schemas.NormalizeID(id), "=") }

// people returns the participants that the event names.
func (e *StoredEvent) people() (list []*schemas.Identifier) {
	switch d := e.Data.(type) {
	case *schemas.ParticipantsUpdated:
		for i := range d.Participants {
			list = append(list, d.Participants[i].Identifier)
		}
	case *schemas.AddParticipantSucceeded:
		list = append(list, d.Participant)
	case *schemas.AddParticipantFailed:
		list = append(list, d.Participant)
	case *schemas.RemoveParticipantSucceeded:
		list = append(list, d.Participant)
	case *schemas.RemoveParticipantFailed:
		list = append(list, d.Participant)
	case *schemas.MoveParticipantSucceeded:
		list = append(list, d.Participant)
	case *schemas.MoveParticipantFailed:
		list = append(list, d.Participant)
	case *schemas.CallTransferAccepted:
		list = append(list, d.Transferee, d.TransferTarget)
	case *schemas.IncomingCall:
		list = append(list, d.From, d.To, d.OnBehalfOfCallee)
	case *schemas.CallStarted:
		list = append(list, person(d.StartedBy))
	case *schemas.CallEnded:
		list = append(list, person(d.StartedBy))
		if d.EndedBy != nil {
			list = append(list, d.EndedBy.CommunicationIdentifier)
		}
	case *schemas.CallParticipantAdded:
		list = append(list, person(d.User))
	case *schemas.CallParticipantRemoved:
		list = append(list, person(d.User))
	}
	return list
}

func person(p *schemas.GridPerson) *schemas.Identifier {
	if p == nil {
		return nil
	}
	return p.CommunicationIdentifier
}

// IdentifierOf returns an identifier as one text, personal data, or "" when there is none. API
// versions of 2022 have no rawId.
func IdentifierOf(i *schemas.Identifier) string {
	switch {
	case i == nil:
		return ""
	case i.RawID != "":
		return i.RawID
	case i.CommunicationUser != nil:
		return i.CommunicationUser.ID
	case i.PhoneNumber != nil:
		return i.PhoneNumber.Value
	case i.MicrosoftTeamsUser != nil:
		return i.MicrosoftTeamsUser.UserID
	case i.MicrosoftTeamsApp != nil:
		return i.MicrosoftTeamsApp.AppID
	case i.TeamsExtensionUser != nil:
		return i.TeamsExtensionUser.UserID
	}
	return ""
}

// Failed reports whether an operation failed: by the name of the event, or by the
// code of its result, which is an error in HTTP and in SIP. An invitation that was
// withdrawn has such a code (487), and has not failed.
func (e *StoredEvent) Failed() bool {
	switch {
	case strings.HasSuffix(e.Type, "Failed"):
		return true
	case strings.HasSuffix(e.Type, "Succeeded"), strings.HasSuffix(e.Type, "Canceled"):
		return false
	}
	result := e.Result()
	return result != nil && result.Code >= 400
}

// StoredMessage is one message as the stream holds it.
type StoredMessage struct {
	Stream   string
	Sequence uint64
	Time     time.Time // when the stream stored it
	Subject  string
	Header   nats.Header // as it was published
	Data     []byte      // as it was published
}

// CallToken returns the token of the call in the subject, or "" for none.
func (m *StoredMessage) CallToken() string {
	call := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	if call == schemas.NoCall {
		return ""
	}
	return call
}

// ReceivedAt returns when the bridge received the callback; the stream may have
// stored it much later, after an outage.
func (m *StoredMessage) ReceivedAt() time.Time {
	if at, err := time.Parse(time.RFC3339Nano, m.Header.Get(schemas.HeaderReceivedAt)); err == nil {
		return at
	}
	return m.Time
}

// EventGrid reports whether Event Grid has delivered the event, and not ACS by a
// callback.
func (m *StoredMessage) EventGrid() bool {
	name := m.Header.Get(schemas.HeaderEventType)
	if name == "" {
		subject, _ := schemas.ParseSubject(m.Subject)
		name = subject.Type
	}
	known, ok := schemas.LookupType(name)
	return ok && known.Family == schemas.Grid || m.Header.Get(schemas.HeaderGridSubscription) != ""
}

// Truncated returns the names of the headers that were cut at their bound.
func (m *StoredMessage) Truncated() []string {
	return strings.FieldsFunc(m.Header.Get(schemas.HeaderTruncated), func(r rune) bool { return r == ',' || r == ' ' })
}

// TruncatedURL reports whether path or query of the original callback URL were cut
// at their bounds.
func (m *StoredMessage) TruncatedURL() bool {
	return slices.ContainsFunc(m.Truncated(), func(name string) bool { return slices.Contains(personalHeaders, name) })
}
