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

// Explanation is about a token that was refused, for a message in the log alone.
// It decides nothing.
type Explanation struct {
	// ConfiguredAudiences are those that the verifier takes, sorted, and
	// ConfiguredApplications, with the profile of Entra ID, those that may send.
	ConfiguredAudiences, ConfiguredApplications []string

	parts  parts
	key    any
	claims SignedClaims
}

// SignedClaims are what a log may say about a refused token: GUIDs and durations,
// which the issuer has signed. Nothing else of a token may be said, and of a token
// without a good signature nothing, since its sender writes into it what it likes.
type SignedClaims struct {
	Audiences     []string      // the GUIDs of aud, in lower case, four at most
	OtherAudience bool          // aud has a value that is not a GUID
	Applications  []string      // the GUIDs of appid and azp
	Expired       time.Duration // how long exp was past; zero when it was not
	Early         time.Duration // how far iat or nbf was ahead; zero when neither was
	Life          time.Duration // how long the token lives, as far as its dates show
}

// Explain reads a token again that was refused at a time. It fetches no key and
// waits for none: it returns nil when the token does not name a key that is held,
// and when it cannot be read.
func (v *Verifier) Explain(authorization []string, at time.Time) *Explanation {
	token, err := BearerToken(authorization)
	if err != nil || len(token) > maxToken {
		return nil
	}
	p, ok := split(token)
	set := v.keys.trusted()
	if !ok || len(p.header) > maxHeaderSegment || set == nil {
		return nil
	}
	e := &Explanation{parts: p, key: set.keys[keyIDOf(p.header)], ConfiguredAudiences: slices.Sorted(maps.Keys(v.resources))}
	if e.key == nil {
		return nil
	}
	if v.entra != nil {
		e.ConfiguredAudiences, e.ConfiguredApplications = v.entra.Audiences, v.entra.Applications
	}
	e.claims.read(p.payload, at)
	return e
}

// Signed checks the signature and returns what may be said, when it is good.
func (e *Explanation) Signed() (claims SignedClaims, good bool) {
	if e.parts.checkSignature(e.key) != nil {
		return SignedClaims{}, false
	}
	return e.claims, true
}

var groupSeed = maphash.MakeSeed()

// Group is equal for tokens about which the same would be said, so that one of
// them is enough to look at. It shows nothing of a token.
func (e *Explanation) Group() uint64 { return maphash.String(groupSeed, fmt.Sprint(e.claims)) }

// keyIDOf returns the kid of a header, also of one that is refused for another
// member.
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

// read reads the claims. Those that cannot be read leave everything empty.
func (c *SignedClaims) read(segment string, at time.Time) {
	var p payload
	if p.read(segment) != nil {
		return
	}
	c.Audiences = guids(p.audiences)
	c.OtherAudience = slices.ContainsFunc(p.audiences, func(a string) bool { return !isGUID(a) })
	c.Applications = guids(p.applications)
	if p.expires != nil {
		c.Expired, c.Life = max(0, at.Sub(p.expires.Time)), p.expires.Sub(at)
	}
	for _, start := range []*jwt.NumericDate{p.issuedAt, p.notBefore} {
		if start == nil {
			continue
		}
		c.Early = max(c.Early, start.Sub(at))
		if p.expires != nil {
			c.Life = max(c.Life, p.expires.Sub(start.Time))
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
