package verify

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// Bounds of a token. They hold before anything is decoded: header and claims are
// read before the signature is checked, so any client can cause this work.
const (
	maxToken         = 8 << 10 // an ACS token has about 1 KiB
	maxHeaderSegment = 2 << 10 // alg, kid, typ and perhaps x5t: 200 bytes
	maxMembers       = 64      // of a JSON object: duplicates are looked for pair by pair
	maxKeyID         = 256     // a kid is a thumbprint or a GUID: 43 bytes
)

// algorithm is the only one that ACS signs with. It is fixed here and never
// taken from a token (RFC 8725, section 3.1).
const algorithm = "RS256"

// forbiddenMembers are header members that ask for more than an RS256 check:
// critical extensions and unencoded payloads (RFC 7515 section 4.1.11, RFC
// 7797), keys that the token brings along (RFC 7515, sections 4.1.2–4.1.6; RFC
// 8725, section 3.10), compression and the parameters of encryption (RFC 7516,
// RFC 7518 section 4). golang-jwt ignores all of them. Case does not count.
var forbiddenMembers = []string{
	"crit", "b64",
	"jku", "jwk", "x5u", "x5c",
	"zip", "enc", "epk", "apu", "apv", "iv", "tag", "p2s", "p2c",
}

// foreignTypes are the values of typ that name another kind of token (RFC 8725,
// section 3.11). Any other typ passes: which one ACS writes is not documented, and a
// refusal must be certain. That includes at+jwt (RFC 9068): a callback's token is a
// bearer token, as those of Entra ID are. Issuer, audience and lifetime decide.
var foreignTypes = []string{
	"dpop+jwt",                // RFC 9449, section 4.2
	"kb+jwt",                  // RFC 9901, section 4.3
	"logout+jwt",              // OpenID Connect Back-Channel Logout 1.0, section 2.4
	"oauth-authz-req+jwt",     // RFC 9101, section 10.8
	"passport",                // RFC 8225, section 4.1
	"secevent+jwt",            // RFC 8417, section 2.3
	"token-introspection+jwt", // RFC 9701, section 5
}

// knownMembers are header members that are expected. Other services of the same
// platform send "cty":"JWT".
var knownMembers = []string{"alg", "kid", "typ", "cty", "x5t", "x5t#S256"}

// header is what is kept of a token's header.
type header struct {
	segment string // a copy, so that a kept header does not keep its token
	kid     string
	unknown int // members that this version does not know
}

// parts are the segments of a token, and what its signature covers (RFC 7515,
// section 2): all before the last dot.
type parts struct{ header, payload, signature, signed string }

// split cuts a token into three non-empty segments of the base64url alphabet
// (RFC 7515, section 2), within the bounds. The alphabet is checked here because
// Go's decoders skip CR and LF anywhere.
func split(token string) (p parts, err error) {
	if token == "" {
		return parts{}, refuse(MissingToken, "the token is empty")
	}
	if len(token) > maxToken {
		return parts{}, refuse(MalformedToken, "the token is longer than 8 KiB")
	}
	dots, start := 0, 0
	for i := range len(token) {
		c := token[i]
		if inAlphabet[c] {
			continue
		}
		if c != '.' || i == start {
			return parts{}, refuse(MalformedToken, notThreeSegments)
		}
		switch dots {
		case 0:
			p.header = token[:i]
		case 1:
			p.payload, p.signed = token[start:i], token[:i]
		}
		dots, start = dots+1, i+1
	}
	p.signature = token[start:]
	if dots != 2 || p.signature == "" {
		return parts{}, refuse(MalformedToken, notThreeSegments)
	}
	if len(p.header) > maxHeaderSegment {
		return parts{}, refuse(MalformedToken, "the header is longer than 2 KiB")
	}
	return p, nil
}

const notThreeSegments = "not three segments of base64url"

// decodeSegment decodes base64url without padding, and without spare bits in
// the last character: one token has one spelling.
func decodeSegment(segment string) ([]byte, error) {
	return base64.RawURLEncoding.Strict().DecodeString(segment)
}

// inAlphabet holds the characters of base64url (RFC 4648, section 5).
var inAlphabet = func() (set [256]bool) {
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
		set[c] = true
	}
	return set
}()

// validKeyID reports whether kid can name a key. A kid is compared and, once
// its signature holds, published; it never becomes a path or a query (RFC
// 8725, section 3.10).
func validKeyID(kid string) bool {
	if kid == "" || len(kid) > maxKeyID {
		return false
	}
	for i := range len(kid) {
		if kid[i] <= ' ' || kid[i] > '~' {
			return false
		}
	}
	return true
}

// readHeader reads the header segment and refuses one with a member that asks for
// more than an RS256 check with a key of the issuer.
func readHeader(segment string) (*header, error) {
	raw, err := decodeSegment(segment)
	if err != nil {
		return nil, refuse(MalformedToken, "the header is not base64url")
	}
	h := &header{segment: strings.Clone(segment)}
	var alg, typ string
	forbidden := false
	err = readObject(raw, func(name string, value jsontext.Value) error {
		switch name {
		case "alg":
			return readString(value, &alg)
		case "kid":
			return readString(value, &h.kid)
		case "typ":
			return readString(value, &typ)
		}
		if slices.ContainsFunc(forbiddenMembers, func(f string) bool { return strings.EqualFold(f, name) }) {
			forbidden = true
		} else if !slices.Contains(knownMembers, name) {
			h.unknown++
		}
		return nil
	})
	// The prefix of a typ may be left out, and case does not count (RFC 7515,
	// section 4.1.9).
	typ = strings.TrimPrefix(strings.ToLower(typ), "application/")
	switch {
	case err != nil:
		return nil, refuse(MalformedToken, "the header is not a JSON object with unique members")
	case forbidden:
		return nil, refuse(UnsupportedHeader, "a header member that asks for more than a signature check")
	case slices.Contains(foreignTypes, typ):
		return nil, refuse(UnsupportedHeader, "typ names another kind of token")
	case alg == "":
		return nil, refuse(MalformedToken, "no alg")
	case alg != algorithm:
		return nil, refuse(BadAlgorithm, "alg is not RS256")
	case !validKeyID(h.kid):
		return nil, refuse(MalformedToken, "no kid, or not one of 1 to 256 visible characters")
	}
	return h, nil
}

// Errors of readObject and its callers, which turn them into refusals.
var (
	errNotObject = errors.New("not one JSON object")
	errMembers   = errors.New("duplicate members, or too many")
	errDate      = errors.New("a date that is not a number between 1970 and 9999")
	errType      = errors.New("a member of the wrong type")
)

// objectReader is a JSON decoder and its input, kept for the next token.
type objectReader struct {
	input   bytes.Buffer
	decoder jsontext.Decoder
	names   []string
}

var objectReaders = sync.Pool{New: func() any { return new(objectReader) }}

// readObject calls member for each member of the JSON object in data. It
// refuses what RFC 7515 section 4 and RFC 7519 section 4 leave open and
// parsers disagree about: invalid UTF-8, anything behind the object, duplicate
// names at any level, and at the top level names that differ only in case
// (encoding/json folds them into one). The value is valid during the call.
func readObject(data []byte, member func(name string, value jsontext.Value) error) error {
	r := objectReaders.Get().(*objectReader)
	defer objectReaders.Put(r)
	r.input.Reset()
	r.input.Write(data)
	r.decoder.Reset(&r.input)
	r.names = r.names[:0]

	if token, err := r.decoder.ReadToken(); err != nil || token.Kind() != '{' {
		return errNotObject
	}
	for r.decoder.PeekKind() == '"' {
		token, err := r.decoder.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		folded := func(n string) bool { return strings.EqualFold(n, name) }
		if len(r.names) == maxMembers || slices.ContainsFunc(r.names, folded) {
			return errMembers
		}
		r.names = append(r.names, name)
		value, err := r.decoder.ReadValue()
		if err != nil {
			return err
		}
		if err := member(name, value); err != nil {
			return err
		}
	}
	if _, err := r.decoder.ReadToken(); err != nil {
		return err
	}
	if _, err := r.decoder.ReadToken(); err != io.EOF {
		return errNotObject
	}
	return nil
}

// readString reads a JSON string, and fails on any other value.
func readString(value jsontext.Value, s *string) error {
	if value.Kind() == '"' && bytes.IndexByte(value, '\\') < 0 {
		*s = string(value[1 : len(value)-1]) // nothing is escaped
		return nil
	}
	text, err := jsontext.AppendUnquote(nil, value)
	*s = string(text)
	return err
}
