package replay

import (
	"bytes"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/acsbridge/acsbridge/schemas"
)

// Masking selects which parts of a message are written masked.
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

// masked replaces personal texts.
const masked = "***"

// callingAddress begins the source of every event of Call Automation.
const callingAddress = "calling/"

// secretMember is the member of an incoming call's data that is a secret.
const secretMember = "incomingCallContext"

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

// kindOf returns the length of the prefix of an identifier that is its kind: "4:+",
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

// AppendMasked appends an event's JSON to dst, on one line and with personal data
// masked: by [schemas.PII], and all texts of members that it does not know, so that a
// member of a later version is not shown by mistake. Numbers and truth values are
// shown. It fails when the event is not JSON.
func AppendMasked(dst, event []byte) ([]byte, error) { return piiMask.Rewrite(dst, event) }

var (
	piiMask    = JSONRewriter{Text: maskPII}
	secretMask = JSONRewriter{Text: maskSecret}
)

// appendMaskedText appends the mask as a JSON string.
func appendMaskedText(dst []byte) []byte { return append(append(append(dst, '"'), masked...), '"') }

func maskSecret(dst, member, text []byte, depth int) []byte {
	if string(member) == secretMember {
		return appendMaskedText(dst)
	}
	return append(dst, text...)
}

// eventDepth is the depth of an event's attributes.
const eventDepth = 1

func maskPII(dst, member, text []byte, depth int) []byte {
	attribute := depth == eventDepth
	switch kind, ok := schemas.PII(string(member), !attribute); {
	case ok && kind == schemas.PIINone, attribute && string(member) == "id":
		return append(dst, text...)
	case attribute || kind == schemas.PIILink && isAddress(text[1:]):
		// Event Grid puts the telephone numbers of caller and callee into the subject.
		if ok && bytes.HasPrefix(text[1:], []byte(callingAddress)) {
			return append(dst, text...)
		}
	case kind == schemas.PIILink:
		return append(dst, text...)
	case kind == schemas.PIIIdentifier:
		if id, err := jsontext.AppendUnquote(nil, text); err == nil {
			dst, _ = jsontext.AppendQuote(dst, MaskID(string(id)))
			return dst
		}
	}
	return appendMaskedText(dst)
}

// isAddress reports whether a text is a URL or the id of an Azure resource, which can
// have names in it.
func isAddress(text []byte) bool {
	return bytes.HasPrefix(text, []byte("/")) || bytes.Contains(text, []byte(":"))
}

// personalHeaders hold the application's own context, and the error of its handler.
var personalHeaders = []string{schemas.HeaderPath, schemas.HeaderQuery, schemas.HeaderDeadError}

// addressHeaders hold the source of the event.
var addressHeaders = []string{schemas.HeaderEventSource, schemas.HeaderMsgID, schemas.HeaderDeadMsgID}

// maskHeader returns the value of a header with what can be personal masked.
func maskHeader(name, value string) string {
	if slices.Contains(personalHeaders, name) ||
		slices.Contains(addressHeaders, name) && strings.Contains(value, "/") && !strings.HasPrefix(value, callingAddress) {
		return masked
	}
	return value
}
