package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natsconn"
)

// TestSettings_consoleNATS is how the console reaches NATS by each kind of login, beside
// a bridge with another one.
func TestSettings_consoleNATS(t *testing.T) {
	t.Parallel()
	password := bridgetest.WriteFile(t, "password", "hunter2\n")
	cert, key := bridgetest.PairFiles(t)
	bridge := []string{
		"--resource=contoso=" + testGUID, "--nats-url=tls://n", "--nats-user=acsbridge", "NATS_PASSWORD=of-the-bridge", "--nats-domain=acs",
		"--nats-inbox-prefix=_INBOX_acsbridge", "--nats-ca=" + cert, "--nats-cert=" + cert, "--nats-key=" + key,
	}
	at := natsconn.Config{URL: "tls://n", CA: cert, Cert: cert, Key: key, Domain: "acs", SettingPrefix: "console-nats-"}
	with := func(change func(*natsconn.Config)) natsconn.Config {
		c := at
		change(&c)
		return c
	}
	for _, test := range []struct {
		args    string
		want    natsconn.Config
		setting string
	}{
		{"", at, ""},
		{"--console-nats-creds=" + password, with(func(c *natsconn.Config) { c.Creds = password }), "console-nats-creds"},
		{"--console-nats-nkey=" + password, with(func(c *natsconn.Config) { c.NKey = password }), "console-nats-nkey"},
		{"--console-nats-user=viewer --console-nats-password-file=" + password + " --console-nats-inbox-prefix=_INBOX_viewer",
			with(func(c *natsconn.Config) { c.User, c.Password, c.InboxPrefix = "viewer", "hunter2", "_INBOX_viewer" }), "console-nats-user"},
		{"--console-nats-user=viewer ACSBRIDGE_CONSOLE_NATS_PASSWORD=x", with(func(c *natsconn.Config) { c.User, c.Password = "viewer", "x" }), "console-nats-user"},
		{"--console-nats-token-file=" + password, with(func(c *natsconn.Config) { c.Token = "hunter2" }), "console-nats-token-file"},
		{"ACSBRIDGE_CONSOLE_NATS_TOKEN=x", with(func(c *natsconn.Config) { c.Token = "x" }), "console-nats-token"},
		{"--console-nats-context=viewer", natsconn.Config{Context: "viewer", SettingPrefix: "console-nats-"}, "console-nats-context"},
	} {
		s, _, err := parse(t, append(strings.Fields(test.args), bridge...)...)
		if err != nil {
			t.Errorf("%s: %v", test.args, err)
			continue
		}
		config, setting := s.ConsoleNATS()
		if diff := cmp.Diff(test.want, config); diff != "" || setting != test.setting {
			t.Errorf("%s: setting %q, (-want +got):\n%s", test.args, setting, diff)
		}
		if b := s.NATS(); b.User != "acsbridge" || b.Password != "of-the-bridge" || b.InboxPrefix != "_INBOX_acsbridge" || b.SettingPrefix != "" {
			t.Errorf("%s: the bridge logs in as %q", test.args, b.User)
		}
	}
}

func TestSettings_refuseConsoleLogin(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	file, open := bridgetest.WriteFile(t, "secret", "hunter2"), bridgetest.WriteFile(t, "open", "hunter2")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	const noServer = ": is for an external NATS, and none is set; the console reads the embedded server by itself"
	user := "console-nats-user (flag --console-nats-user): "
	tests := []refusal{
		{"two logins", []string{"--console-nats-creds=" + file, "ACSBRIDGE_CONSOLE_NATS_TOKEN=x"}, []string{
			"console-nats-token (ACSBRIDGE_CONSOLE_NATS_TOKEN): is a second login, besides console-nats-creds (flag --console-nats-creds)"}},
		{"three logins", []string{"--console-nats-nkey=" + file, "--console-nats-user=u", "ACSBRIDGE_CONSOLE_NATS_PASSWORD=x", "--console-nats-token-file=" + file}, []string{
			user + "is a second login, besides console-nats-nkey", "console-nats-token-file (flag --console-nats-token-file): is a second login, besides console-nats-nkey"}},
		{"context and login", []string{"--console-nats-context=c", "--console-nats-creds=" + file}, []string{
			"console-nats-creds (flag --console-nats-creds): is a second login, besides console-nats-context"}},
		{"token twice", []string{"ACSBRIDGE_CONSOLE_NATS_TOKEN=x", "--console-nats-token-file=" + file}, []string{
			"console-nats-token-file (flag --console-nats-token-file): conflicts with console-nats-token"}},
		{"password twice", []string{"--console-nats-user=u", "ACSBRIDGE_CONSOLE_NATS_PASSWORD=x", "--console-nats-password-file=" + file}, []string{
			"console-nats-password-file (flag --console-nats-password-file): conflicts with console-nats-password"}},
		{"user without password", []string{"--console-nats-user=u"}, []string{user + "needs a password; add console-nats-password-file, or console-nats-token-file"}},
		{"password of the bridge", []string{"--console-nats-user=u", "--nats-user=u", "NATS_PASSWORD=x"}, []string{user + "needs a password"}},
		{"password without user", []string{"--console-nats-password-file=" + file}, []string{"console-nats-user (not set): is missing, but a password is set"}},
		{"inbox alone", []string{"--console-nats-inbox-prefix=_INBOX_viewer"}, []string{
			"console-nats-inbox-prefix (flag --console-nats-inbox-prefix): is for a login of the console, and none is set"}},
		{"inbox with a wildcard", []string{"--console-nats-creds=" + file, "--console-nats-inbox-prefix=a.>"}, []string{
			`console-nats-inbox-prefix (flag --console-nats-inbox-prefix): "a.>" is not a subject`}},
		{"missing creds", []string{"--console-nats-creds=" + missing}, []string{"console-nats-creds (flag --console-nats-creds): open " + missing}},
		{"missing nkey", []string{"--console-nats-nkey=" + missing}, []string{"console-nats-nkey (flag --console-nats-nkey): open " + missing}},
		{"missing password", []string{"--console-nats-user=u", "--console-nats-password-file=" + missing}, []string{"console-nats-password-file (flag --console-nats-password-file): open " + missing}},
		{"creds that all can read", []string{"--console-nats-creds=" + open}, []string{"console-nats-creds (flag --console-nats-creds): " + open + " holds a secret"}},
		{"token that all can read", []string{"--console-nats-token-file=" + open}, []string{"console-nats-token-file (flag --console-nats-token-file): " + open + " holds a secret"}},
	}
	for i := range tests {
		tests[i].args = append(tests[i].args, "--nats-url=n")
	}
	for _, setting := range []string{"context=c", "creds=" + file, "nkey=" + file, "token-file=" + file} {
		name, _, _ := strings.Cut("console-nats-"+setting, "=")
		tests = append(tests, refusal{"embedded server and " + name, []string{"--console-nats-" + setting}, []string{name + " (flag --" + name + ")" + noServer}})
	}
	checkRefusals(t, append(tests,
		refusal{"embedded server and a token", []string{"ACSBRIDGE_CONSOLE_NATS_TOKEN=x"}, []string{"console-nats-token (ACSBRIDGE_CONSOLE_NATS_TOKEN)" + noServer}},
		refusal{"beside the context of the bridge", []string{"--nats-context=c", "--console-nats-creds=" + file}, []string{
			"console-nats-creds (flag --console-nats-creds): would be mixed with the login in nats-context (flag --nats-context); make a context for the console too"}},
		refusal{"two contexts", []string{"--nats-context=c", "--console-nats-context=d"}, nil},
	))
}

// TestSettings_consoleSecretsStaySecret looks for the secrets of the console's login in
// what is printed, and in what a bad configuration says.
func TestSettings_consoleSecretsStaySecret(t *testing.T) {
	t.Parallel()
	const hidden = "hunter2-hidden"
	variables := []string{"ACSBRIDGE_CONSOLE_NATS_TOKEN=" + hidden, "--resource=contoso=" + testGUID, "--print-config"}
	_, out, err := parse(t, append(variables, "--nats-url=n")...)
	if err != nil || strings.Contains(out, hidden) || !strings.Contains(out, "# console-nats-token: ******** # ACSBRIDGE_CONSOLE_NATS_TOKEN\n") {
		t.Errorf("%s %v", out, err)
	}
	for _, more := range []string{"--nats-listen=:1", "ACSBRIDGE_CONSOLE_NATS_PASSWORD=" + hidden} {
		_, out, err = parse(t, append(variables, more)...)
		if _, bad := errors.AsType[Error](err); !bad || strings.Contains(out+err.Error(), hidden) {
			t.Errorf("%s: %s %v", more, out, err)
		}
	}
}
