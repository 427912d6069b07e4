package schemas

// CallIDs are the ids that tie an event to others of its call. All are optional
// on the wire.
type CallIDs struct {
	// One leg of the call, as seen by the application: the id to keep state by.
	CallConnectionID string `json:"callConnectionId" pii:"link"`
	// Handle of the call at the server, shared by its legs and its recording: base64, with '/', '+' and '='.
	ServerCallID string `json:"serverCallId" pii:"link"`
	// GUID that the legs and the recording of a call share. It may change during a call.
	CorrelationID string `json:"correlationId" pii:"link"`
}

// IDs returns the ids of the event's call; those that the event lacks are empty.
func (c CallIDs) IDs() CallIDs { return c }

// Outcome holds what every callback event can have: its call, how an operation
// ended, and what the service adds of its own.
type Outcome struct {
	// How the operation ended.
	ResultInformation *ResultInformation `json:"resultInformation"`
	CallIDs
	// Version of the service's event schema, a date: no SDK shows it. Absent before 2024.
	Version string `json:"version"`
	// The event's type once more: no SDK shows it, and it need not be equal.
	PublicEventType string `json:"publicEventType"`
}

func (o *Outcome) outcome() *ResultInformation { return o.ResultInformation }

// Operation is the [Outcome] of something that the application asked for.
type Operation struct {
	// What the application gave with its request, at most 5000 characters: its own, and opaque to the service.
	OperationContext string `json:"operationContext" pii:"context"`
	Outcome
}

func (o *Operation) context() string { return o.OperationContext }

// ResultInformation says how an operation ended.
type ResultInformation struct {
	// Class of the outcome, like a status of HTTP or SIP.
	Code int `json:"code"`
	// The outcome in detail, by Azure's list of troubleshooting codes.
	SubCode int `json:"subCode"`
	// Text for people. It can name a participant.
	Message string `json:"message" pii:"text"`
	// What SIP said (API version 2026-03-12).
	SIPDetails *Diagnostic `json:"sipDetails"`
	// What the telephone network said, by ITU-T Q.850 (API version 2026-03-12).
	Q850Details *Diagnostic `json:"q850Details"`
}

// Diagnostic is a code of the telephone side with its text.
type Diagnostic struct {
	// The protocol's own code.
	Code int `json:"code"`
	// Text for people.
	Message string `json:"message" pii:"text"`
}
