package verify

import (
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// maxNamed bounds how many values of one claim are named.
const maxNamed = 4

// Explanation describes a refused token for a log message. It decides nothing.
type Explanation struct {
	// ConfiguredAudiences are those that the verifier takes, sorted, and
	// ConfiguredApplications, in the profile of Entra ID, those that may send.
	ConfiguredAudiences, ConfiguredApplications []string

	parts  parts
	key    any
	claims SignedClaims
}

// SignedClaims are what may be logged about a refused token: GUIDs and durations
// that the issuer has signed. Nothing else of a token may be logged, and nothing at
// all of a token without a good signature, which its sender can fill as it likes.
type SignedClaims struct {
	Audiences     []string      // the GUIDs of aud, in lower case, four at most
	OtherAudience bool          // aud has a value that is not a GUID
	Applications  []string      // the GUIDs of appid and azp
	Expired       time.Duration // how long exp was past; zero when it was not
	Early         time.Duration // how far iat or nbf was ahead; zero when neither was
	Life          time.Duration // how long the token lives, as far as its dates show
}

// Explain reads a token again that was refused at a time. It does not fetch keys or
// wait for them: it returns nil when the token does not name a key that is held, and
// when it cannot be read.
func (v *Verifier) Explain(authorization []string, at time.Time) *Explanation {
	token, err := BearerToken(authorization)
	if err != nil {
		return nil
	}
	p, err := split(token)
	if err != nil {
		return nil
	}
	key, _ := v.keys.held(keyIDOf(p.header))
	if key == nil {
		return nil
	}
	e := &Explanation{parts: p, key: key, ConfiguredAudiences: slices.Sorted(maps.Keys(v.resources))}
	if v.entra != nil {
		e.ConfiguredAudiences, e.ConfiguredApplications = v.entra.Audiences, v.entra.Applications
	}
	e.claims.read(p.payload, at)
	return e
}

// Signed checks the signature and returns what may be logged, when it is good.
func (e *Explanation) Signed() (claims SignedClaims, good bool) {
	if e.parts.checkSignature(e.key) != nil {
		return SignedClaims{}, false
	}
	return e.claims, true
}

var groupSeed = maphash.MakeSeed()

// Group is equal for tokens with the same message, so that it is enough to check one
// of them. It reveals nothing of a token.
func (e *Explanation) Group() uint64 { return maphash.String(groupSeed, fmt.Sprint(e.claims)) }

// keyIDOf returns the kid of a header, also of one that readHeader refuses.
func keyIDOf(segment string) (kid string) {
	raw, err := decodeSegment(segment)
	if err != nil {
		return ""
	}
	_ = readObject(raw, func(name string, value jsontext.Value) error {
		if name == "kid" {
			return readString(value, &kid)
		}
		return nil
	})
	return kid
}

// read reads the claims. When that fails, all stay empty.
func (c *SignedClaims) read(segment string, at time.Time) {
	var read Claims
	if read.read(segment) != nil {
		return
	}
	p := &read.registered
	c.Audiences = guids(p.Audience)
	c.OtherAudience = slices.ContainsFunc(p.Audience, func(a string) bool { return !isGUID(a) })
	c.Applications = guids(read.applications)
	if p.ExpiresAt != nil {
		c.Expired, c.Life = max(0, at.Sub(p.ExpiresAt.Time)), p.ExpiresAt.Sub(at)
	}
	for _, start := range []*jwt.NumericDate{p.IssuedAt, p.NotBefore} {
		if start == nil {
			continue
		}
		c.Early = max(c.Early, start.Sub(at))
		if p.ExpiresAt != nil {
			c.Life = max(c.Life, p.ExpiresAt.Sub(start.Time))
		}
	}
	for _, d := range []*time.Duration{&c.Expired, &c.Early, &c.Life} {
		*d = d.Round(time.Second)
	}
}

// guids returns those values that are GUIDs.
func guids(values []string) (found []string) {
	for _, value := range values {
		if isGUID(value) && len(found) < maxNamed {
			found = append(found, strings.ToLower(value))
		}
	}
	return found
}
