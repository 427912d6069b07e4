package verify

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/internal/setting"
)

// EventGridApplication is the application ID under which Azure Event Grid gets
// its tokens in the public cloud. Other clouds have others.
// https://learn.microsoft.com/azure/event-grid/secure-webhook-delivery
const EventGridApplication = "4962773b-9cdb-44cf-a8bf-237846a00ab7"

// maxEntraLifetime is the longest lifetime of a token of Event Grid. Those live 24
// hours, and Entra ID dates the beginning five minutes back.
const maxEntraLifetime = 25 * time.Hour

// Entra is the profile of tokens that Microsoft Entra ID issues to an
// application of Microsoft, such as Event Grid, for ours. Such a token names
// the sender and the receiver, but not an ACS resource: see [Claims.ForResource].
type Entra struct {
	// Tenant is the directory, a GUID, in which our application is registered.
	// Here and below, GUIDs may be in either case.
	// Any tenant can have Entra ID issue tokens, so the issuers name this one.
	Tenant string

	// Issuers are the iss of good tokens. The OIDC document must name one of them. Nil means the two of the tenant in the public cloud, since an
	// application's registration decides whether it gets tokens of version 1 or
	// 2. Both are signed with the same keys.
	// https://learn.microsoft.com/entra/identity-platform/access-tokens
	Issuers []string

	// Audiences are the aud that name our application: its ID, a GUID, or its
	// identifier URI. At least one.
	Audiences []string

	// Applications are the IDs of the applications that may send. Nil means
	// EventGridApplication. A token names the application that it was issued to
	// as appid (version 1) or azp (version 2). Without this check, any
	// application of the tenant could get a token for ours.
	Applications []string
}

// complete checks the profile and fills in the defaults.
func (e Entra) complete() (*Entra, error) {
	var problems []error
	if !isGUID(e.Tenant) {
		problems = append(problems, setting.Errorf("eventgrid-tenant", "%q is not a GUID", e.Tenant))
	}
	if e.Issuers == nil {
		e.Issuers = []string{
			"https://login.microsoftonline.com/" + e.Tenant + "/v2.0",
			"https://sts.windows.net/" + e.Tenant + "/",
		}
	}
	if e.Applications == nil {
		e.Applications = []string{EventGridApplication}
	}
	for _, issuer := range e.Issuers {
		problems = append(problems, checkURL("eventgrid-issuer", issuer))
	}
	if len(e.Issuers) == 0 {
		problems = append(problems, setting.Errorf("eventgrid-issuer", "at least one is needed"))
	}
	if len(e.Audiences) == 0 {
		problems = append(problems, setting.Errorf("eventgrid-audience", "is needed beside eventgrid-tenant; it is the application that is registered for this bridge"))
	}
	for _, audience := range e.Audiences {
		if audience == "" || strings.ContainsAny(audience, " \t") {
			problems = append(problems, setting.Errorf("eventgrid-audience", "%q is empty or has blanks; it is compared exactly", audience))
		}
	}
	if len(e.Applications) == 0 {
		problems = append(problems, setting.Errorf("eventgrid-app", "at least one is needed"))
	}
	for _, application := range e.Applications {
		if !isGUID(application) {
			problems = append(problems, setting.Errorf("eventgrid-app", "%q is not a GUID", application))
		}
	}
	return &e, errors.Join(problems...)
}

// metadataURL is the OIDC document of the tenant in the public cloud.
func (e *Entra) metadataURL() string {
	return "https://login.microsoftonline.com/" + url.PathEscape(e.Tenant) + "/v2.0/.well-known/openid-configuration"
}

// check checks the audience of a token, and the application that it was issued to.
func (e *Entra) check(c *Claims) error {
	for _, audience := range c.registered.Audience {
		if contains(e.Audiences, audience) {
			c.audience = audience
		}
	}
	if c.audience == "" {
		return refuse(WrongAudience, "aud does not name our application")
	}
	foreign := func(id string) bool { return !contains(e.Applications, id) }
	if len(c.applications) == 0 || slices.ContainsFunc(c.applications, foreign) {
		return refuse(WrongApplication, "appid or azp does not name an application that may send")
	}
	c.sender = true
	return nil
}

// foreignKey reports whether a key belongs to another issuer. The key sets of Entra
// ID also hold keys for consumers' accounts, and each key names its issuer, with a
// placeholder for the tenant. A key without an issuer is for all.
// https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-the-issuer
func (e *Entra) foreignKey(issuer any) bool {
	name, _ := issuer.(string)
	return issuer != nil && !contains(e.Issuers, strings.ReplaceAll(name, "{tenantid}", e.Tenant))
}
