package schemas

import (
	"cmp"
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
	// DeadPrefix is the first token of the subjects of a service's dead letters; then come
	// the service and the tokens of the event's subject behind its prefix.
	DeadPrefix = "acs-dead"
	// Stream holds the events.
	Stream = "ACS"
	// QuarantineStream holds verified callbacks that cannot be events.
	QuarantineStream = "ACS_QUARANTINE"
)

// NoCall is the last token of the subject of an event without a call id.
const NoCall = "_"

// NoResource is the resource in the subject of a quarantined delivery of Event Grid
// whose resource is unknown.
const NoResource = "_"

const (
	maxToken   = 64 // longest subject token in bytes that is used unhashed
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

// ValidToken reports whether s can be a subject token unhashed.
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
// prefix.<resource>.<EventType>.<slot>.<callConnectionId>. An event of Event Grid,
// where a call has no connection yet, has its correlationId in the last place. A
// GUID there is in lower case: filters of NATS are exact. The prefix and the
// resource are configuration and must be valid tokens already; type and ids come
// from outside and are escaped by [Token].
func Subject(prefix, resource string, e *Inbound) string {
	call := NoCall
	switch {
	case e.CallConnectionID != "":
		call = CallToken(e.CallConnectionID)
	case e.Grid != nil && e.Grid.CorrelationID != "":
		call = CallToken(e.Grid.CorrelationID)
	}
	return strings.Join([]string{prefix, resource, Token(ShortType(e.Type)), Slot(call), call}, ".")
}

// Slot returns the slot of the events whose subjects end with a token: the first
// hex digit of its SHA-256. All events of a call have one slot, so that a filter on
// it, such as acs.*.*.7.*, is a sixteenth of all calls in their order.
func Slot(lastToken string) string {
	sum := sha256.Sum256([]byte(lastToken))
	return hex.EncodeToString(sum[:1])[:1]
}

// SubjectParts are the tokens of an event's subject behind its prefix.
type SubjectParts struct {
	Resource string
	Type     string // last part of the CloudEvents type, see [ShortType]
	Slot     string // empty in a subject of the form before there were slots
	Call     string // from [CallToken], or [NoCall]
}

// ParseSubject reads the subject of an event, whose prefix is one token. It also
// reads the form that subjects had before there were slots:
// prefix.<resource>.<EventType>.<callConnectionId>. Any other subject is not ok.
func ParseSubject(subject string) (parts SubjectParts, ok bool) {
	switch tokens := strings.Split(subject, "."); {
	case len(tokens) == 4:
		return SubjectParts{Resource: tokens[1], Type: tokens[2], Call: tokens[3]}, true
	case len(tokens) == 5 && tokens[3] == Slot(tokens[4]):
		return SubjectParts{tokens[1], tokens[2], tokens[3], tokens[4]}, true
	}
	return SubjectParts{}, false
}

// WithSlot returns the subject of an event with its slot, which the subjects of
// earlier records and captures lack. Any other subject is returned as it is.
func WithSlot(subject string) string {
	if strings.Count(subject, ".") != 3 {
		return subject
	}
	last := strings.LastIndexByte(subject, '.') + 1
	return subject[:last] + Slot(subject[last:]) + "." + subject[last:]
}

// SubjectFilter returns the filter for the events of a resource, a type and a call,
// each as in subjects. An empty one is any.
func SubjectFilter(prefix, resource, shortType, call string) string {
	slot := "*"
	if call != "" {
		slot = Slot(call)
	}
	return strings.Join([]string{prefix, cmp.Or(resource, "*"), cmp.Or(shortType, "*"), slot, cmp.Or(call, "*")}, ".")
}

// QuarantineSubject returns the subject under which a verified callback that
// cannot be an event is kept. The bridge makes both parts.
func QuarantineSubject(resource, reason string) string {
	return QuarantinePrefix + "." + resource + "." + reason
}
