package ingest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/acsbridge/acsbridge/verify"
)

// maxConfigured is how many configured values a line names.
const maxConfigured = 8

// signedText says why a token with a good signature was refused, and the remedy. It
// names only GUIDs and durations of the token.
func signedText(kind refusalKind, t *refusedToken, claims verify.SignedClaims) string {
	e, fact := t.explanation, ""
	switch reason := verify.Reason(kind.reason); {
	case reason == verify.WrongAudience:
		return fmt.Sprintf("a token signed by %s names %s", t.issuer, audienceText(kind, e, claims))
	case reason == verify.WrongApplication && len(claims.Applications) > 0:
		return fmt.Sprintf("a token signed by %s was issued to the application %s, configured with --eventgrid-app are %s; %s",
			t.issuer, strings.Join(claims.Applications, ", "), listed(e.ConfiguredApplications), advice(kind))
	case reason == verify.Expired && claims.Expired > 0:
		fact = fmt.Sprintf("it expired %s ago", claims.Expired)
	case reason == verify.NotYetValid && claims.Early > 0:
		fact = fmt.Sprintf("it is not valid before %s from now", claims.Early)
	case reason == verify.LifetimeTooLong && claims.Life > 0:
		fact = fmt.Sprintf("it lives %s", claims.Life)
	default:
		return fmt.Sprintf("a request with a token signed by %s was refused: %s: %s", t.issuer, t.cause, advice(kind))
	}
	return fmt.Sprintf("a token signed by %s was refused: %s: %s", t.issuer, fact, advice(kind))
}

// audienceText is about the audience of a signed token that picks no resource.
func audienceText(kind refusalKind, e *verify.Explanation, claims verify.SignedClaims) string {
	ours := 0
	for _, audience := range claims.Audiences {
		if slices.ContainsFunc(e.ConfiguredAudiences, func(c string) bool { return strings.EqualFold(c, audience) }) {
			ours++
		}
	}
	named := "audience " + strings.Join(claims.Audiences, ", ")
	switch {
	case ours > 1:
		return fmt.Sprintf("%s, which are several of --resource, and an event belongs to one: configure one of them", named)
	case len(claims.Audiences) == 0:
		named = "an audience that is not a GUID"
	case claims.OtherAudience:
		named += " and one that is not a GUID"
	}
	return fmt.Sprintf("%s, configured are %s; %s", named, listed(e.ConfiguredAudiences), advice(kind))
}

// listed names configured values, at most maxConfigured.
func listed(values []string) string {
	if more := len(values) - maxConfigured; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(values[:maxConfigured], ", "), more)
	}
	return strings.Join(values, ", ")
}

// unsignedText is about refusals where no token that was checked has a good
// signature.
func unsignedText(kind refusalKind, cause string, hadTokens bool) string {
	if hadTokens {
		cause += ", and no token that was checked has a good signature"
	}
	text := advice(kind)
	if kind.reason == string(verify.WrongAudience) { // what it is worth adding is not known
		text = "most likely the sender is not ACS; if callbacks are missing, compare --resource with the immutable id of the resource"
		if kind.route == routeEventGrid {
			text = "most likely the sender is not Event Grid; if deliveries are missing, compare --eventgrid-audience with the subscription"
		}
	}
	return cause + ": " + text
}

// advice returns the remedy for refusals of a kind: a setting, this host, or what is
// between the sender and the bridge.
func advice(kind refusalKind) string {
	if kind.route == routeEventGrid {
		if text := gridAdvice[kind.reason]; text != "" {
			return text
		}
	}
	if text := callbackAdvice[kind.reason]; text != "" {
		return text
	}
	// The rest are the reasons of malformed bodies.
	return "it is kept: see \"acsbridge quarantine list\""
}

const clockAdvice = "check this host's clock; --leeway forgives up to 5m"

var callbackAdvice = map[string]string{
	string(verify.MissingToken):      "a proxy in front that drops the Authorization header must pass it on; ACS sends one with every callback",
	string(verify.MalformedToken):    "a proxy in front must pass the Authorization header on unchanged; ACS sends one token",
	string(verify.UnsupportedHeader): "the sender is not ACS, or ACS has changed its tokens and a newer acsbridge is needed",
	string(verify.BadAlgorithm):      "the sender is not ACS, or ACS has changed its tokens and a newer acsbridge is needed",
	string(verify.UnknownKey):        "the sender is not ACS, or --oidc-config-url is that of another cloud",
	string(verify.BadSignature):      "the sender is not ACS, or something on the way changes the token",
	string(verify.Expired):           clockAdvice,
	string(verify.NotYetValid):       clockAdvice,
	string(verify.LifetimeTooLong):   "check this host's clock; tokens of ACS's media WebSockets live longer than those of callbacks, and are not accepted here",
	string(verify.WrongIssuer):       "check --issuer and --oidc-config-url, which are others in other clouds",
	string(verify.WrongAudience):     "add it only if it is the immutable id of a resource of yours: any ACS customer's token has a good signature (--resource NAME=GUID)",
	string(verify.TokenReused):       "look for a sender that saw the token; --token-reuse report accepts both bodies and counts them",

	reasonCallbackKey:     "the callback URL that the application gives to ACS must have the acsbridge-key of a --callback-key",
	reasonSource:          "check --source-range; behind a proxy, name it with --trusted-proxy; --log-level debug shows the address as the bridge sees it",
	reasonRefusedClient:   "behind a proxy on a public address, name it with --trusted-proxy, or all its clients are one",
	reasonConnectionLimit: "behind a proxy on a public address, name it with --trusted-proxy; else raise --max-connections",
	reasonNotFound:        "compare the callback URL that the application gives to ACS, and what a proxy in front makes of it, with --callback-path and --eventgrid-path",
	reasonMethod:          "a redirect in front, to https or to another path, turns POST into GET: ACS must be given the URL behind it",
	reasonTooLarge:        "a body has 256 KiB at most",
	reasonIncomplete:      "a proxy in front, or the network, cuts bodies off or is slower than ten seconds",
	reasonMediaType:       "a proxy in front must leave Content-Type and Content-Encoding as they are; the body must be JSON in UTF-8, not compressed",
}

var gridAdvice = map[string]string{
	string(verify.MissingToken):     "the subscription must have the application of --eventgrid-audience, and a proxy in front must pass the Authorization header on",
	string(verify.UnknownKey):       "the sender is not Event Grid, or --eventgrid-oidc-config-url is that of another cloud",
	string(verify.BadSignature):     "the sender is not Event Grid, or something on the way changes the token",
	string(verify.LifetimeTooLong):  "check this host's clock; a token of Event Grid lives a day",
	string(verify.WrongIssuer):      "check --eventgrid-tenant, or in another cloud --eventgrid-issuer",
	string(verify.WrongAudience):    "add it to --eventgrid-audience only if it is an application of yours that Event Grid is to send to",
	string(verify.WrongApplication): "add it to --eventgrid-app only if it is Event Grid, which has another id in another cloud",

	reasonGridKey:         "the endpoint of the subscription must have the acsbridge-key of an --eventgrid-key",
	reasonTooLarge:        "a body has 256 KiB at most: give the subscription --max-events-per-batch 16 and --preferred-batch-size-in-kilobytes 128",
	string(UnknownSource): "add the topic with --eventgrid-source, then publish what was kept: \"acsbridge quarantine redrive\"",
}
