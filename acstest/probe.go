package acstest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/internal/suggest"
	"github.com/acsbridge/acsbridge/internal/webhook"
)

// MicrosoftIssuer is the issuer of the tokens of ACS.
// https://learn.microsoft.com/azure/communication-services/how-tos/call-automation/secure-webhook-endpoint
const MicrosoftIssuer = "https://acscallautomation.communication.azure.com"

// Verdict is what an answer, or all of them, say about a webhook.
type Verdict string

// The verdicts.
const (
	Pass Verdict = "pass"
	Fail Verdict = "fail"
	// Inconclusive means that the webhook refuses the good callbacks, too: the refusal
	// of a bad one does not show that the webhook has seen what is wrong with it.
	Inconclusive Verdict = "inconclusive"
)

// Probe tests how a webhook checks the tokens of its callbacks. The webhook must take
// its keys from the issuer, or else only [Probe.Untrusted] is conclusive.
type Probe struct {
	// Target is the URL of the webhook. Every callback is posted to it as it is. Required.
	Target string
	// Issuer signs the tokens. It must be started. Required.
	Issuer *Issuer
	// Audience is the aud of good tokens, which the webhook expects. Empty means
	// [DemoAudience], or with Untrusted is an error.
	Audience string
	// EventType is the type of the events. Empty means ParticipantsUpdated, which
	// applications seldom act on.
	EventType string
	// Untrusted leaves out all checks that are inconclusive when the webhook takes no
	// keys from the issuer, because it has that of Microsoft fixed in its code.
	Untrusted bool
	// Skip names checks to leave out.
	Skip []string
	// Wait is how long the first callback is sent again while it has no answer, or one
	// that says to try later. Zero means once.
	Wait time.Duration
	// Transport carries the requests. Nil means one that keeps connections open.
	Transport http.RoundTripper
	// OnCheck is called with each outcome, one at a time. It may be nil.
	OnCheck func(ProbeCheck)
}

// ProbeCheck is one callback to the webhook and what its answer says.
type ProbeCheck struct {
	Name    string  `json:"check"`
	About   string  `json:"about"`  // what the callback is
	Want    string  `json:"want"`   // right answers
	Status  int     `json:"status"` // of the answer; 0 means none
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason,omitempty"` // of a verdict other than pass
}

// ProbeReport is the outcome of a [Probe].
type ProbeReport struct {
	Verdict Verdict `json:"verdict"` // the worst of the checks
	// Trusted says that the webhook did not refuse a good token of the issuer.
	Trusted bool `json:"trusted"`
	// MetadataFetches and KeyFetches are how often the OIDC document and the key set of
	// the issuer were requested.
	MetadataFetches int          `json:"metadata_fetches"`
	KeyFetches      int          `json:"key_fetches"`
	Checks          []ProbeCheck `json:"checks"`
}

// Count returns how many checks have a verdict.
func (r *ProbeReport) Count(v Verdict) (n int) {
	for _, c := range r.Checks {
		if c.Verdict == v {
			n++
		}
	}
	return n
}

// probeKind is a kind of callback that a probe sends.
type probeKind struct {
	name, about string
	bearer      Bearer
	good        bool     // must be accepted
	untrusted   bool     // whether a refusal is conclusive without a good callback that is accepted
	unknownKid  bool     // for which 503 is right as well
	signer      signedBy // zero: the issuer
}

// signedBy selects who signs the token of a probe.
type signedBy int

const (
	byIssuer    signedBy = iota
	withMinimum          // the issuer, with the documented claims alone
	byImpostor           // another key, in the name of Microsoft
)

// probeKinds are in the order in which they are sent: the good ones first, for what
// the others mean without them.
var probeKinds = []probeKind{
	{name: "good", about: "a good token", good: true},
	{name: "repeated", about: "the same event again", good: true},
	{name: "minimal", about: "iss, aud and exp alone", good: true, signer: withMinimum},
	{name: "missing", about: "no Authorization header", bearer: BearerMissing, untrusted: true},
	{name: "malformed", about: "a token that is not a JWT", bearer: BearerMalformed, untrusted: true},
	{name: "alg-none", about: "alg none, not signed", bearer: BearerAlgNone},
	{name: "alg-hmac", about: "HS256 with the public key", bearer: BearerAlgHMAC},
	{name: "forged", about: "signed by another key", bearer: BearerForged},
	{name: "expired", about: "expired an hour ago", bearer: BearerExpired},
	{name: "no-expiry", about: "without exp", bearer: BearerNoExpiry},
	{name: "day-long", about: "lives a day, as for WebSockets", bearer: BearerDayLong},
	{name: "wrong-audience", about: "for another resource", bearer: BearerWrongAudience},
	{name: "wrong-issuer", about: "in another issuer's name", bearer: BearerWrongIssuer},
	{name: "unknown-kid", about: "names an unpublished key", bearer: BearerUnknownKid, unknownKid: true},
	{name: "microsoft-forged", about: "in Microsoft's name, forged", signer: byImpostor, untrusted: true, unknownKid: true},
	{name: "microsoft-none", about: "in Microsoft's name, not signed", bearer: BearerAlgNone, signer: byImpostor, untrusted: true, unknownKid: true},
}

// ProbeNames returns the names of all checks, in the order in which they are made.
func ProbeNames() (names []string) {
	for _, k := range probeKinds {
		names = append(names, k.name)
	}
	return names
}

// Run makes the checks. It returns an error, and no report, when the options are wrong,
// ctx ended, or nothing answers.
func (p *Probe) Run(ctx context.Context) (*ProbeReport, error) {
	kinds, err := p.kinds()
	if err != nil {
		return nil, err
	}
	callers, err := p.callers()
	if err != nil {
		return nil, err
	}
	for _, caller := range callers {
		defer caller.Close()
	}
	call := NewCall()
	first, err := call.NewEvent(cmp.Or(p.EventType, "ParticipantsUpdated"))
	if err != nil {
		return nil, err
	}

	report := &ProbeReport{Verdict: Pass}
	for i, kind := range kinds {
		event := first
		if kind.name != "repeated" {
			if event, err = call.NewEvent(first.Type); err != nil {
				return nil, err
			}
		}
		if kind.name == "good" {
			first = event
		}
		callback := Callback{Events: []WireEvent{event}, Bearer: kind.bearer}
		a := p.send(ctx, callers[kind.signer], callback, i == 0)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if i == 0 && a.Status == 0 {
			return nil, fmt.Errorf("nothing answers at the webhook: %w", a.Err)
		}
		report.MetadataFetches, report.KeyFetches = p.Issuer.Fetches()
		if kind.name == "good" {
			report.Trusted = !refused(a.Status)
		}
		c := ProbeCheck{Name: kind.name, About: kind.about, Want: kind.want(), Status: a.Status}
		c.Verdict, c.Reason = p.judge(&kind, a, report)
		report.Checks = append(report.Checks, c)
		if c.Verdict == Fail || report.Verdict == Pass {
			report.Verdict = c.Verdict
		}
		if p.OnCheck != nil {
			p.OnCheck(c)
		}
	}
	return report, nil
}

// kinds are the checks to make.
func (p *Probe) kinds() ([]probeKind, error) {
	switch {
	case p.Issuer == nil:
		return nil, errors.New("the probe has no issuer")
	case p.Untrusted && p.Audience == "":
		return nil, errors.New("without a trusted issuer the probe needs the audience of the webhook, which would refuse another one for that alone")
	}
	for _, name := range p.Skip {
		if names := ProbeNames(); !slices.Contains(names, name) {
			nearest, _ := suggest.Nearest(name, names)
			return nil, fmt.Errorf("unknown check %q, did you mean %s? checks: %s", name, nearest, strings.Join(names, ", "))
		}
	}
	kinds := slices.DeleteFunc(slices.Clone(probeKinds), func(k probeKind) bool {
		return p.Untrusted && !k.untrusted || slices.Contains(p.Skip, k.name)
	})
	if !p.Untrusted && !slices.ContainsFunc(kinds, func(k probeKind) bool { return k.name == "good" }) {
		return nil, errors.New("the check good cannot be left out: without it the others are inconclusive")
	}
	return kinds, nil
}

// callers post each callback once, signed in each of the ways.
func (p *Probe) callers() (map[signedBy]*Caller, error) {
	impostor, err := NewIssuer(IssuerOptions{Issuer: MicrosoftIssuer})
	if err != nil {
		return nil, err
	}
	callers := make(map[signedBy]*Caller)
	for by, signer := range map[signedBy]Signer{byIssuer: p.Issuer, withMinimum: minimalSigner{p.Issuer}, byImpostor: impostor} {
		callers[by], err = NewCaller(CallerOptions{Target: p.Target, Signer: signer, Audience: p.Audience, Attempts: 1, Transport: p.Transport})
		if err != nil {
			return nil, err
		}
	}
	return callers, nil
}

// minimalSigner leaves out the claims that Microsoft does not document.
type minimalSigner struct{ Signer }

func (s minimalSigner) Sign(spec TokenSpec) (string, error) {
	spec.Claims = map[string]any{"iat": nil, "nbf": nil, "jti": nil}
	return s.Signer.Sign(spec)
}

// send posts a callback, again for [Probe.Wait] if wait says so.
func (p *Probe) send(ctx context.Context, caller *Caller, callback Callback, wait bool) Attempt {
	began := time.Now()
	for number := 1; ; number++ {
		a := caller.Send(ctx, callback)
		answer := webhook.Answer{Status: a.Status}
		if !wait || !answer.Retryable() || time.Since(began) >= p.Wait || backoff.Wait(ctx, betweenAttempts.After(number)) != nil {
			return a
		}
	}
}

// refused reports whether a status is a refusal of the token.
func refused(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

// want says which answers are right.
func (k *probeKind) want() string {
	switch {
	case k.good:
		return "2xx"
	case k.unknownKid:
		return "401, 403, 503"
	}
	return "401, 403"
}

// judge returns the verdict on an answer, and why it is not a pass.
func (p *Probe) judge(k *probeKind, a Attempt, report *ProbeReport) (Verdict, string) {
	answer := webhook.Answer{Status: a.Status, Err: a.Err}
	switch {
	case k.good && answer.OK():
		return Pass, ""
	case k.good && refused(a.Status) && !report.Trusted && report.KeyFetches == 0:
		return Inconclusive, "refused, and the keys not asked for"
	case k.good && refused(a.Status) && !report.Trusted:
		return Fail, "refused, though it has the keys"
	case k.good && refused(a.Status):
		return Fail, "refused"
	case answer.OK():
		return Fail, "accepted"
	case k.good:
		return Fail, "not accepted: " + answer.String()
	case !refused(a.Status) && !(k.unknownKid && a.Status == http.StatusServiceUnavailable):
		return Fail, "not refused, but " + answer.String()
	case report.Trusted, p.Untrusted, k.untrusted && (k.signer != byImpostor || p.Audience != ""):
		return Pass, ""
	case k.signer == byImpostor:
		return Inconclusive, "refused, perhaps for its audience alone"
	}
	return Inconclusive, "refused, but so is a good one"
}
