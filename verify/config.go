package verify

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The issuer of ACS in the public cloud and its OIDC document. The document is
// not at the issuer's /.well-known/openid-configuration.
// https://learn.microsoft.com/azure/communication-services/how-tos/call-automation/secure-webhook-endpoint
const (
	DefaultIssuer      = "https://acscallautomation.communication.azure.com"
	DefaultMetadataURL = DefaultIssuer + "/calling/.well-known/acsopenidconfiguration"
)

// Bounds of the leeway. Microsoft does not name any; Envoy and gRPC allow a minute.
// With five, a token lives twice as long as its issuer meant.
const (
	defaultLeeway = time.Minute
	maxLeeway     = 5 * time.Minute
)

// Resource is one ACS resource that callbacks are taken for.
type Resource struct {
	Name     string // becomes a token of the NATS subject
	Audience string // the immutable resource ID, a GUID in either case
}

// resourceName can be a token of a subject without encoding.
var resourceName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// ReusePolicy decides what happens to a token that comes again with another body.
//
// ACS makes a new token for every event, so this looks like a stolen token.
// That is not certain: RS256 is deterministic, so two tokens made in one second are
// the same string unless a claim such as jti differs, and Microsoft does not
// document whether one does. Refuse only after the metric has stayed at zero with
// your own traffic.
type ReusePolicy string

// The policies.
const (
	ReuseReport ReusePolicy = "report" // count it, log it, let it pass
	ReuseRefuse ReusePolicy = "refuse" // refuse it with TokenReused
	ReuseOff    ReusePolicy = "off"    // remember nothing
)

// Config is what a [Verifier] works with.
type Config struct {
	// Issuer is the exact iss of good tokens, and of the OIDC document. Empty
	// means DefaultIssuer.
	Issuer string

	// MetadataURL is the address of the OIDC document. Empty means
	// DefaultMetadataURL. The keys are trusted because of its host and TLS
	// certificate, so it is https, or http on a loopback host.
	MetadataURL string

	// Resources are the resources that tokens may name; at least one.
	Resources []Resource

	// Entra selects the profile of Microsoft Entra ID instead of callbacks. Then
	// Issuer and Resources stay empty, an empty MetadataURL means that of the
	// tenant, and TokenReuse is off: Event Grid sends a token with many events.
	Entra *Entra

	// Leeway is the clock skew that is allowed on every date. Zero means one
	// minute; five is the maximum.
	Leeway time.Duration

	// TokenReuse is the policy on reused tokens. Empty means ReuseReport.
	TokenReuse ReusePolicy

	// Transport fetches keys. Nil means one with bounds on time and header size,
	// and with the proxy of the environment. Another one should bound the response
	// header to 64 KiB.
	Transport http.RoundTripper

	// Logger gets fetches and reused tokens, never a token or a kid. Nil discards.
	Logger *slog.Logger

	// Registerer gets the metrics. Nil means that none are registered.
	Registerer prometheus.Registerer

	// Now is the clock for the dates of tokens; nil means time.Now. Timers and the
	// age of keys use the machine's clock.
	Now func() time.Time
}

// complete checks the whole configuration and fills in the defaults.
func (c Config) complete() (Config, error) {
	var err error
	if c.Entra != nil {
		err = c.completeEntra()
	} else {
		err = errors.Join(c.checkIssuer(), c.checkResources())
		c.Issuer = cmp.Or(c.Issuer, DefaultIssuer)
		c.MetadataURL = cmp.Or(c.MetadataURL, DefaultMetadataURL)
	}
	if err := errors.Join(err, c.checkMetadataURL(), c.checkRest()); err != nil {
		return Config{}, err
	}
	if c.Leeway == 0 {
		c.Leeway = defaultLeeway
	}
	if c.TokenReuse == "" {
		c.TokenReuse = ReuseReport
	}
	if c.Transport == nil {
		c.Transport = newTransport()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}

// completeEntra is complete for the profile of Entra ID.
func (c *Config) completeEntra() (err error) {
	if c.Issuer != "" || c.Resources != nil {
		err = errors.New("entra: has issuers and audiences of its own, and picks no resource")
	}
	var invalid error
	c.Entra, invalid = c.Entra.complete()
	c.MetadataURL = cmp.Or(c.MetadataURL, c.Entra.metadataURL())
	c.TokenReuse = ReuseOff
	return errors.Join(err, invalid)
}

func (c Config) checkIssuer() error {
	var problems []error
	if c.Issuer != strings.TrimSpace(c.Issuer) {
		problems = append(problems, fmt.Errorf("issuer: %q has blanks around it: it is compared exactly", c.Issuer))
	}
	if c.MetadataURL == "" && c.Issuer != "" && c.Issuer != DefaultIssuer {
		problems = append(problems, fmt.Errorf("oidc-config-url: needed when the issuer is %q: "+
			"the default belongs to %s", c.Issuer, DefaultIssuer))
	}
	return errors.Join(problems...)
}

func (c Config) checkMetadataURL() error {
	u, err := url.Parse(c.MetadataURL)
	switch {
	case err != nil:
		return errors.New("oidc-config-url: not a URL")
	case u.User != nil || u.Fragment != "":
		return errors.New("oidc-config-url: must have no user and no fragment")
	case !trustworthy(u):
		return fmt.Errorf("oidc-config-url: %q must be https: "+
			"keys read over plain http can be replaced on the way (http is for loopback hosts)", c.MetadataURL)
	}
	return nil
}

func (c Config) checkResources() error {
	if len(c.Resources) == 0 {
		return errors.New("resource: at least one is needed: NAME=AUDIENCE, " +
			"the audience being the immutable resource ID of the ACS resource")
	}
	var problems []error
	for i, r := range c.Resources {
		if !resourceName.MatchString(r.Name) {
			problems = append(problems, fmt.Errorf("resource: name %q must be 1 to 64 of A-Z a-z 0-9 _ -: "+
				"it becomes part of the subject", r.Name))
		}
		if r.Audience == "" || r.Audience != strings.TrimSpace(r.Audience) {
			problems = append(problems, fmt.Errorf("resource: audience %q of %q must not be empty "+
				"or have blanks around it: it is compared exactly", r.Audience, r.Name))
		}
		for _, other := range c.Resources[:i] {
			if r.Name == other.Name {
				problems = append(problems, fmt.Errorf("resource: name %q is given twice", r.Name))
			}
			if foldGUIDs(r.Audience) == foldGUIDs(other.Audience) {
				problems = append(problems, fmt.Errorf("resource: %q and %q have one audience "+
					"(a GUID is the same in either case): it must pick exactly one resource", other.Name, r.Name))
			}
		}
	}
	return errors.Join(problems...)
}

func (c Config) checkRest() error {
	var problems []error
	if c.Leeway < 0 || c.Leeway > maxLeeway {
		problems = append(problems, fmt.Errorf("leeway: %v is not between 0 and %v", c.Leeway, maxLeeway))
	}
	if !slices.Contains([]ReusePolicy{"", ReuseReport, ReuseRefuse, ReuseOff}, c.TokenReuse) {
		problems = append(problems, fmt.Errorf("token-reuse: %q is none of report, refuse, off", c.TokenReuse))
	}
	return errors.Join(problems...)
}

// trustworthy reports whether an answer certainly comes from the host of u: by TLS,
// or because it never leaves the machine (RFC 6761, section 6.3 reserves localhost
// for that).
func trustworthy(u *url.URL) bool {
	switch u.Scheme {
	case "https":
		return u.Hostname() != ""
	case "http":
		ip := net.ParseIP(u.Hostname())
		return strings.EqualFold(u.Hostname(), "localhost") || ip != nil && ip.IsLoopback()
	}
	return false
}

// guidLength is the length of a GUID in characters.
const guidLength = 36

var guid = regexp.MustCompile(`\b[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b`)

// isGUID reports whether a text is a GUID, in either case.
func isGUID(text string) bool { return len(text) == guidLength && guid.MatchString(text) }

// foldGUIDs returns text with the GUIDs in it in lower case. GUIDs are equal
// whatever their case (RFC 9562, section 4), and Azure's tools write either; the
// text around them, such as api://, stays exact.
func foldGUIDs(text string) string { return guid.ReplaceAllStringFunc(text, strings.ToLower) }

// contains reports whether a list has a text, with GUIDs in either case.
func contains(list []string, text string) bool {
	return slices.ContainsFunc(list, func(own string) bool {
		return own == text || strings.EqualFold(own, text) && foldGUIDs(own) == foldGUIDs(text)
	})
}
