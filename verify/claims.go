package verify

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// Claims are what is certain about a sender. Only [Verifier.Verify] and
// [SharedKeys.Verify] make them: Claims with a [Claims.Resource] prove a good token
// or key. They never change.
type Claims struct {
	raw          []byte // nil: a shared key, not a token
	registered   jwt.RegisteredClaims
	applications []string // appid and azp, of Entra ID

	resource string
	sender   bool   // the sender is proven, its resource is not
	audience string // the value of aud that was looked for
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

// ForResource returns claims that prove the sender alone as those of a resource,
// which the caller picks by its configuration and what the sender says. It is an
// error for claims that have a resource, and for those that were not verified.
func (c *Claims) ForResource(name string) (*Claims, error) {
	if c == nil || !c.sender {
		return nil, errors.New("verify: these claims are not of a sender for several resources")
	}
	if !resourceName.MatchString(name) {
		return nil, fmt.Errorf("verify: %q is not a name of a resource", name)
	}
	picked := *c
	picked.resource, picked.sender = name, false
	return &picked, nil
}

// HasToken reports whether a token was verified. Without one, the sender had a
// shared key, and the methods below return zero values.
func (c *Claims) HasToken() bool { return c.raw != nil }

// Issuer returns iss.
func (c *Claims) Issuer() string { return c.registered.Issuer }

// Audience returns the audience that was looked for, also when aud is a list.
func (c *Claims) Audience() string { return c.audience }

// KeyID returns the kid of the key that the signature was checked with.
func (c *Claims) KeyID() string { return c.kid }

// ExpiresAt returns exp. Like all dates of a token it has whole seconds.
func (c *Claims) ExpiresAt() time.Time {
	at, _ := date(c.registered.ExpiresAt)
	return at
}

// IssuedAt returns iat, which a token may leave out.
func (c *Claims) IssuedAt() (time.Time, bool) { return date(c.registered.IssuedAt) }

// NotBefore returns nbf, which a token may leave out.
func (c *Claims) NotBefore() (time.Time, bool) { return date(c.registered.NotBefore) }

// Subject returns sub, or "" when it is absent or not a string.
func (c *Claims) Subject() string { return c.registered.Subject }

// ID returns jti, or "" when it is absent or not a string.
func (c *Claims) ID() string { return c.registered.ID }

// JSON returns all claims as the token holds them.
func (c *Claims) JSON() []byte { return bytes.Clone(c.raw) }

func date(d *jwt.NumericDate) (time.Time, bool) {
	if d == nil {
		return time.Time{}, false
	}
	return d.Time, true
}

// read reads the claims by their exact names (RFC 7519, section 4.1), before the
// token is verified.
//
// golang-jwt's claim types cannot do this: its map keeps the last of two equal
// names, its struct also takes ISS for iss and "1" for 1, and both take 1e30 for a
// date and let it overflow.
func (c *Claims) read(segment string) (err error) {
	if c.raw, err = decodeSegment(segment); err != nil {
		return refuse(MalformedToken, "the claims are not base64url")
	}
	err = readObject(c.raw, func(name string, value jsontext.Value) error {
		switch name {
		case "iss":
			return readString(value, &c.registered.Issuer)
		case "aud":
			return readAudience(value, &c.registered.Audience)
		case "exp":
			return readDate(value, &c.registered.ExpiresAt)
		case "iat":
			return readDate(value, &c.registered.IssuedAt)
		case "nbf":
			return readDate(value, &c.registered.NotBefore)
		case "sub":
			// sub and jti decide nothing, so one of another type is left out and
			// does not cost the callback.
			_ = readString(value, &c.registered.Subject)
		case "jti":
			_ = readString(value, &c.registered.ID)
		case "appid", "azp":
			// In tokens of other issuers these may be of any type. Only Entra
			// looks at them, and no application has an empty id.
			var id string
			_ = readString(value, &id)
			c.applications = append(c.applications, id)
		}
		return nil
	})
	switch {
	case errors.Is(err, errDate):
		return refuse(MalformedToken, errDate.Error())
	case err != nil:
		return refuse(MalformedToken, "the claims are not a JSON object with unique members of the right types")
	}
	return nil
}

// maxLifetime is the longest lifetime of a callback's token. ACS gives callbacks
// five minutes; the tokens of its media WebSockets have the same issuer and keys,
// live 24 hours, and must not pass here (RFC 8725, section 3.12).
// https://learn.microsoft.com/azure/communication-services/how-tos/call-automation/secure-webhook-endpoint
const maxLifetime = 10 * time.Minute

// checkClaims checks issuer, audience, dates and lifetime, and picks the resource.
func (v *Verifier) checkClaims(c *Claims) error {
	for _, check := range []func(*Claims) error{v.checkIssuer, v.checkAudience, v.checkDates, v.checkLifetime} {
		if err := check(c); err != nil {
			return err
		}
	}
	return nil
}

func (v *Verifier) checkIssuer(c *Claims) error {
	if !contains(v.issuers, c.registered.Issuer) {
		return refuse(WrongIssuer, "iss is not a configured issuer")
	}
	return nil
}

func (v *Verifier) checkAudience(c *Claims) error {
	if v.entra != nil {
		return v.entra.check(c)
	}
	// aud names one resource (RFC 7519, section 4.1.3). With an aud that names
	// two, the event's resource would be ambiguous.
	for _, audience := range c.registered.Audience {
		name, ours := v.resources[audience]
		if !ours && len(audience) == guidLength {
			name, ours = v.resources[foldGUIDs(audience)]
		}
		switch {
		case !ours || name == c.resource:
		case c.resource != "":
			return refuse(WrongAudience, "aud names more than one resource")
		default:
			c.resource, c.audience = name, audience
		}
	}
	if c.resource == "" {
		return refuse(WrongAudience, "aud does not name a configured resource")
	}
	return nil
}

func (v *Verifier) checkDates(c *Claims) error {
	switch err := v.dates.Validate(&c.registered); {
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return refuse(MalformedToken, "no exp")
	case errors.Is(err, jwt.ErrTokenExpired):
		return refuse(Expired, "exp is past")
	case err != nil:
		return refuse(NotYetValid, "nbf or iat is ahead")
	}
	return nil
}

// checkLifetime needs an exp, which checkDates asks for.
func (v *Verifier) checkLifetime(c *Claims) error {
	// exp alone shows the rest of the lifetime; iat and nbf also show a lifetime
	// that is mostly over.
	expires := c.registered.ExpiresAt.Time
	tooLong := expires.Sub(v.now()) > v.lifetime+v.leeway
	for _, start := range []*jwt.NumericDate{c.registered.IssuedAt, c.registered.NotBefore} {
		tooLong = tooLong || start != nil && expires.Sub(start.Time) > v.lifetime
	}
	if tooLong {
		return refuse(LifetimeTooLong, "a longer lifetime than tokens of this kind have")
	}
	return nil
}

// readAudience reads aud: a string or a list of strings (RFC 7519, 4.1.3).
func readAudience(value jsontext.Value, audiences *jwt.ClaimStrings) error {
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
		return errDate
	}
	*date = &jwt.NumericDate{Time: time.Unix(int64(seconds), 0)}
	return nil
}

// guidLength is the length of a GUID in characters.
const guidLength = 36

var guid = regexp.MustCompile(`\b[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b`)

// isGUID reports whether a text is a GUID, in either case.
func isGUID(text string) bool { return len(text) == guidLength && guid.MatchString(text) }

// foldGUIDs returns text with the GUIDs in it in lower case. GUIDs are equal
// whatever their case (RFC 9562, section 4), and Azure's tools write either; the
// text around them, such as api://, stays exact.
func foldGUIDs(text string) string { return guid.ReplaceAllStringFunc(text, strings.ToLower) }

// contains reports whether a list has a text, with GUIDs in either case.
func contains(list []string, text string) bool {
	return slices.ContainsFunc(list, func(own string) bool {
		return own == text || strings.EqualFold(own, text) && foldGUIDs(own) == foldGUIDs(text)
	})
}
