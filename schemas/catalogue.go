package schemas

import (
	"reflect"
	"strings"
)

// Family groups the types of events.
type Family string

// Families, in the order in which a call meets them.
const (
	Calls        Family = "calls"
	Participants Family = "participants"
	Media        Family = "media"
	Recordings   Family = "recordings"
	Streams      Family = "streams"
	Dialogs      Family = "dialogs"
	Grid         Family = "Event Grid"
)

// Status says how far Microsoft stands by a type.
type Status string

// Statuses of a type. Types of previews have come and gone.
const (
	GA      Status = "ga"
	Preview Status = "preview"
)

// Type is a type of event in the catalogue.
type Type struct {
	Name   string // as in a subject: CallConnected
	Family Family
	Status Status
	// Since is the oldest API version whose SDK knows the type. Empty for types
	// of previews and of Event Grid.
	Since string

	data reflect.Type
}

// CloudEventsType returns the type as events have it:
// Microsoft.Communication.CallConnected.
func (t *Type) CloudEventsType() string { return TypePrefix + t.Name }

// Filter returns the subject filter for events of this type, of all resources
// and calls.
func (t *Type) Filter(prefix string) string {
	return SubjectFilter(prefix, "", t.Name, "")
}

// NewData returns the type's data, empty.
func (t *Type) NewData() Data { return reflect.New(t.data).Interface().(Data) }

// entry makes the catalogue's entry of a data type, named as the Go type is.
func entry[D any](family Family, status Status, since string) Type {
	data := reflect.TypeFor[D]()
	return Type{Name: data.Name(), Family: family, Status: status, Since: since, data: data}
}

// API versions that brought types.
const (
	api2023   = "2023-03-06"
	api2024   = "2024-04-15"
	api2024p  = "2024-11-15-preview"
	api2025   = "2025-06-15"
	api2026   = "2026-03-12"
	noVersion = ""
)

// catalogue has every type whose members are published. Types of previews of
// which only the name is known are not here; they are read as [Unknown].
var catalogue = []Type{
	entry[CallConnected](Calls, GA, api2023),
	entry[CallDisconnected](Calls, GA, api2023),
	entry[CreateCallFailed](Calls, GA, api2024p),
	entry[AnswerFailed](Calls, GA, api2024p),
	entry[ConnectFailed](Calls, GA, api2024p),
	entry[CallTransferAccepted](Calls, GA, api2023),
	entry[CallTransferFailed](Calls, GA, api2023),

	entry[ParticipantsUpdated](Participants, GA, api2023),
	entry[AddParticipantSucceeded](Participants, GA, api2023),
	entry[AddParticipantFailed](Participants, GA, api2023),
	entry[CancelAddParticipantSucceeded](Participants, GA, api2024),
	entry[CancelAddParticipantFailed](Participants, GA, api2024),
	entry[RemoveParticipantSucceeded](Participants, GA, api2023),
	entry[RemoveParticipantFailed](Participants, GA, api2023),
	entry[MoveParticipantSucceeded](Participants, GA, api2026),
	entry[MoveParticipantFailed](Participants, GA, api2026),
	entry[HoldFailed](Participants, GA, api2024p),

	entry[PlayStarted](Media, GA, api2024p),
	entry[PlayCompleted](Media, GA, api2023),
	entry[PlayFailed](Media, GA, api2023),
	entry[PlayCanceled](Media, GA, api2023),
	entry[RecognizeCompleted](Media, GA, api2023),
	entry[RecognizeFailed](Media, GA, api2023),
	entry[RecognizeCanceled](Media, GA, api2023),
	entry[ContinuousDtmfRecognitionToneReceived](Media, GA, api2024),
	entry[ContinuousDtmfRecognitionToneFailed](Media, GA, api2024),
	entry[ContinuousDtmfRecognitionStopped](Media, GA, api2024),
	entry[SendDtmfTonesCompleted](Media, GA, api2024),
	entry[SendDtmfTonesFailed](Media, GA, api2024),

	entry[RecordingStateChanged](Recordings, GA, api2023),
	entry[StartRecordingFailed](Recordings, GA, api2025),
	entry[TeamsRecordingStateChanged](Recordings, Preview, noVersion),
	entry[TeamsComplianceRecordingStateChanged](Recordings, Preview, noVersion),

	entry[MediaStreamingStarted](Streams, GA, api2024p),
	entry[MediaStreamingStopped](Streams, GA, api2024p),
	entry[MediaStreamingFailed](Streams, GA, api2024p),
	entry[TranscriptionStarted](Streams, GA, api2024p),
	entry[TranscriptionStopped](Streams, GA, api2024p),
	entry[TranscriptionUpdated](Streams, GA, api2024p),
	entry[TranscriptionFailed](Streams, GA, api2024p),
	entry[TranscriptionResumed](Streams, Preview, noVersion),

	entry[DialogStarted](Dialogs, Preview, noVersion),
	entry[DialogCompleted](Dialogs, Preview, noVersion),
	entry[DialogFailed](Dialogs, Preview, noVersion),
	entry[DialogConsent](Dialogs, Preview, noVersion),
	entry[DialogLanguageChange](Dialogs, Preview, noVersion),
	entry[DialogSensitivityUpdate](Dialogs, Preview, noVersion),
	entry[DialogUpdated](Dialogs, Preview, noVersion),
	entry[DialogTransfer](Dialogs, Preview, noVersion),
	entry[DialogHangup](Dialogs, Preview, noVersion),

	entry[IncomingCall](Grid, GA, noVersion),
	entry[CallStarted](Grid, GA, noVersion),
	entry[CallEnded](Grid, GA, noVersion),
	entry[CallParticipantAdded](Grid, GA, noVersion),
	entry[CallParticipantRemoved](Grid, GA, noVersion),
	entry[RecordingFileStatusUpdated](Grid, GA, noVersion),
}

var byName = func() map[string]*Type {
	types := make(map[string]*Type, len(catalogue))
	for i := range catalogue {
		types[catalogue[i].Name] = &catalogue[i]
	}
	return types
}()

// Types returns the catalogue, family by family.
func Types() []Type { return append([]Type(nil), catalogue...) }

// LookupType returns the type of a name, CallConnected or
// Microsoft.Communication.CallConnected. Not ok when the catalogue lacks it,
// which does not make it wrong: types are an open set.
func LookupType(name string) (t Type, ok bool) {
	known := byName[strings.TrimPrefix(name, TypePrefix)]
	if known == nil {
		return Type{}, false
	}
	return *known, true
}
