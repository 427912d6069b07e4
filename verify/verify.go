package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// maxLifetime is the longest life of a token that is taken for a callback's.
// ACS gives callbacks five minutes; the tokens of its media WebSockets have
// the same issuer and keys and live 24 hours, and must not pass here (RFC
// 8725, section 3.12).
// https://learn.microsoft.com/azure/communication-services/how-tos/call-automation/secure-webhook-endpoint
const maxLifetime = 10 * time.Minute

// Verifier decides about bearer tokens of one profile. Its methods are safe for
// concurrent use.
type Verifier struct {
	issuers   []string
	resources map[string]string // name by audience, its GUID in small letters
	entra     *Entra            // nil: callback tokens
	lifetime  time.Duration
	leeway    time.Duration
	now       func() time.Time
	dates     *jwt.Validator
	keys      *keyring
	reuse     *reuse
	metrics   *metrics

	lastHeader headerMemo
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

// Run fetches the issuer's keys until ctx ends, and then returns nil. All
// fetches happen here and none on a request's behalf, so no request can cancel
// one or be held by one. It must run exactly once at a time.
func (v *Verifier) Run(ctx context.Context) error { return v.keys.run(ctx) }

// Keys returns the state of the keys, for a readiness probe.
func (v *Verifier) Keys() KeyStatus { return v.keys.status() }

// Verify decides about one token as it stands in the Authorization header. The
// error is a [*RefusedError] when the token is surely bad, and wraps
// [ErrNoKeys] when no verdict is possible. It may wait up to two seconds for a
// key that is not there yet.
func (v *Verifier) Verify(ctx context.Context, token string) (*Claims, error) {
	claims, err := v.verify(ctx, token)
	v.metrics.verdict(err)
	return claims, err
}

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

// verify goes from the cheap to the dear: form, header, claims, key,
// signature. Claims come before the key so that a token with wrong ones never
// makes the key server work.
//
// The segments are read here, once, by readers that refuse what parsers
// disagree about, and not a second time by golang-jwt's parser: two readers of
// one token are where its attackers look for a difference. See ADR 0002.
func (v *Verifier) verify(ctx context.Context, token string) (*Claims, error) {
	h, parts, err := v.inspect(token)
	if err != nil {
		return nil, err
	}
	claims := &Claims{kid: h.kid}
	if err := claims.payload.read(parts.payload); err != nil {
		return nil, err
	}
	if err := v.admit(claims); err != nil {
		return nil, err
	}
	key, err := v.keys.key(ctx, h.kid)
	if err != nil {
		return nil, err
	}
	if err := parts.checkSignature(key); err != nil {
		return nil, err
	}
	v.lastHeader.remember(parts.header, h)
	claims.signing = sha256.Sum256([]byte(parts.signed))
	v.metrics.accepted(claims, h, v.now())
	return claims, nil
}

// checkSignature checks the signature with the key. The method is RS256
// whatever the header says; inspect has seen to it that it says so.
func (p *parts) checkSignature(key any) error {
	signature, err := decodeSegment(p.signature)
	if err != nil {
		return refuse(MalformedToken, "the signature is not base64url")
	}
	if jwt.SigningMethodRS256.Verify(p.signed, signature, key) != nil {
		return refuse(BadSignature, "the signature is not the key's")
	}
	return nil
}

// admit checks the claims and picks the resource.
func (v *Verifier) admit(c *Claims) error {
	if !contains(v.issuers, c.payload.issuer) {
		return refuse(WrongIssuer, "iss is no configured issuer")
	}
	var err error
	if v.entra != nil {
		err = v.entra.admit(c)
	} else {
		err = v.pickResource(c)
	}
	if err != nil {
		return err
	}
	err = v.dates.Validate(&c.payload)
	switch {
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return refuse(MalformedToken, "no exp")
	case errors.Is(err, jwt.ErrTokenExpired):
		return refuse(Expired, "exp is past")
	case err != nil:
		return refuse(NotYetValid, "nbf or iat is ahead")
	}
	return v.checkLifetime(&c.payload)
}

// pickResource finds the one resource that aud names (RFC 7519, section
// 4.1.3). An aud that names two would leave open whose event it is.
func (v *Verifier) pickResource(c *Claims) error {
	for _, audience := range c.payload.audiences {
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
		return refuse(WrongAudience, "aud names no configured resource")
	}
	return nil
}

// checkLifetime refuses tokens that live longer than those of the profile can.
// What is left of the life is known from exp alone; iat and nbf also give it
// away when most of it is over.
func (v *Verifier) checkLifetime(p *payload) error {
	expires := p.expires.Time
	tooLong := expires.Sub(v.now()) > v.lifetime+v.leeway
	for _, start := range []*jwt.NumericDate{p.issuedAt, p.notBefore} {
		tooLong = tooLong || start != nil && expires.Sub(start.Time) > v.lifetime
	}
	if tooLong {
		return refuse(LifetimeTooLong, "a longer life than tokens of this kind have")
	}
	return nil
}
