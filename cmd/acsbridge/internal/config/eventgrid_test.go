package config

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/verify"
)

const (
	testTenant      = "5f0c8d2e-3b1a-4c47-8f6e-2d9b7a1c4e60"
	testApplication = "9b2d4c1e-7f35-4a8b-b6d0-1e8c5a3f7042"
	testTopic       = "/subscriptions/s/resourceGroups/calls/providers/Microsoft.Communication/communicationServices/contoso"
)

// gridArgs are the least that tokens of Event Grid need, and more.
func gridArgs(more ...string) []string {
	return append([]string{"--eventgrid-tenant=" + testTenant, "--eventgrid-audience=" + testApplication, "--eventgrid-source=contoso=" + testTopic}, more...)
}

func TestSettings_refuseEventGrid(t *testing.T) {
	flag := func(name string) string { return name + " (flag --" + name + "): " }
	const idle = "is for Event Grid, from which nothing is taken without a proof"
	const noToken = "is about tokens, and none is asked for"
	key, short := writeFile(t, "key", testSecret+"\n"), writeFile(t, "short", testSecret[1:])
	open := writeFile(t, "open", otherSecret)
	if err := os.Chmod(open, 0o604); err != nil {
		t.Fatal(err)
	}
	byKey := []string{"--eventgrid-key=a=" + key, "--eventgrid-source=contoso=" + testTopic}
	with := func(list []string, more ...string) []string { return append(list[:len(list):len(list)], more...) }
	checkRefusals(t, []refusal{
		{"tokens", gridArgs(), nil},
		{"key", byKey, nil},
		{"both", gridArgs("--eventgrid-key=a=" + key), nil},
		{"all", gridArgs("--eventgrid-path=/grid/in", "--eventgrid-audience=api://x", "--eventgrid-app="+testTenant,
			"--eventgrid-issuer=https://a.example", "--eventgrid-issuer=https://b.example", "--eventgrid-oidc-config-url=https://a.example/x"), nil},

		{"path alone", []string{"--eventgrid-path=/x"}, []string{flag("eventgrid-path") + idle}},
		{"source alone", []string{"--eventgrid-source=contoso=" + testTopic}, []string{flag("eventgrid-source") + idle}},
		{"tokens alone", []string{"--eventgrid-audience=a", "--eventgrid-app=" + testTenant, "--eventgrid-issuer=https://a.example", "--eventgrid-oidc-config-url=https://a.example"}, []string{
			flag("eventgrid-audience") + idle, flag("eventgrid-app") + idle, flag("eventgrid-issuer") + idle, flag("eventgrid-oidc-config-url") + idle}},
		{"tokens and a key", with(byKey, "--eventgrid-audience=a", "--eventgrid-app="+testTenant), []string{
			flag("eventgrid-audience") + noToken, flag("eventgrid-app") + noToken}},

		{"path without a slash", gridArgs("--eventgrid-path=grid"), []string{flag("eventgrid-path") + `"grid" is not a path of plain segments; write it like /eventgrid`}},
		{"root", gridArgs("--eventgrid-path=/"), []string{flag("eventgrid-path") + `"/" covers /livez`}},
		{"path of the probe", gridArgs("--eventgrid-path=/livez"), []string{flag("eventgrid-path") + `"/livez" covers /livez`}},
		{"path of callbacks", gridArgs("--eventgrid-path=/callbacks"), []string{flag("eventgrid-path") + `"/callbacks" is callback-path or below it`}},
		{"path below callbacks", gridArgs("--eventgrid-path=/callbacks/grid"), []string{flag("eventgrid-path") + `"/callbacks/grid" is callback-path or below it`}},
		{"callbacks below the path", gridArgs("--callback-path=/eventgrid/callbacks"), nil},

		{"no source", []string{"--eventgrid-key=a=" + key}, []string{"eventgrid-source (not set): at least one is needed"}},
		{"source without a resource", gridArgs("--eventgrid-source=fabrikam=" + testTopic + "2"), []string{flag("eventgrid-source") + "number 2 names no resource"}},
		{"source without a name", gridArgs("--eventgrid-source=" + testTopic), []string{flag("eventgrid-source") + "number 2 names no resource"}},
		{"source that is a GUID", gridArgs("--eventgrid-source=contoso=" + testGUID), []string{flag("eventgrid-source") + "contoso: the part after = is not the resource's path"}},
		{"source with a slash behind", gridArgs("--eventgrid-source=contoso=/subscriptions/x/"), []string{flag("eventgrid-source") + "contoso: the part after = is not"}},
		{"source twice", gridArgs("--eventgrid-source=contoso=" + strings.ToUpper(testTopic)), []string{flag("eventgrid-source") + "contoso: path given twice"}},
		{"two sources of one resource", gridArgs("--eventgrid-source=contoso=" + testTopic + "-2"), nil},

		{"tenant by name", gridArgs("--eventgrid-tenant=contoso.onmicrosoft.com"), []string{flag("eventgrid-tenant") + `"contoso.onmicrosoft.com" is not a GUID`}},
		{"tenant in braces", gridArgs("--eventgrid-tenant={" + testTenant + "}"), []string{flag("eventgrid-tenant")}},
		{"application by name", gridArgs("--eventgrid-app=eventgrid"), []string{flag("eventgrid-app") + `"eventgrid" is not a GUID`}},
		{"no audience", []string{"--eventgrid-tenant=" + testTenant, "--eventgrid-source=contoso=" + testTopic}, []string{"eventgrid-audience (not set): is needed beside eventgrid-tenant"}},
		{"audience with a blank", gridArgs("--eventgrid-audience=a b"), []string{flag("eventgrid-audience") + `"a b" is empty or has blanks`}},
		{"issuer alone", gridArgs("--eventgrid-issuer=https://a.example"), []string{"eventgrid-oidc-config-url (not set): goes with eventgrid-issuer"}},
		{"document alone", gridArgs("--eventgrid-oidc-config-url=https://a.example"), []string{flag("eventgrid-oidc-config-url") + "goes with eventgrid-issuer"}},
		{"plain http", gridArgs("--eventgrid-issuer=https://a.example", "--eventgrid-oidc-config-url=http://a.example"), []string{flag("eventgrid-oidc-config-url") + "is plain http"}},

		{"short key", with(byKey, "--eventgrid-key=b="+short), []string{flag("eventgrid-key") + "key b has 31 characters, at least 32"}},
		{"key that all can read", with(byKey, "--eventgrid-key=b="+open), []string{flag("eventgrid-key") + "b: " + open + " holds a secret"}},
		{"secret in the place of a file", with(byKey, "--eventgrid-key=b="+otherSecret), []string{flag("eventgrid-key") + "b: the part after = is not a file"}},
		{"two keys", with(byKey, "--eventgrid-key=b="+writeFile(t, "other", otherSecret)), nil},
		{"key of callbacks", with(byKey, "--callback-key=calls="+writeFile(t, "same", testSecret)), []string{flag("eventgrid-key") + "a: is the callback key calls as well"}},
		{"reserved resource", []string{"--resource=_=" + testGUID}, []string{"resource (flag --resource): number 1 has no usable name"}},
	})
}

// TestSettings_eventGridValues checks what the settings become.
func TestSettings_eventGridValues(t *testing.T) {
	s, _, err := parse(t, gridArgs("--resource=contoso="+testGUID, "--eventgrid-key=new="+writeFile(t, "new", testSecret))...)
	if err != nil {
		t.Fatal(err)
	}
	want := grid{
		keys:    []verify.SharedKey{{Name: "new", Secret: testSecret}},
		sources: map[string]string{strings.ToLower(testTopic): "contoso"},
		entra:   &verify.Entra{Tenant: testTenant, Audiences: []string{testApplication}, Applications: []string{verify.EventGridApplication}},
	}
	if diff := cmp.Diff(want, s.grid, cmp.AllowUnexported(grid{})); diff != "" {
		t.Error(diff)
	}
	s, _, err = parse(t, "--resource=contoso="+testGUID)
	if err != nil || s.gridSettings.on() || s.grid.entra != nil {
		t.Errorf("without a proof there is a route: %v, %+v", err, s.grid)
	}
}

// TestSettings_eventGridKeysStaySecret looks for keys in what a configuration says.
func TestSettings_eventGridKeysStaySecret(t *testing.T) {
	for _, arg := range []string{"--eventgrid-key=" + testSecret, "--eventgrid-key=a=" + testSecret, "--eventgrid-key=a=" + writeFile(t, "key", testSecret+"+")} {
		_, out, err := parse(t, gridArgs(arg, "--print-config", "--resource=contoso="+testGUID)...)
		if err == nil || strings.Contains(out+err.Error(), testSecret) {
			t.Errorf("%s: %s %v", arg, out, err)
		}
	}
	_, out, err := parse(t, gridArgs("--eventgrid-key=a="+writeFile(t, "key", testSecret), "--print-config", "--resource=contoso="+testGUID)...)
	if err != nil || strings.Contains(out, testSecret) {
		t.Errorf("%s %v", out, err)
	}
}
