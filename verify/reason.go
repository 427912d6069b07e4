package verify

import (
	"errors"
	"slices"
)

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
