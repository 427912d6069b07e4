package ingest_test

import (
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
)

// token makes the token that a directive describes: "token", then options like
// aud=other, lifetime=-10m, iss=…, forge=signature|key|unknown-kid|none|hmac,
// claim.NAME=VALUE, list.NAME=VALUE, header.NAME=VALUE. With "eventgrid" as the
// first option it is one of Entra ID's.
func (s *story) token(directive string) string {
	if t, ok := s.tokens[directive]; ok {
		return t
	}
	spec := acstest.TokenSpec{Audience: audience, Claims: map[string]any{}, Header: map[string]any{}}
	for _, option := range strings.Fields(directive)[1:] {
		name, value, _ := strings.Cut(option, "=")
		switch {
		case name == "n": // only tells two good tokens apart
		case name == "eventgrid":
			s.likeEventGrid(&spec)
		case strings.HasPrefix(name, "claim."):
			spec.Claims[strings.TrimPrefix(name, "claim.")] = value
		case strings.HasPrefix(name, "list."):
			spec.Claims[strings.TrimPrefix(name, "list.")] = []string{value}
		case name == "aud":
			spec.Audience = value
		case name == "iss":
			spec.Issuer = value
		case name == "lifetime":
			d, err := time.ParseDuration(value)
			if err != nil {
				s.t.Fatal(err)
			}
			spec.Lifetime = d
		case name == "nbf":
			d, err := time.ParseDuration(value)
			if err != nil {
				s.t.Fatal(err)
			}
			spec.Claims["nbf"] = time.Now().Add(d).Unix()
		case name == "forge":
			spec.Forge = map[string]acstest.Forgery{
				"signature": acstest.ForgeSignature, "key": acstest.ForgeKey,
				"unknown-kid": acstest.ForgeUnknownKid, "none": acstest.ForgeAlgNone, "hmac": acstest.ForgeHMAC,
			}[value]
		case strings.HasPrefix(name, "header."):
			spec.Header[strings.TrimPrefix(name, "header.")] = value
		default:
			s.t.Fatalf("token option %q is unknown", option)
		}
	}
	token, err := s.issuer.Sign(spec)
	if err != nil {
		s.t.Fatal(err)
	}
	s.tokens[directive] = token
	return token
}
