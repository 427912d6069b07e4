package verify

import (
	"cmp"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/internal/setting"
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

// Check returns what is wrong with a configuration, each as an error of a setting of
// the command line. [New] refuses what it refuses.
func (c Config) Check() error {
	_, err := c.complete()
	return err
}

// complete checks the whole configuration and fills in the defaults.
func (c Config) complete() (Config, error) {
	var err error
	metadata := "oidc-config-url"
	if c.Entra != nil {
		metadata = "eventgrid-" + metadata
		err = c.completeEntra()
	} else {
		err = errors.Join(c.checkIssuer(), c.checkResources())
		c.Issuer = cmp.Or(c.Issuer, DefaultIssuer)
		c.MetadataURL = cmp.Or(c.MetadataURL, DefaultMetadataURL)
	}
	if err := errors.Join(err, checkURL(metadata, c.MetadataURL), c.checkRest()); err != nil {
		return Config{}, err
	}
	if c.Leeway == 0 {
		c.Leeway = defaultLeeway
	}
	if c.TokenReuse == "" {
		c.TokenReuse = ReuseReport
	}
	if c.Transport == nil {
		c.Transport = NewTransport()
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
	if (c.MetadataURL == "") != (c.Entra.Issuers == nil) {
		err = errors.Join(err, setting.Errorf("eventgrid-oidc-config-url", "goes with eventgrid-issuer; set both, or neither for the public cloud"))
	}
	var invalid error
	c.Entra, invalid = c.Entra.complete()
	c.MetadataURL = cmp.Or(c.MetadataURL, c.Entra.metadataURL())
	c.TokenReuse = ReuseOff
	return errors.Join(err, invalid)
}

func (c Config) checkIssuer() error {
	if c.Issuer == "" {
		return nil
	}
	if err := checkURL("issuer", c.Issuer); err != nil {
		return err
	}
	if c.Issuer != DefaultIssuer && (c.MetadataURL == "" || c.MetadataURL == DefaultMetadataURL) {
		return setting.Errorf("oidc-config-url", "is that of another issuer; name the metadata document of the issuer you set")
	}
	return nil
}

// checkURL checks the address of something that is trusted because of its host: it is
// https, or http on a loopback host. The error does not repeat it: people paste URLs
// with logins.
func checkURL(name, text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return setting.Errorf(name, "is not a URL; write it like %s", DefaultIssuer)
	case u.User != nil || u.Fragment != "":
		return setting.Errorf(name, "must not hold a login or a fragment")
	case !trustworthy(u):
		return setting.Errorf(name, "is plain http, which anyone on the way can change; https is needed except on loopback")
	}
	return nil
}

// checkResources does not repeat what may be a secret: people paste connection
// strings, which hold the access key.
func (c Config) checkResources() error {
	const name = "resource"
	if len(c.Resources) == 0 {
		return setting.Errorf(name, "at least one is needed; write NAME=GUID, where GUID is the immutable resource id: "+
			"az communication show --query immutableResourceId")
	}
	var problems []error
	for i, r := range c.Resources {
		if !resourceName.MatchString(r.Name) {
			problems = append(problems, setting.Errorf(name, "number %d has no usable name; write NAME=GUID, where NAME is 1 to 64 letters, digits, _ or -", i+1))
		}
		if r.Audience == "" || r.Audience != strings.TrimSpace(r.Audience) {
			problems = append(problems, setting.Errorf(name, "number %d: the GUID is empty or has blanks around it; it is compared exactly", i+1))
		}
		for _, other := range c.Resources[:i] {
			if r.Name == other.Name || foldGUIDs(r.Audience) == foldGUIDs(other.Audience) {
				problems = append(problems, setting.Errorf(name, "%s: name or GUID given twice; each resource needs its own of both", r.Name))
			}
		}
	}
	return errors.Join(problems...)
}

func (c Config) checkRest() error {
	var problems []error
	if c.Leeway < 0 || c.Leeway > maxLeeway {
		problems = append(problems, setting.Errorf("leeway", "%v is not between 0s and %v", c.Leeway, maxLeeway))
	}
	if !slices.Contains([]ReusePolicy{"", ReuseReport, ReuseRefuse, ReuseOff}, c.TokenReuse) {
		problems = append(problems, setting.Errorf("token-reuse", "%q is none of report, refuse, off", c.TokenReuse))
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
