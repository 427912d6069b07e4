package replay

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/acsbridge/acsbridge/schemas"
)

// Masking says which parts of a message are written masked.
type Masking int

const (
	// MaskPII masks everything that can be personal.
	MaskPII Masking = iota
	// MaskSecrets masks the secret of an incoming call only: with it and a key of the
	// resource a client can answer the call.
	MaskSecrets
	// Unmasked writes a message as it is.
	Unmasked
)

// masked replaces what is not shown.
const masked = "***"

// plainMembers are the members of an event's data whose text is shown: ids of
// calls and operations, and words of closed sets. Whatever else is text is
// masked, so that a member of a later version is not shown by mistake. Numbers
// and truth values are shown.
var plainMembers = set(
	"callConnectionId", "serverCallId", "correlationId", "invitationId", "dialogId", "recordingId",
	"version", "publicEventType", "type", "kind", "cloud", "state", "recordingKind", "startDateTime",
	"recognitionType", "contentType", "dialogInputType", "mediaStreamingStatus", "mediaStreamingStatusDetails",
	"transcriptionStatus", "transcriptionStatusDetails",
)

// plainAttributes are the attributes of an event that are shown. Those of
// addresses are shown when they are of the calling service: Event Grid puts the
// telephone numbers of caller and callee into the subject.
var (
	plainAttributes = set("id", "type", "specversion", "time", "datacontenttype", "dataschema",
		"eventType", "eventTime", "dataVersion", "metadataVersion") // Event Grid's own schema
	addressAttributes = set("source", "subject", "eventSource")
)

// secretMember is the member of an incoming call's data that is a secret.
const secretMember = "incomingCallContext"

// callingAddress begins the source of every event of Call Automation.
const callingAddress = "calling/"

// identifiers are the members that name a person or a telephone: what kind it
// is, and the end of it, are shown.
var identifiers = set("rawId", "id", "value", "userId", "assertedId")

func set(names ...string) map[string]bool {
	s := make(map[string]bool, len(names))
	for _, name := range names {
		s[name] = true
	}
	return s
}

// MaskID returns an identifier of a person or a telephone with its kind and its
// last two characters, enough to tell the participants of a call apart:
// "4:+***67" for "4:+15551234567", "8:acs:***3f" for a user.
func MaskID(id string) string {
	kind := kindOf(id)
	rest := id[kind:]
	end := ""
	if n := len(rest); n >= 7 && schemas.ValidToken(rest[n-2:]) {
		end = rest[n-2:]
	}
	return id[:kind] + masked + end
}

// kindOf returns how many bytes of an identifier say of what kind it is: "4:+",
// "8:acs:", "+".
func kindOf(id string) int {
	kind := 0
	for range 2 {
		word := strings.TrimLeft(id[kind:], "abcdefghijklmnopqrstuvwxyz0123456789")
		if length := len(id) - kind - len(word); length == 0 || length > 8 || !strings.HasPrefix(word, ":") {
			break
		}
		kind = len(id) - len(word) + 1
	}
	if strings.HasPrefix(id[kind:], "+") {
		kind++
	}
	return kind
}

// AppendMasked appends an event's JSON to dst, on one line and with what can be
// personal masked: every text that is not known to be impersonal. It fails when
// the event is not JSON.
func AppendMasked(dst, event []byte) ([]byte, error) { return appendMasked(dst, event, MaskPII) }

func appendMasked(dst, event []byte, masking Masking) ([]byte, error) {
	if !json.Valid(event) {
		return dst, errNoJSON
	}
	var levels [8][]byte
	m := masker{src: event, members: levels[:1], masking: masking}
	for m.at < len(m.src) {
		switch m.src[m.at] {
		case '"':
			dst = m.text(dst)
			continue
		case '{', '[':
			m.members = append(m.members, m.members[len(m.members)-1])
		case '}', ']':
			m.members = m.members[:len(m.members)-1]
		case ' ', '\t', '\r', '\n':
			m.at++
			continue
		}
		dst = append(dst, m.src[m.at])
		m.at++
	}
	return dst, nil
}

var errNoJSON = errors.New("the payload is not JSON")

// masker walks through valid JSON.
type masker struct {
	src     []byte
	at      int
	members [][]byte // the member that each level is in; an array is in its own
	masking Masking
}

// text appends a string, which is a member's name or a value.
func (m *masker) text(dst []byte) []byte {
	begin, end := m.at, m.at+1
	for m.src[end] != '"' {
		if m.src[end] == '\\' {
			end++
		}
		end++
	}
	m.at = end + 1
	text := m.src[begin:m.at]
	if rest := bytes.TrimLeft(m.src[m.at:], " \t\r\n"); len(rest) > 0 && rest[0] == ':' {
		m.members[len(m.members)-1] = text[1 : len(text)-1]
		return append(dst, text...)
	}
	member := m.members[len(m.members)-1]
	attribute := len(m.members) == 2
	switch {
	case m.masking == MaskSecrets && string(member) != secretMember:
		return append(dst, text...)
	case attribute && plainAttributes[string(member)], !attribute && plainMembers[string(member)]:
		return append(dst, text...)
	case addressAttributes[string(member)] && bytes.HasPrefix(text[1:], []byte(callingAddress)):
		return append(dst, text...)
	case !attribute && identifiers[string(member)]:
		if id, err := jsontext.AppendUnquote(nil, text); err == nil {
			dst, _ = jsontext.AppendQuote(dst, MaskID(string(id)))
			return dst
		}
	}
	return append(append(append(dst, '"'), masked...), '"')
}

// personalHeaders hold the application's own context.
var personalHeaders = []string{schemas.HeaderPath, schemas.HeaderQuery}

// addressHeaders hold the source of the event.
var addressHeaders = []string{schemas.HeaderEventSource, schemas.HeaderMsgID}

// maskHeader returns the value of a header with what can be personal masked.
func maskHeader(name, value string) string {
	if slices.Contains(personalHeaders, name) ||
		slices.Contains(addressHeaders, name) && strings.Contains(value, "/") && !strings.HasPrefix(value, callingAddress) {
		return masked
	}
	return value
}
