package schemas

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Defaults of the names that people see in NATS.
const (
	// SubjectPrefix is the first token of every event subject.
	SubjectPrefix = "acs"
	// QuarantinePrefix is the first token of every quarantine subject.
	QuarantinePrefix = "acs-quarantine"
	// ReplayPrefix is the first token of the subjects of copies that were sent
	// again, unless another is asked for.
	ReplayPrefix = "acs-replay"
	// Stream holds the events.
	Stream = "ACS"
	// QuarantineStream holds verified callbacks that are no CloudEvents.
	QuarantineStream = "ACS_QUARANTINE"
)

// NoCall is the last token of the subject of an event without a call id.
const NoCall = "_"

// NoResource is the resource in the subject of a delivery of Event Grid that is
// in quarantine and of which nobody knows whose it is.
const NoResource = "_"

const (
	maxToken   = 64 // longest subject token in bytes that is used as it stands
	hashedSize = 16 // bytes of SHA-256 in a hashed token, 32 hex digits
)

// Token returns s as one subject token. What is not [A-Za-z0-9_-]{1,64}
// becomes "h_" and 32 hex digits of its SHA-256: NATS would store a published
// '*' or '>' literally, split at '.', and close the connection on a control
// line of more than 4 KiB.
func Token(s string) string {
	if ValidToken(s) {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "h_" + hex.EncodeToString(sum[:hashedSize])
}

// ValidToken reports whether s can be a subject token as it stands.
func ValidToken(s string) bool {
	if len(s) == 0 || len(s) > maxToken {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// Subject returns the subject of an event:
// prefix.<resource>.<EventType>.<callConnectionId>. An event of Event Grid, where
// a call has no connection yet, has its correlationId in the last place. A GUID
// there is in small letters: filters of NATS are exact. The prefix and the
// resource are configuration and must be valid tokens already; type and ids come
// from outside and are escaped by [Token].
func Subject(prefix, resource string, e *Event) string {
	call := NoCall
	switch {
	case e.CallConnectionID != "":
		call = CallToken(e.CallConnectionID)
	case e.Grid != nil && e.Grid.CorrelationID != "":
		call = CallToken(e.Grid.CorrelationID)
	}
	return strings.Join([]string{prefix, resource, Token(ShortType(e.Type)), call}, ".")
}

// QuarantineSubject returns the subject under which a verified callback that
// is no CloudEvents is kept. Both parts are of the bridge's own making.
func QuarantineSubject(resource, reason string) string {
	return QuarantinePrefix + "." + resource + "." + reason
}
