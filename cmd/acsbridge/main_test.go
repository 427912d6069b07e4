package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/rogpeppe/go-internal/testscript"
)

// update rewrites golden files instead of comparing with them.
var update = flag.Bool("update", false, "rewrite golden files; review the diff")

func TestMain(m *testing.M) {
	testscript.Main(ownRuntimeDir{m}, map[string]func(){"acsbridge": profiled, "yardstick": yardstick, "natsd": natsd, "nats": natsCommand, "webhook": webhookApp, "signedwebhook": signedWebhookApp})
}

// ownRuntimeDir gives the tests a directory for state files in place of the user's, and
// not the commands, for which TestMain runs too.
type ownRuntimeDir struct{ m *testing.M }

func (o ownRuntimeDir) Run() int {
	dir, err := os.MkdirTemp("", "acsbridge-runtime-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	os.Setenv("XDG_RUNTIME_DIR", dir)
	return o.m.Run()
}

// TestScripts runs the built binary as testdata/script says.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		UpdateScripts:       *update,
		Cmds:                scriptCommands,
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_RUNTIME_DIR", filepath.Join(env.WorkDir, ".runtime")) // of each script its own
			return nil
		},
	})
}

// ignoreEnvironment keeps settings of the environment out of a test.
func ignoreEnvironment(t *testing.T) {
	t.Helper()
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, "ACSBRIDGE_") || strings.HasPrefix(name, "NATS_") {
			t.Setenv(name, "") // empty counts as unset
		}
	}
}

const (
	testGUID   = "c3b7d7e8-4a3c-4a0b-9c55-0123456789ab"
	testSecret = "0123456789abcdef0123456789abcdef"
)

// newIssuer returns a key server that runs until the test ends.
func newIssuer(t testing.TB) *acstest.Issuer {
	t.Helper()
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{})
	if err == nil {
		err = issuer.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { issuer.Close() })
	return issuer
}

// trust returns the settings of serve for the demo's resource and a key server.
func trust(issuer *acstest.Issuer) []string {
	return []string{"--resource=" + acstest.DemoResource + "=" + acstest.DemoAudience, "--issuer=" + issuer.Name(), "--oidc-config-url=" + issuer.MetadataURL()}
}

// TestExitStatus distinguishes mistakes from failures.
func TestExitStatus(t *testing.T) {
	ignoreEnvironment(t)
	for _, test := range []struct {
		args []string
		want int
	}{
		{[]string{"sevre"}, exitUsage},
		{[]string{"serve", "--lisen"}, exitUsage},
		{[]string{"serve", "--leeway=x"}, exitUsage},
		{[]string{"health", "--admin=ftp://127.0.0.1"}, exitFailed},
	} {
		var out bytes.Buffer
		err := run(t.Context(), test.args, stdio{out: &out, err: &out})
		if err == nil || exitStatus(err) != test.want {
			t.Errorf("%v: status %d for error %v, want %d", test.args, exitStatus(err), err, test.want)
		}
	}
}
