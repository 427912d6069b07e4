package config

import (
	"strings"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/verify"
)

// gridSettings are about the route for Event Grid, and its proofs.
type gridSettings struct {
	GridPath     string   `name:"eventgrid-path" help:"Path for deliveries of Event Grid. The route exists only with --eventgrid-tenant or --eventgrid-key." default:"${eventgrid}" placeholder:"PATH"`
	GridSource   []string `name:"eventgrid-source" help:"Resource whose events Event Grid delivers: its name in --resource and its path in Azure. Repeatable." placeholder:"NAME=PATH"`
	GridTenant   string   `name:"eventgrid-tenant" help:"Directory of Entra ID whose tokens deliveries must have." placeholder:"GUID"`
	GridAudience []string `name:"eventgrid-audience" help:"Application of that directory which tokens must be for: its id, or its identifier URI. Repeatable." placeholder:"GUID"`
	GridApp      []string `name:"eventgrid-app" help:"Application which tokens must be issued to. The default is Event Grid in the public cloud. Repeatable." default:"${eventgridApp}" placeholder:"GUID"`
	GridIssuer   []string `name:"eventgrid-issuer" help:"Issuer that tokens must name. Repeatable. None means the two of the directory in the public cloud." placeholder:"URL"`
	GridOIDC     string   `name:"eventgrid-oidc-config-url" help:"OpenID metadata document that names the signing keys. None means that of the directory in the public cloud." placeholder:"URL"`
	GridKey      []string `name:"eventgrid-key" help:"Secret in the query of a delivery's URL, acsbridge-key=…: a name for it and its file. Repeatable; any one is enough. With --eventgrid-tenant, both are required." placeholder:"NAME=FILE"`
}

// on reports whether there is a route for Event Grid.
func (g *gridSettings) on() bool { return g.GridTenant != "" || len(g.GridKey) > 0 }

// grid is what [gridSettings] become: the parts that need no verifier.
type grid struct {
	keys    []verify.SharedKey
	sources map[string]string // name by topic
	entra   *verify.Entra     // nil without a tenant
}

// checkEventGrid checks [gridSettings].
func (s *Settings) checkEventGrid() {
	g := &s.gridSettings
	if !g.on() {
		s.rejectUnusedEventGrid()
		return
	}
	s.grid.keys = s.sharedKeys("eventgrid-key", g.GridKey)
	for _, key := range s.grid.keys {
		for _, other := range s.callbackKeys {
			if key.Secret == other.Secret {
				s.reject("eventgrid-key", "%s: is the callback key %s as well; each route needs its own", key.Name, other.Name)
			}
		}
	}
	s.checkEventGridSources()
	s.checkEventGridTokens()
}

// rejectUnusedEventGrid rejects what would be ignored: who set it believes that there
// is a route.
func (s *Settings) rejectUnusedEventGrid() {
	g := &s.gridSettings
	const fault = "is for Event Grid, from which nothing is taken without a proof; add eventgrid-tenant or eventgrid-key"
	if g.GridPath != ingest.DefaultGridPath {
		s.reject("eventgrid-path", fault)
	}
	if len(g.GridSource) > 0 {
		s.reject("eventgrid-source", fault)
	}
	s.rejectUnusedTokens(fault)
}

// rejectUnusedTokens refuses settings of tokens when none is asked for.
func (s *Settings) rejectUnusedTokens(fault string) {
	g := &s.gridSettings
	for _, setting := range []struct {
		name  string
		given bool
	}{
		{"eventgrid-audience", len(g.GridAudience) > 0},
		{"eventgrid-app", len(g.GridApp) != 1 || g.GridApp[0] != verify.EventGridApplication},
		{"eventgrid-issuer", len(g.GridIssuer) > 0},
		{"eventgrid-oidc-config-url", g.GridOIDC != ""},
	} {
		if setting.given {
			s.reject(setting.name, "%s", fault)
		}
	}
}

// gridSources parses NAME=PATH. The names are those of resources: the subject of
// an event must not depend on the way that it came.
func (s *Settings) checkEventGridSources() {
	const setting = "eventgrid-source"
	if len(s.GridSource) == 0 {
		s.reject(setting, "at least one is needed; write NAME=PATH, where PATH is the resource's: az communication show --query id")
	}
	known := map[string]bool{}
	for _, r := range s.resources {
		known[r.Name] = true
	}
	s.grid.sources = map[string]string{}
	for i, entry := range s.GridSource {
		name, topic, _ := strings.Cut(strings.TrimSpace(entry), "=")
		topic = strings.ToLower(topic)
		switch {
		case !known[name]:
			s.reject(setting, "number %d names no resource; write NAME=PATH, where NAME is one in resource", i+1)
		case !strings.HasPrefix(topic, "/subscriptions/") || strings.HasSuffix(topic, "/") || strings.ContainsAny(topic, " \t"):
			s.reject(setting, "%s: the part after = is not the resource's path in Azure, /subscriptions/…; az communication show --query id prints it", name)
		case s.grid.sources[topic] != "":
			s.reject(setting, "%s: path given twice", name)
		default:
			s.grid.sources[topic] = name
		}
	}
}

// checkEventGridTokens checks which tokens are good.
func (s *Settings) checkEventGridTokens() {
	g := &s.gridSettings
	if g.GridTenant == "" {
		s.rejectUnusedTokens("is about tokens, and none is asked for; add eventgrid-tenant")
		return
	}
	s.grid.entra = &verify.Entra{Tenant: g.GridTenant, Issuers: g.GridIssuer, Audiences: g.GridAudience, Applications: g.GridApp}
	s.report(s.EventGrid().Check())
}
