package ingest_test

import (
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/verify"
)

// token makes the token of a directive: "token", then the options of the README.
func (s *story) token(directive string) string {
	if t, ok := s.tokens[directive]; ok {
		return t
	}
	spec := acstest.TokenSpec{Audience: audience, Claims: map[string]any{}}
	for _, option := range strings.Fields(directive)[1:] {
		name, value, _ := strings.Cut(option, "=")
		switch {
		case name == "n": // two good tokens
		case name == "eventgrid":
			s.likeEventGrid(&spec)
		case strings.HasPrefix(name, "claim."):
			spec.Claims[strings.TrimPrefix(name, "claim.")] = value
		case name == "aud":
			spec.Audience = value
		case name == "lifetime":
			d, err := time.ParseDuration(value)
			if err != nil {
				s.t.Fatal(err)
			}
			spec.Lifetime = d
		case name == "forge":
			spec.Forge = map[string]acstest.Forgery{"key": acstest.ForgeKey, "unknown-kid": acstest.ForgeUnknownKid, "none": acstest.ForgeAlgNone}[value]
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

const (
	// gridTopic is the resource contoso as Azure names it.
	gridTopic       = "/subscriptions/s/resourceGroups/calls/providers/Microsoft.Communication/communicationServices/contoso"
	gridOtherTopic  = "/subscriptions/s/resourceGroups/calls/providers/Microsoft.Communication/communicationServices/fabrikam"
	gridTenant      = "5f0c8d2e-3b1a-4c47-8f6e-2d9b7a1c4e60"
	gridApplication = "9b2d4c1e-7f35-4a8b-b6d0-1e8c5a3f7042"
)

// eventGrid configures the route for Event Grid: none, or with "token", "key" or "token
// key" as credentials. Its key server is that of callbacks, so that only the tokens
// themselves keep the routes apart.
func (s *story) eventGrid(config *ingest.Config, credentials string) *verify.Verifier {
	s.t.Helper()
	profile := &verify.Entra{Tenant: gridTenant, Issuers: []string{s.issuer.Name()}, Audiences: []string{gridApplication}}
	verifier, err := verify.New(verify.Config{Entra: profile, MetadataURL: s.issuer.MetadataURL(), Transport: s.issuer.Transport()})
	if err != nil {
		s.t.Fatal(err)
	}
	route := &ingest.EventGrid{Sources: map[string]string{gridTopic: "contoso", gridOtherTopic: "fabrikam", gridSampleTopic: "samples"}}
	switch credentials {
	case "":
		return verifier
	case "token":
		route.Verifier = verifier
	case "key":
		route.Keys = gridKeys()
	case "token key":
		route.Verifier, route.Keys = verifier, gridKeys()
	default:
		s.t.Fatalf("eventgrid %q is not one of token, key, token key", credentials)
	}
	config.EventGrid = route
	return verifier
}

func gridKeys() []verify.SharedKey {
	return []verify.SharedKey{{Name: "new", Secret: "0123456789abcdef0123456789abcdef"}, {Name: "old", Secret: "fedcba9876543210fedcba9876543210"}}
}

// likeEventGrid makes a token one of Entra ID's.
func (s *story) likeEventGrid(spec *acstest.TokenSpec) {
	spec.Audience, spec.Lifetime = gridApplication, 24*time.Hour
	spec.Claims["appid"], spec.Claims["tid"] = verify.EventGridApplication, gridTenant
}
