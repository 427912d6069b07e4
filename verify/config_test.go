package verify_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/verify"
)

func contoso() []verify.Resource {
	return []verify.Resource{{Name: resource, Audience: audience}}
}

func TestNew_resourceAlone(t *testing.T) {
	v, err := verify.New(verify.Config{Resources: contoso()})
	if err != nil {
		t.Fatal(err)
	}
	if s := v.Keys(); s.Held != 0 || s.LastError != nil {
		t.Errorf("status %+v before Run, want none", s)
	}
}

// An empty issuer or audience would switch golang-jwt's check off.
func TestNew_J3_badSettings(t *testing.T) {
	two := func(name, audience string) []verify.Resource {
		return append(contoso(), verify.Resource{Name: name, Audience: audience})
	}
	const elsewhere = "https://issuer.example/metadata"
	tests := map[string]struct {
		config verify.Config
		want   string // prefix of the problem
	}{
		"no resource":         {verify.Config{}, "resource: at least one"},
		"empty name":          {verify.Config{Resources: two("", "b")}, "resource: number 2 has no usable name"},
		"name with a dot":     {verify.Config{Resources: two("a.b", "b")}, "resource: number 2 has no usable name"},
		"name with a line":    {verify.Config{Resources: two("a\n", "b")}, "resource: number 2 has no usable name"},
		"name too long":       {verify.Config{Resources: two(strings.Repeat("a", 65), "b")}, "resource: number 2 has no usable name"},
		"name twice":          {verify.Config{Resources: two(resource, "b")}, "resource: contoso: name or GUID given twice"},
		"empty audience":      {verify.Config{Resources: two("b", "")}, "resource: number 2: the GUID is empty"},
		"blank audience":      {verify.Config{Resources: two("b", " ")}, "resource: number 2: the GUID is empty"},
		"audience with blank": {verify.Config{Resources: two("b", audience+" ")}, "resource: number 2: the GUID is empty or has blanks"},
		"audience twice":      {verify.Config{Resources: two("b", audience)}, "resource: b: name or GUID given twice"},
		"audience in caps":    {verify.Config{Resources: two("b", strings.ToUpper(audience))}, "resource: b: name or GUID given twice"},
		"blank issuer":        {verify.Config{Resources: contoso(), Issuer: " ", MetadataURL: elsewhere}, "issuer: is not a URL"},
		"issuer with blank":   {verify.Config{Resources: contoso(), Issuer: "https://a ", MetadataURL: elsewhere}, "issuer: is not a URL"},
		"issuer alone":        {verify.Config{Resources: contoso(), Issuer: "https://a"}, "oidc-config-url: is that of another issuer"},
		"no URL":              {verify.Config{Resources: contoso(), MetadataURL: "https://%"}, "oidc-config-url: is not a URL"},
		"no scheme":           {verify.Config{Resources: contoso(), MetadataURL: "issuer.example"}, "oidc-config-url: "},
		"no host":             {verify.Config{Resources: contoso(), MetadataURL: "https:///metadata"}, "oidc-config-url: "},
		"file":                {verify.Config{Resources: contoso(), MetadataURL: "file:///metadata"}, "oidc-config-url: "},
		"plain http":          {verify.Config{Resources: contoso(), MetadataURL: "http://issuer.example/metadata"}, "oidc-config-url: "},
		"http of link-local":  {verify.Config{Resources: contoso(), MetadataURL: "http://169.254.169.254/metadata"}, "oidc-config-url: "},
		"http of a lookalike": {verify.Config{Resources: contoso(), MetadataURL: "http://localhost.example/metadata"}, "oidc-config-url: "},
		"user":                {verify.Config{Resources: contoso(), MetadataURL: "https://u:secret@issuer.example/"}, "oidc-config-url: must not hold a login"},
		"negative leeway":     {verify.Config{Resources: contoso(), Leeway: -1}, "leeway: -1ns"},
		"too much leeway":     {verify.Config{Resources: contoso(), Leeway: 5*time.Minute + 1}, "leeway: "},
		"reuse":               {verify.Config{Resources: contoso(), TokenReuse: "warn"}, `token-reuse: "warn"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := verify.New(test.config)
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got %v, want %s…", err, test.want)
			}
			if err != nil && (strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "secret")) {
				t.Errorf("more than one problem, or a secret: %v", err)
			}
		})
	}
}

func TestVerify_J3_configuredInUpperCase(t *testing.T) {
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		c := config(issuer)
		c.Resources = []verify.Resource{{Name: resource, Audience: strings.ToUpper(audience)}}
		v := start(t, c)
		expect(t, v, sign(t, issuer, acstest.TokenSpec{Audience: audience}), vectorAccepted)

		c = entraConfig(issuer)
		c.Entra.Tenant, c.Entra.Audiences = strings.ToUpper(tenant), []string{"api://" + strings.ToUpper(application)}
		c.Entra.Applications = []string{strings.ToUpper(verify.EventGridApplication)}
		v = start(t, c)
		expect(t, v, signEntra(t, issuer, map[string]any{"aud": "api://" + application}), vectorAccepted)
	})
}

func TestNew_allProblemsAtOnce(t *testing.T) {
	_, err := verify.New(verify.Config{
		Issuer:      " ",
		MetadataURL: "http://issuer.example",
		Resources:   []verify.Resource{{Name: "a.b"}},
		Leeway:      -time.Second,
		TokenReuse:  "maybe",
	})
	if err == nil {
		t.Fatal("no problem")
	}
	for _, setting := range []string{"issuer: ", "oidc-config-url: ", "resource: number 1 has no", "resource: number 1: the GUID", "leeway: ", "token-reuse: "} {
		if !strings.Contains("\n"+err.Error(), "\n"+setting) {
			t.Errorf("nothing about %q in:\n%v", setting, err)
		}
	}
}

func TestNew_K8_plainHTTPOnLoopback(t *testing.T) {
	for _, host := range []string{"localhost", "LOCALHOST:8080", "127.0.0.1", "127.1.2.3:9", "[::1]:8080"} {
		_, err := verify.New(verify.Config{Resources: contoso(), MetadataURL: "http://" + host + "/metadata"})
		if err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}
