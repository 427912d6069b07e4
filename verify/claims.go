package verify

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// Claims are what is known of a sender for certain. Only [Verifier.Verify] and
// [SharedKeys.Verify] make them: whoever holds Claims with a [Claims.Resource]
// holds the proof of a good token or key. They never change.
type Claims struct {
	payload  payload
	resource string
	sender   bool // proven is who sends, and not for which resource
	audience string
	kid      string
	signing  [sha256.Size]byte // of the signing input: the token's identity
}

// Resource returns the configured name of the resource that the token's aud
// picked. It is empty for nil and for Claims that Verify did not make.
func (c *Claims) Resource() string {
	if c == nil {
		return ""
	}
	return c.resource
}

// ForResource returns claims that prove who sends, and not for which resource,
// as those of a resource. Which one is the caller's to decide, by its
// configuration and what the sender says. Claims of a token whose aud has picked
// a resource stay with that: for them, and for those that nobody verified, it is
// an error.
func (c *Claims) ForResource(name string) (*Claims, error) {
	if c == nil || !c.sender {
		return nil, errors.New("verify: these claims are not a sender's that speaks for several resources")
	}
	if !resourceName.MatchString(name) {
		return nil, fmt.Errorf("verify: %q is no name of a resource", name)
	}
	picked := *c
	picked.resource, picked.sender = name, false
	return &picked, nil
}

// HasToken reports whether a token was verified. Without one, its sender had a
// key, and there is nothing that the methods below could return.
func (c *Claims) HasToken() bool { return c.payload.raw != nil }

// Issuer returns iss.
func (c *Claims) Issuer() string { return c.payload.issuer }

// Audience returns the audience that was looked for, also when aud is a list.
func (c *Claims) Audience() string { return c.audience }

// KeyID returns the kid of the key that the signature was checked with.
func (c *Claims) KeyID() string { return c.kid }

// ExpiresAt returns exp. Like all dates of a token it has whole seconds.
func (c *Claims) ExpiresAt() time.Time {
	at, _ := date(c.payload.expires)
	return at
}

// IssuedAt returns iat, which a token may leave out.
func (c *Claims) IssuedAt() (time.Time, bool) { return date(c.payload.issuedAt) }

// NotBefore returns nbf, which a token may leave out.
func (c *Claims) NotBefore() (time.Time, bool) { return date(c.payload.notBefore) }

// Subject returns sub, or nothing when it is absent or no string.
func (c *Claims) Subject() string { return c.payload.subject }

// ID returns jti, or nothing when it is absent or no string.
func (c *Claims) ID() string { return c.payload.id }

// JSON returns all claims as the token holds them.
func (c *Claims) JSON() []byte { return bytes.Clone(c.payload.raw) }

func date(d *jwt.NumericDate) (time.Time, bool) {
	if d == nil {
		return time.Time{}, false
	}
	return d.Time, true
}

// payload is the claims of a token, which may not be verified yet. golang-jwt
// checks its dates by the methods of [jwt.Claims].
//
// Neither of golang-jwt's own claim types would do: its map keeps the last of
// two equal names, its struct also takes ISS for iss and "1" for 1, and both
// take 1e30 for a date and let it overflow.
type payload struct {
	raw          []byte
	issuer       string
	audiences    []string
	subject      string
	id           string
	expires      *jwt.NumericDate
	issuedAt     *jwt.NumericDate
	notBefore    *jwt.NumericDate
	applications []string // appid and azp, of Entra ID
}

var _ jwt.Claims = (*payload)(nil)

func (p *payload) GetExpirationTime() (*jwt.NumericDate, error) { return p.expires, nil }
func (p *payload) GetIssuedAt() (*jwt.NumericDate, error)       { return p.issuedAt, nil }
func (p *payload) GetNotBefore() (*jwt.NumericDate, error)      { return p.notBefore, nil }
func (p *payload) GetIssuer() (string, error)                   { return p.issuer, nil }
func (p *payload) GetSubject() (string, error)                  { return p.subject, nil }
func (p *payload) GetAudience() (jwt.ClaimStrings, error)       { return p.audiences, nil }

// read reads the claims by their exact names (RFC 7519, section 4.1).
func (p *payload) read(segment string) error {
	raw, err := decodeSegment(segment)
	if err != nil {
		return refuse(MalformedToken, "the claims are not base64url")
	}
	p.raw = raw
	err = readObject(p.raw, func(name string, value jsontext.Value) error {
		switch name {
		case "iss":
			return readString(value, &p.issuer)
		case "aud":
			return readAudience(value, &p.audiences)
		case "exp":
			return readDate(value, &p.expires)
		case "iat":
			return readDate(value, &p.issuedAt)
		case "nbf":
			return readDate(value, &p.notBefore)
		case "sub":
			// sub and jti decide nothing here, so a strange one is as good as
			// none: it must not cost a call.
			_ = readString(value, &p.subject)
		case "jti":
			_ = readString(value, &p.id)
		case "appid", "azp":
			// In tokens of other issuers these may be of any type. Only Entra
			// looks at them, and an empty text is the id of no application.
			var id string
			_ = readString(value, &id)
			p.applications = append(p.applications, id)
		}
		return nil
	})
	if err != nil {
		return asRefusal(err, "the claims are not a JSON object with unique members of the right types")
	}
	return nil
}

// readAudience reads aud: a string or a list of strings (RFC 7519, 4.1.3).
func readAudience(value jsontext.Value, audiences *[]string) error {
	if value.Kind() == '"' {
		*audiences = make([]string, 1)
		return readString(value, &(*audiences)[0])
	}
	if value.Kind() != '[' {
		return errType
	}
	decoder := jsontext.NewDecoder(bytes.NewReader(value))
	if _, err := decoder.ReadToken(); err != nil {
		return err
	}
	for decoder.PeekKind() != ']' {
		element, err := decoder.ReadValue()
		if err != nil {
			return err
		}
		var audience string
		if err := readString(element, &audience); err != nil {
			return err
		}
		*audiences = append(*audiences, audience)
	}
	return nil
}

// The range of dates that a token may name: 1970 to the year 9999, the last
// that RFC 3339 can write. Beyond it time.Unix overflows, and a date far in
// the future would pass for one far in the past.
const (
	firstDate = 1
	lastDate  = 253402300799
)

// readDate reads a NumericDate (RFC 7519, section 2): seconds since 1970 as a
// JSON number, cut to whole seconds.
func readDate(value jsontext.Value, date **jwt.NumericDate) error {
	seconds, err := strconv.ParseFloat(string(value), 64)
	if err != nil || seconds < firstDate || seconds > lastDate {
		return refuse(MalformedToken, "a date that is no number between 1970 and 9999")
	}
	*date = &jwt.NumericDate{Time: time.Unix(int64(seconds), 0)}
	return nil
}
