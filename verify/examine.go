package verify

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// FetchedKeys is what one fetch of the issuer's keys found.
type FetchedKeys struct {
	Usable  int
	Skipped []string // why each other key is not usable
}

// FetchKeys fetches the issuer's keys once and holds them, within five seconds. It is
// for a verifier whose [Verifier.Run] does not run.
func (v *Verifier) FetchKeys(ctx context.Context) (FetchedKeys, error) {
	if !v.keys.refresh(ctx) {
		return FetchedKeys{}, v.keys.status().LastError
	}
	set := v.keys.current.Load()
	return FetchedKeys{Usable: set.held, Skipped: set.skipped}, nil
}

// Rule is one rule for tokens, and whether a token passes it.
type Rule struct {
	Name string
	// Found is what the token has, and by how much it misses the rule, for people:
	// dates, issuer, audience and kid, never the rest of the token.
	Found string
	// Err is nil when the token passes, a [*RefusedError] when it does not, and wraps
	// [ErrNoKeys] when the keys that would show it are missing.
	Err error
}

// Examine checks a token against each rule, also those that [Verifier.Verify] does not
// reach after a refusal. It asks for no keys: see [Verifier.FetchKeys]. It
// decides nothing and counts nothing. The list ends early when the token cannot be read.
func (v *Verifier) Examine(token string) []Rule {
	p, err := split(token)
	rules := []Rule{{"form", fmt.Sprintf("%d bytes, at most %d", len(token), maxToken), err}}
	if err != nil {
		return rules
	}
	_, err = readHeader(p.header)
	kid := keyIDOf(p.header)
	rules = append(rules, Rule{"header", fmt.Sprintf("kid %.100q; alg must be %s", kid, algorithm), err})
	c := &Claims{kid: kid}
	if err := c.read(p.payload); err != nil {
		return append(rules, Rule{"claims", "not readable", err})
	}
	now := v.now()
	rules = append(rules,
		Rule{"issuer", fmt.Sprintf("iss is %.200q, accepted is %s", c.registered.Issuer, quoted(v.issuers)), v.checkIssuer(c)},
		Rule{"audience", v.audienceFound(c), v.checkAudience(c)},
		Rule{"dates", v.datesFound(c, now), v.checkDates(c)},
	)
	if c.registered.ExpiresAt != nil {
		rules = append(rules, Rule{"lifetime", v.lifetimeFound(c, now), v.checkLifetime(c)})
	}
	return append(rules, v.examineSignature(&p, kid)...)
}

// examineSignature is about the key of a token and what the key says of it.
func (v *Verifier) examineSignature(p *parts, kid string) []Rule {
	key, set := v.keys.held(kid)
	if set == nil {
		return []Rule{{"key", "no keys are held", ErrNoKeys}}
	}
	listed, isListed := set.kids[kid]
	switch {
	case !isListed:
		return []Rule{{"key", fmt.Sprintf("the issuer publishes no key with this kid, but %d others", len(set.kids)), refuse(UnknownKey, "the issuer does not publish this key")}}
	case listed == nil:
		return []Rule{{"key", "the issuer publishes it, but it is not usable", ErrNoKeys}}
	}
	return []Rule{{"key", "the issuer publishes it", nil}, {"signature", "of that key", p.checkSignature(key)}}
}

func (v *Verifier) audienceFound(c *Claims) string {
	accepted := slices.Sorted(maps.Keys(v.resources))
	if v.entra != nil {
		accepted = v.entra.Audiences
	}
	return fmt.Sprintf("aud is %s, accepted is %s", quoted(c.registered.Audience), quoted(accepted))
}

// datesFound says how far each date is from now, and by how much it misses what is
// allowed.
func (v *Verifier) datesFound(c *Claims, now time.Time) string {
	r := &c.registered
	var found []string
	add := func(name string, date *jwt.NumericDate, over time.Duration) {
		away := now.Sub(date.Time).Round(time.Second)
		text := fmt.Sprintf("%s was %s ago", name, away)
		if away < 0 {
			text = fmt.Sprintf("%s is %s ahead", name, -away)
		}
		if over = over.Round(time.Second); over > 0 {
			text += fmt.Sprintf(", %s more than the leeway of %s", over, v.leeway.Round(time.Second))
		}
		found = append(found, text)
	}
	if r.ExpiresAt == nil {
		found = append(found, "exp is missing")
	} else {
		add("exp", r.ExpiresAt, now.Sub(r.ExpiresAt.Time)-v.leeway)
	}
	if r.IssuedAt != nil {
		add("iat", r.IssuedAt, r.IssuedAt.Sub(now)-v.leeway)
	}
	if r.NotBefore != nil {
		add("nbf", r.NotBefore, r.NotBefore.Sub(now)-v.leeway)
	}
	return strings.Join(found, "; ")
}

// lifetimeFound says how long a token lives, from its beginning when that is known, or
// how long it still does, when that is what is too long.
func (v *Verifier) lifetimeFound(c *Claims, now time.Time) string {
	r := &c.registered
	var life time.Duration
	for _, start := range []*jwt.NumericDate{r.IssuedAt, r.NotBefore} {
		if start != nil {
			life = max(life, r.ExpiresAt.Sub(start.Time))
		}
	}
	of, most := "lives", v.lifetime
	if rest := r.ExpiresAt.Sub(now); life == 0 || life <= most && rest > most+v.leeway {
		of, life, most = "ends in", rest, most+v.leeway
	}
	text := fmt.Sprintf("%s %s, at most %s", of, life.Round(time.Second), most.Round(time.Second))
	if over := (life - most).Round(time.Second); over > 0 {
		text += fmt.Sprintf(": %s too long", over)
	}
	return text
}

// quoted returns values that may come from a token, for a terminal.
func quoted(values []string) string {
	if len(values) == 0 {
		return "missing"
	}
	var list []string
	for i, value := range values {
		if i == maxNamed {
			list = append(list, "…")
			break
		}
		list = append(list, fmt.Sprintf("%.100q", value))
	}
	return strings.Join(list, ", ")
}
