package schemas

import "strings"

// NormalizeID returns an id in the form in which ids are compared: a GUID in
// lower case, any other text as it is. ACS and Azure write the same GUID in
// either case.
func NormalizeID(id string) string {
	if isGUID(id) {
		return strings.ToLower(id)
	}
	return id
}

// CallToken returns the last token of the subjects of a call's events, by
// their id: a callConnectionId, or a correlationId of Event Grid.
func CallToken(id string) string { return Token(NormalizeID(id)) }

// isGUID reports whether s is 32 hex digits in the groups of a GUID.
func isGUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i] | 0x20 // lower case; a digit stays
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if s[i] != '-' {
				return false
			}
		case (c < '0' || c > '9' || s[i] < '0') && (c < 'a' || c > 'f'):
			return false
		}
	}
	return true
}

// IDs returns the ids of the event's call as [NormalizeID] writes them: those
// in its data, and where data lacks one, that in its subject. Ids that the event
// does not have are empty.
func (e *Event) IDs() CallIDs {
	var ids CallIDs
	if e.Data != nil {
		ids = e.Data.IDs()
	}
	subject := SubjectIDs(e.Subject)
	if ids.ServerCallID == "" {
		ids.ServerCallID = subject.ServerCallID
	}
	if ids.CorrelationID == "" {
		ids.CorrelationID = subject.CorrelationID
	}
	return CallIDs{NormalizeID(ids.CallConnectionID), NormalizeID(ids.ServerCallID), NormalizeID(ids.CorrelationID)}
}

// SubjectIDs returns the ids of a call in the subject attribute of an event of
// Event Grid. RecordingFileStatusUpdated has no others. The forms are
//
//	/recording/call/{correlationId}/serverCallId/{serverCallId}/recordingId/{recordingId}
//	call/{serverCallId}/startedBy/{participant}
//
// where everything behind the first id may be missing. A serverCallId and a
// recordingId are base64, and may contain '/' and '='.
// https://learn.microsoft.com/azure/event-grid/communication-services-voice-video-events
func SubjectIDs(subject string) (ids CallIDs) {
	path := strings.TrimPrefix(subject, "/")
	if rest, ok := strings.CutPrefix(path, "recording/call/"); ok {
		rest = before(rest, "/recordingId/")
		ids.CorrelationID, ids.ServerCallID, _ = strings.Cut(rest, "/serverCallId/")
	} else if rest, ok := strings.CutPrefix(path, "call/"); ok {
		ids.ServerCallID = before(before(before(rest, "/startedBy/"), "/endedBy/"), "/participant/")
	}
	return ids
}

// before returns the part before the last separator, or all of s without one.
func before(s, separator string) string {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i]
	}
	return s
}
