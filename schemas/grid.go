package schemas

// IncomingCall comes when a call rings, for 30 seconds. With its
// incomingCallContext and a key of the resource, any client can answer, redirect or
// reject the call.
type IncomingCall struct {
	// Who is called.
	To *Identifier `json:"to"`
	// Who calls.
	From *Identifier `json:"from"`
	// The caller's name.
	CallerDisplayName string `json:"callerDisplayName" pii:"name"`
	// Headers that came with the call.
	CustomContext *CustomContext `json:"customContext"`
	// What a request to answer the call must show, some 7 to 12 KB. A secret: never log it.
	IncomingCallContext string `json:"incomingCallContext" pii:"secret"`
	// On whose behalf the callee is called.
	OnBehalfOfCallee *Identifier `json:"onBehalfOfCallee"`
	GridCall
}

// CustomContext holds the headers that came with a call.
type CustomContext struct {
	// Headers of SIP: UserToUser, and those that begin with X-MS-Custom-.
	SIPHeaders map[string]string `json:"sipHeaders" pii:"context"`
	// Headers of a caller over VoIP.
	VoIPHeaders map[string]string `json:"voipHeaders" pii:"context"`
}

// CallStarted comes when a call has begun.
type CallStarted struct{ GridMeeting }

// CallEnded comes when a call has ended.
type CallEnded struct {
	GridMeeting
	// Who ended it.
	EndedBy *EndedBy `json:"endedBy"`
	// Why it ended.
	Reason *EndReason `json:"reason"`
	// How long it was, in seconds.
	CallDurationInSeconds float64 `json:"callDurationInSeconds"`
	// The same, as Microsoft's page names it.
	DurationOfCall float64 `json:"durationOfCall"`
}

// CallParticipantAdded comes when a VoIP user has joined a call.
type CallParticipantAdded struct{ GridParticipant }

// CallParticipantRemoved comes when a VoIP user has left a call.
type CallParticipantRemoved struct{ GridParticipant }

// RecordingFileStatusUpdated comes when the files of a recording can be fetched.
// The ids of its call are not in data but in the attribute subject.
type RecordingFileStatusUpdated struct {
	// The recording, as in the callback events.
	RecordingID string `json:"recordingId" pii:"link"`
	// Where the files are kept: ACS, or storage of the customer's own.
	StorageType string `json:"storageType"`
	// Where the files are.
	RecordingStorageInfo *RecordingStorage `json:"recordingStorageInfo"`
	// When the recording began.
	RecordingStartTime Timestamp `json:"recordingStartTime"`
	// How long it is, in milliseconds.
	RecordingDurationMs float64 `json:"recordingDurationMs"`
	// Audio or AudioVideo.
	RecordingContentType string `json:"recordingContentType"`
	// Mixed or Unmixed.
	RecordingChannelType string `json:"recordingChannelType"`
	// Mp4, Mp3 or Wav.
	RecordingFormatType string `json:"recordingFormatType"`
	// Why the recording ended.
	SessionEndReason string `json:"sessionEndReason"`
	GridCall
}

// GridCall holds what ties an event of Event Grid to its call. It has no
// callConnectionId: join it by serverCallId or correlationId.
type GridCall struct {
	// Handle of the call at the server, as in the callback events.
	ServerCallID string `json:"serverCallId" pii:"link"`
	// GUID of the call, as in the callback events.
	CorrelationID string `json:"correlationId" pii:"link"`
}

// IDs returns the ids of the event's call, without a callConnectionId.
func (c GridCall) IDs() CallIDs {
	return CallIDs{ServerCallID: c.ServerCallID, CorrelationID: c.CorrelationID}
}

// GridMeeting says which call an event of Event Grid is about.
type GridMeeting struct {
	// Who began the call.
	StartedBy *GridPerson `json:"startedBy"`
	// The group that the call is of.
	Group *GridGroup `json:"group"`
	// The room that the call is in.
	Room *GridRoom `json:"room"`
	// The call has two parties, not a group.
	IsTwoParty bool `json:"isTwoParty"`
	// The call is one of a room.
	IsRoomsCall bool `json:"isRoomsCall"`
	GridCall
}

// GridParticipant says who joined or left a call.
type GridParticipant struct {
	// Who it was.
	User *GridPerson `json:"user"`
	// The name that was shown.
	DisplayName string `json:"displayName" pii:"name"`
	// The participant's id in the call.
	ParticipantID string `json:"participantId" pii:"identifier"`
	// The participant's software.
	UserAgent string `json:"userAgent" pii:"text"`
	// The same, as Microsoft's page named it in 2021.
	EndpointType string `json:"endpointType" pii:"text"`
	GridMeeting
}

// GridPerson is a participant of a call in an event of Event Grid.
type GridPerson struct {
	// Who it is.
	CommunicationIdentifier *Identifier `json:"communicationIdentifier"`
	// The role in the call.
	Role string `json:"role"`
}

// GridGroup is the group of a call.
type GridGroup struct {
	// The group's id.
	ID string `json:"id" pii:"link"`
}

// GridRoom is the room of a call.
type GridRoom struct {
	// The room's id.
	ID string `json:"id" pii:"link"`
}

// EndedBy is who or what ended a call.
type EndedBy struct {
	// Who it was.
	CommunicationIdentifier *Identifier `json:"communicationIdentifier"`
	// Kind of who or what it was.
	Type string `json:"type"`
	// The name.
	Name string `json:"name" pii:"name"`
}

// EndReason is why a call ended.
type EndReason struct {
	// Class of the reason.
	Code float64 `json:"code"`
	// The reason in detail.
	SubCode float64 `json:"subCode"`
	// Text for people.
	Phrase string `json:"phrase" pii:"text"`
}

// RecordingStorage says where the files of a recording are.
type RecordingStorage struct {
	// The files in their order.
	RecordingChunks []RecordingChunk `json:"recordingChunks"`
}

// RecordingChunk is one file of a recording.
type RecordingChunk struct {
	// The file's id.
	DocumentID string `json:"documentId" pii:"link"`
	// The file's place among the others, from 0.
	Index *int `json:"index"`
	// Why the file ended.
	EndReason string `json:"endReason"`
	// URL of what is known about the file.
	MetadataLocation string `json:"metadataLocation" pii:"link"`
	// URL of the file.
	ContentLocation string `json:"contentLocation" pii:"link"`
	// URL by which the file is deleted.
	DeleteLocation string `json:"deleteLocation" pii:"link"`
}
