package verify

import "strings"

// scheme is the authentication scheme of a bearer token, with the space behind
// it (RFC 6750, section 2.1). Schemes are case-insensitive (RFC 9110, 11.1).
const scheme = "bearer "

// BearerToken returns the token of a request's Authorization values. There
// must be exactly one value: of two, a proxy and the bridge might each believe
// a different one. Query and form parameters are no place for a token (RFC
// 6750, section 5.3), so nothing else is looked at.
//
// The error is a [*RefusedError]: [MissingToken] when there is no bearer
// token, [MalformedToken] when there is more than one or more than a token.
func BearerToken(authorization []string) (string, error) {
	switch {
	case len(authorization) == 0:
		return "", refuse(MissingToken, "no authorization header")
	case len(authorization) > 1:
		return "", refuse(MalformedToken, "more than one authorization header")
	}
	value := authorization[0]
	if len(value) < len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", refuse(MissingToken, "the authorization is no bearer token")
	}
	token := strings.Trim(value[len(scheme):], " ")
	switch {
	case token == "":
		return "", refuse(MissingToken, "the bearer token is empty")
	case strings.IndexByte(token, ' ') >= 0, strings.IndexByte(token, '\t') >= 0, strings.IndexByte(token, ',') >= 0:
		return "", refuse(MalformedToken, "more than a bearer token")
	}
	return token, nil
}
