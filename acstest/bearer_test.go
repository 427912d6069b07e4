package acstest_test

import (
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/acsbridge/acsbridge/acstest"
)

// trusted is a verifier for the demo audience, as short as it can be: RS256
// with the issuer's key, exact issuer and audience, an end that is at most ten
// minutes away.
func trusted(issuer *acstest.Issuer, authorization string) bool {
	text, ok := strings.CutPrefix(authorization, "Bearer ")
	if !ok {
		return false
	}
	good, err := issuer.Sign(acstest.TokenSpec{})
	if err != nil {
		return false
	}
	reference, _, err := jwt.NewParser().ParseUnverified(good, jwt.MapClaims{})
	if err != nil {
		return false
	}
	token, err := jwt.NewParser(
		jwt.WithValidMethods([]string{"RS256"}),
		jwt.WithIssuer(issuer.Name()),
		jwt.WithAudience(acstest.DemoAudience),
		jwt.WithExpirationRequired(),
	).Parse(text, func(token *jwt.Token) (any, error) {
		if token.Header["kid"] != reference.Header["kid"] {
			return nil, jwt.ErrTokenUnverifiable
		}
		return &sharedKey().PublicKey, nil
	})
	if err != nil {
		return false
	}
	end, err := token.Claims.GetExpirationTime()
	return err == nil && time.Until(end.Time) < 10*time.Minute
}
