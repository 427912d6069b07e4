package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

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
		v.countError(err)
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
//
// The cheap checks come first: form, header, claims, key, signature. Claims come
// before the key so that a token with wrong claims never causes a fetch.
//
// The segments are read here, once, by readers that refuse what parsers disagree
// about, and not a second time by golang-jwt's parser: an attacker looks for
// differences between two readers of one token. See ADR 0002.
func (v *Verifier) Verify(ctx context.Context, token string) (_ *Claims, err error) {
	defer func() {
		if err != nil {
			v.countError(err)
		}
	}()
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

	v.metrics.ok.Inc()
	v.metrics.unknown.Add(float64(h.unknown))
	if issued := c.registered.IssuedAt; issued != nil {
		age := v.now().Sub(issued.Time)
		v.metrics.age.Observe(max(0, age.Seconds())) // the sum of a histogram must not fall
		if age < -time.Second {
			v.metrics.ahead.Inc()
		}
	}
	return c, nil
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

// countError counts the verdict of an error. Verify counts good tokens.
func (v *Verifier) countError(err error) {
	if refused := new(RefusedError); errors.As(err, &refused) {
		v.metrics.refused[refused.Reason].Inc()
		return
	}
	v.metrics.noVerdict.Inc()
}

// Reason says why a token was refused. The set is closed, so that it can be a
// metric label and a log field.
type Reason string

// The reasons.
const (
	MissingToken      Reason = "missing_token"      // no bearer token at all
	MalformedToken    Reason = "malformed_token"    // not a JWT of the form that is taken here
	UnsupportedHeader Reason = "unsupported_header" // a header member that asks for more than a signature check
	BadAlgorithm      Reason = "bad_algorithm"      // any alg but RS256
	UnknownKey        Reason = "unknown_key"        // a kid that the issuer does not publish
	BadSignature      Reason = "bad_signature"      // the key did not make the signature
	Expired           Reason = "expired"            // exp is past
	NotYetValid       Reason = "not_yet_valid"      // nbf or iat is ahead
	LifetimeTooLong   Reason = "lifetime_too_long"  // tokens of this kind do not live that long
	WrongIssuer       Reason = "wrong_issuer"       // iss is not a configured issuer
	WrongAudience     Reason = "wrong_audience"     // aud is not that of exactly one resource, or of our application
	TokenReused       Reason = "token_reused"       // seen before with another body
	WrongApplication  Reason = "wrong_application"  // of Entra ID: issued to an application that may not send
)

// KeysUnavailable is the label of [ErrNoKeys]. It is not a [Reason], because the
// token may be good.
const KeysUnavailable = "keys_unavailable"

var reasons = []Reason{
	MissingToken, MalformedToken, UnsupportedHeader, BadAlgorithm, UnknownKey, BadSignature,
	Expired, NotYetValid, LifetimeTooLong, WrongIssuer, WrongAudience, TokenReused,
	WrongApplication,
}

// Reasons returns all reasons.
func Reasons() []Reason { return slices.Clone(reasons) }

// ErrNoKeys reports that no verdict was possible, because the key to check with is
// not held. The token may be good, so the sender should try again.
var ErrNoKeys = errors.New("verify: no keys to check with")

// RefusedError reports a token that no retry can save.
type RefusedError struct {
	Reason Reason
	Err    error // the cause, for our own log; holds nothing of the token
}

// Error returns the reason and, when there is one, the cause.
func (e *RefusedError) Error() string {
	if e.Err == nil {
		return "verify: refused: " + string(e.Reason)
	}
	return "verify: refused: " + string(e.Reason) + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Err }

// refuse makes a RefusedError. The cause is never an error of golang-jwt: those
// repeat parts of the token, which must not get into a log.
func refuse(reason Reason, cause string) error {
	return &RefusedError{Reason: reason, Err: errors.New(cause)}
}
