package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// maxLifetime is the longest lifetime of a callback's token. ACS gives callbacks
// five minutes; the tokens of its media WebSockets have the same issuer and keys,
// live 24 hours, and must not pass here (RFC 8725, section 3.12).
// https://learn.microsoft.com/azure/communication-services/how-tos/call-automation/secure-webhook-endpoint
const maxLifetime = 10 * time.Minute

// Verifier decides about bearer tokens of one profile. Its methods are safe for
// concurrent use.
type Verifier struct {
	issuers   []string
	resources map[string]string // name by audience, its GUID in lower case
	entra     *Entra            // nil: callback tokens
	lifetime  time.Duration
	leeway    time.Duration
	now       func() time.Time
	dates     *jwt.Validator
	keys      *keyring
	reuse     *reuse
	metrics   *metrics

	// lastHeader is the header of the last good token: all tokens of one key have
	// the same, and reading it again costs a tenth of the signature check.
	lastHeader atomic.Pointer[header]
}

// New makes a Verifier, or reports every problem of the configuration, each
// with the setting's name. A Verifier has no keys until [Verifier.Run] has
// fetched some.
func New(config Config) (*Verifier, error) {
	c, err := config.complete()
	if err != nil {
		return nil, err
	}
	v := &Verifier{
		issuers:   []string{c.Issuer},
		resources: make(map[string]string, len(c.Resources)),
		entra:     c.Entra,
		lifetime:  maxLifetime,
		leeway:    c.Leeway,
		now:       c.Now,
		dates: jwt.NewValidator(jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
			jwt.WithLeeway(c.Leeway), jwt.WithTimeFunc(c.Now)),
	}
	for _, r := range c.Resources {
		v.resources[foldGUIDs(r.Audience)] = r.Name
	}
	if v.entra != nil {
		v.issuers, v.lifetime = v.entra.Issuers, maxEntraLifetime
	}
	server, err := newKeyServer(c, v.issuers)
	if err != nil {
		return nil, err
	}
	v.keys = newKeyring(server, c.Logger)
	v.reuse = newReuse(c)
	v.metrics = newMetrics(c.Registerer, v.keys, v.reuse)
	return v, nil
}

// Run fetches the issuer's keys until ctx ends, and then returns nil. No request
// fetches keys, so none can cancel a fetch or be held by one. Run must not be
// called again before it has returned.
func (v *Verifier) Run(ctx context.Context) error { return v.keys.run(ctx) }

// Keys returns the state of the keys, for a readiness probe.
func (v *Verifier) Keys() KeyStatus { return v.keys.status() }

// VerifyBearer is [BearerToken] and [Verifier.Verify] in one, so that requests
// without a token are counted among the verdicts, too.
func (v *Verifier) VerifyBearer(ctx context.Context, authorization []string) (*Claims, error) {
	token, err := BearerToken(authorization)
	if err != nil {
		v.metrics.verdict(err)
		return nil, err
	}
	return v.Verify(ctx, token)
}

// BearerToken returns the token of a request's Authorization values. There
// must be exactly one value: of two, a proxy and the bridge might each take a
// different one. Query and form parameters must not hold a token (RFC 6750,
// section 5.3), so nothing else is looked at.
//
// The error is a [*RefusedError]: [MissingToken] when there is no bearer
// token, [MalformedToken] when there is more than one or more than a token.
func BearerToken(authorization []string) (string, error) {
	// The scheme with the space behind it (RFC 6750, section 2.1). Case does not
	// count (RFC 9110, section 11.1).
	const scheme = "bearer "
	switch {
	case len(authorization) == 0:
		return "", refuse(MissingToken, "no authorization header")
	case len(authorization) > 1:
		return "", refuse(MalformedToken, "more than one authorization header")
	}
	value := authorization[0]
	if len(value) < len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", refuse(MissingToken, "the authorization is not a bearer token")
	}
	token := strings.Trim(value[len(scheme):], " ")
	switch {
	case token == "":
		return "", refuse(MissingToken, "the bearer token is empty")
	case strings.ContainsAny(token, " \t,"):
		return "", refuse(MalformedToken, "more than a bearer token")
	}
	return token, nil
}

// Verify decides about one token as it stands in the Authorization header. The
// error is a [*RefusedError] when the token is certainly bad, and wraps
// [ErrNoKeys] when no verdict is possible. It may wait up to two seconds for a
// key that is not there yet.
func (v *Verifier) Verify(ctx context.Context, token string) (*Claims, error) {
	claims, err := v.verify(ctx, token)
	v.metrics.verdict(err)
	return claims, err
}

// verify does the cheap checks first: form, header, claims, key, signature. Claims
// come before the key so that a token with wrong claims never causes a fetch.
//
// The segments are read here, once, by readers that refuse what parsers disagree
// about, and not a second time by golang-jwt's parser: an attacker looks for
// differences between two readers of one token. See ADR 0002.
func (v *Verifier) verify(ctx context.Context, token string) (*Claims, error) {
	parts, err := split(token)
	if err != nil {
		return nil, err
	}
	h := v.lastHeader.Load()
	if h == nil || h.segment != parts.header {
		if h, err = readHeader(parts.header); err != nil {
			return nil, err
		}
	}
	c := &Claims{kid: h.kid}
	if err := c.read(parts.payload); err != nil {
		return nil, err
	}
	if err := v.checkClaims(c); err != nil {
		return nil, err
	}
	key, err := v.keys.key(ctx, h.kid)
	if err != nil {
		return nil, err
	}
	if err := parts.checkSignature(key); err != nil {
		return nil, err
	}
	if v.lastHeader.Load() != h {
		v.lastHeader.Store(h)
	}
	c.signing = sha256.Sum256([]byte(parts.signed))
	v.metrics.accepted(c, h, v.now())
	return c, nil
}

// checkClaims checks issuer, audience and dates, and picks the resource.
func (v *Verifier) checkClaims(c *Claims) (err error) {
	if !contains(v.issuers, c.registered.Issuer) {
		return refuse(WrongIssuer, "iss is not a configured issuer")
	}
	if v.entra != nil {
		err = v.entra.check(c)
	} else {
		err = v.pickResource(c)
	}
	if err != nil {
		return err
	}
	switch err := v.dates.Validate(&c.registered); {
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return refuse(MalformedToken, "no exp")
	case errors.Is(err, jwt.ErrTokenExpired):
		return refuse(Expired, "exp is past")
	case err != nil:
		return refuse(NotYetValid, "nbf or iat is ahead")
	}
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

// pickResource finds the one resource that aud names (RFC 7519, section 4.1.3).
// With an aud that names two, the event's resource would be ambiguous.
func (v *Verifier) pickResource(c *Claims) error {
	for _, audience := range c.registered.Audience {
		name, ours := v.resources[audience]
		if !ours && len(audience) == guidLength {
			name, ours = v.resources[foldGUIDs(audience)]
		}
		switch {
		case !ours || name == c.resource:
		case c.resource != "":
			c.resource = ""
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

// checkSignature checks the signature with the key. The method is RS256
// whatever the header says; readHeader has refused every other alg.
func (p *parts) checkSignature(key any) error {
	signature, err := decodeSegment(p.signature)
	if err != nil {
		return refuse(MalformedToken, "the signature is not base64url")
	}
	if jwt.SigningMethodRS256.Verify(p.signed, signature, key) != nil {
		return refuse(BadSignature, "the key did not make this signature")
	}
	return nil
}
