package ingest_test

import (
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/verify"
)

const (
	// gridTopic is the resource contoso as Azure names it.
	gridTopic       = "/subscriptions/s/resourceGroups/calls/providers/Microsoft.Communication/communicationServices/contoso"
	gridOtherTopic  = "/subscriptions/s/resourceGroups/calls/providers/Microsoft.Communication/communicationServices/fabrikam"
	gridTenant      = "5f0c8d2e-3b1a-4c47-8f6e-2d9b7a1c4e60"
	gridApplication = "9b2d4c1e-7f35-4a8b-b6d0-1e8c5a3f7042"
)

// eventGrid gives a bridge the route for Event Grid that a story asks for: none,
// or with the proof "token", "key" or "token key". Its key server is that of
// callbacks: nothing but the tokens themselves keeps the routes apart.
func (s *story) eventGrid(config *ingest.Config, proof string) *verify.Verifier {
	s.t.Helper()
	profile := &verify.Entra{Tenant: gridTenant, Issuers: []string{s.issuer.Name()}, Audiences: []string{gridApplication}}
	verifier, err := verify.New(verify.Config{Entra: profile, MetadataURL: s.issuer.MetadataURL(), Transport: s.issuer.Transport()})
	if err != nil {
		s.t.Fatal(err)
	}
	route := &ingest.EventGrid{Sources: map[string]string{gridTopic: "contoso", gridOtherTopic: "fabrikam", gridSampleTopic: "samples"}}
	switch proof {
	case "":
		return verifier
	case "token":
		route.Verifier = verifier
	case "key":
		route.Keys = gridKeys()
	case "token key":
		route.Verifier, route.Keys = verifier, gridKeys()
	default:
		s.t.Fatalf("eventgrid %q is none of token, key, token key", proof)
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
