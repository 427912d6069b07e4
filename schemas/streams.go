package schemas

// RecordingStateChanged comes when a recording has started or stopped. The
// recorder sends it, under a callConnectionId and a source of its own: join it
// to its call by serverCallId or correlationId.
type RecordingStateChanged struct {
	Recording
	// Which recorder it is (API version 2024-04-15).
	RecordingKind RecordingKind `json:"recordingKind"`
	Outcome
}

// StartRecordingFailed comes when a recording could not be started.
type StartRecordingFailed struct {
	// The recording that was asked for.
	RecordingID string `json:"recordingId" pii:"link"`
	Operation
}

// TeamsRecordingStateChanged comes when a recording by Microsoft Teams has
// started or stopped.
type TeamsRecordingStateChanged struct {
	Recording
	Operation
}

// TeamsComplianceRecordingStateChanged comes when a recording that a policy of
// Microsoft Teams demands has started or stopped.
type TeamsComplianceRecordingStateChanged struct {
	Recording
	Operation
}

// Recording says what became of a recording.
type Recording struct {
	// The recording: base64 of JSON that names the recorder.
	RecordingID string `json:"recordingId" pii:"link"`
	// What the recording does now.
	State RecordingState `json:"state"`
	// When it began.
	StartDateTime Timestamp `json:"startDateTime"`
}

// RecordingState is what a recording does, an open set.
type RecordingState string

// Known states of a recording.
const (
	RecordingActive   RecordingState = "active"
	RecordingInactive RecordingState = "inactive"
)

// RecordingKind is a kind of recorder, an open set.
type RecordingKind string

// Known kinds of recorders.
const (
	RecordedByACS             RecordingKind = "azureCommunicationServices"
	RecordedByTeams           RecordingKind = "teams"
	RecordedByTeamsCompliance RecordingKind = "teamsCompliance"
)

// MediaStreamingStarted comes when the media of a call flow to the
// application's WebSocket.
type MediaStreamingStarted struct{ MediaStreaming }

// MediaStreamingStopped comes when the media have ended.
type MediaStreamingStopped struct{ MediaStreaming }

// MediaStreamingFailed comes when the media could not be sent, or no longer.
type MediaStreamingFailed struct{ MediaStreaming }

// MediaStreaming is an [Operation] of media streaming.
type MediaStreaming struct {
	// What became of the stream.
	MediaStreamingUpdate *MediaStreamingUpdate `json:"mediaStreamingUpdate"`
	// The event's source once more: no SDK shows it.
	EventSource string `json:"eventSource" pii:"link"`
	Operation
}

// MediaStreamingUpdate is the state of a media stream.
type MediaStreamingUpdate struct {
	// Kind of media. The service writes Audio where its model says audio.
	ContentType string `json:"contentType"`
	// What happened.
	Status MediaStreamingStatus `json:"mediaStreamingStatus"`
	// Why it happened.
	Details StreamDetails `json:"mediaStreamingStatusDetails"`
}

// MediaStreamingStatus is what happened to a media stream, an open set.
type MediaStreamingStatus string

// Known statuses of a media stream.
const (
	StatusMediaStreamingStarted MediaStreamingStatus = "mediaStreamingStarted"
	StatusMediaStreamingFailed  MediaStreamingStatus = "mediaStreamingFailed"
	StatusMediaStreamingStopped MediaStreamingStatus = "mediaStreamingStopped"
	StatusMediaStreamingUnclear MediaStreamingStatus = "unspecifiedError"
)

// TranscriptionStarted comes when the transcript of a call flows to the
// application's WebSocket.
type TranscriptionStarted struct{ Transcription }

// TranscriptionStopped comes when the transcript has ended.
type TranscriptionStopped struct{ Transcription }

// TranscriptionUpdated comes when the transcript has got another language.
type TranscriptionUpdated struct{ Transcription }

// TranscriptionFailed comes when the transcript could not be made or sent, or no
// longer.
type TranscriptionFailed struct{ Transcription }

// TranscriptionResumed comes when the transcript goes on after a break.
type TranscriptionResumed struct{ Transcription }

// Transcription is an [Operation] of transcription.
type Transcription struct {
	// What became of the transcript.
	TranscriptionUpdate *TranscriptionUpdate `json:"transcriptionUpdate"`
	Operation
}

// TranscriptionUpdate is the state of a transcript.
type TranscriptionUpdate struct {
	// What happened.
	Status TranscriptionStatus `json:"transcriptionStatus"`
	// Why it happened.
	Details StreamDetails `json:"transcriptionStatusDetails"`
}

// TranscriptionStatus is what happened to a transcript, an open set.
type TranscriptionStatus string

// Known statuses of a transcript.
const (
	StatusTranscriptionStarted TranscriptionStatus = "transcriptionStarted"
	StatusTranscriptionFailed  TranscriptionStatus = "transcriptionFailed"
	StatusTranscriptionResumed TranscriptionStatus = "transcriptionResumed"
	StatusTranscriptionUpdated TranscriptionStatus = "transcriptionUpdated"
	StatusTranscriptionStopped TranscriptionStatus = "transcriptionStopped"
	StatusTranscriptionUnclear TranscriptionStatus = "unspecifiedError"
)

// StreamDetails say why something happened to a media stream or a transcript, an
// open set.
type StreamDetails string

// Known details. The last but one is of media streaming alone, the last of
// transcription.
const (
	DetailsSubscriptionStarted        StreamDetails = "subscriptionStarted"
	DetailsConnectionReestablished    StreamDetails = "streamConnectionReestablished"
	DetailsConnectionUnsuccessful     StreamDetails = "streamConnectionUnsuccessful"
	DetailsURLMissing                 StreamDetails = "streamUrlMissing"
	DetailsServiceShutdown            StreamDetails = "serviceShutdown"
	DetailsConnectionInterrupted      StreamDetails = "streamConnectionInterrupted"
	DetailsSpeechConnectionError      StreamDetails = "speechServicesConnectionError"
	DetailsSubscriptionStopped        StreamDetails = "subscriptionStopped"
	DetailsUnspecifiedError           StreamDetails = "unspecifiedError"
	DetailsAuthenticationFailure      StreamDetails = "authenticationFailure"
	DetailsBadRequest                 StreamDetails = "badRequest"
	DetailsTooManyRequests            StreamDetails = "tooManyRequests"
	DetailsForbidden                  StreamDetails = "forbidden"
	DetailsServiceTimeout             StreamDetails = "serviceTimeout"
	DetailsInitialConnectionFailed    StreamDetails = "initialWebSocketConnectionFailed"
	DetailsTranscriptionLocaleUpdated StreamDetails = "transcriptionLocaleUpdated"
)
