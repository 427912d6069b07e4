package config

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
)

const testSecret, otherSecret = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"

func TestSettings_refuseEdge(t *testing.T) {
	const limit = "max-connections (flag --max-connections): "
	const callbackKey = "callback-key (flag --callback-key): "
	const source = "source-range (flag --source-range): "
	const proxy = "trusted-proxy (flag --trusted-proxy): "
	secret, short := bridgetest.WriteFile(t, "secret", testSecret+"\n"), bridgetest.WriteFile(t, "short", testSecret[1:])
	open, odd := bridgetest.WriteFile(t, "open", otherSecret), bridgetest.WriteFile(t, "odd", testSecret+"+/=")
	if err := os.Chmod(open, 0o604); err != nil {
		t.Fatal(err)
	}
	checkRefusals(t, []refusal{
		{"no connections", []string{"--max-connections=0"}, []string{limit + "0 is not between 1 and 65536"}},
		{"too many connections", []string{"--max-connections=65537"}, []string{limit + "65537 is not between 1 and 65536"}},
		{"one connection", []string{"--max-connections=1"}, nil},
		{"key without a name", []string{"--callback-key=" + secret}, []string{callbackKey + "number 1 has no usable name"}},
		{"key with a bad name", []string{"--callback-key=a.b=" + secret}, []string{callbackKey + "number 1 has no usable name"}},
		{"secret in the place of a file", []string{"--callback-key=a=" + testSecret}, []string{callbackKey + "a: the part after = is not a file that can be read"}},
		{"short key", []string{"--callback-key=a=" + short}, []string{callbackKey + "key a has 31 characters, at least 32"}},
		{"key to be escaped", []string{"--callback-key=a=" + odd}, []string{callbackKey + "key a has characters that a URL must escape"}},
		{"key that all can read", []string{"--callback-key=a=" + open}, []string{callbackKey + "a: " + open + " holds a secret"}},
		{"name of a key twice", []string{"--callback-key=a=" + secret, "--callback-key=a=" + bridgetest.WriteFile(t, "other", otherSecret)}, []string{callbackKey + "a: name or secret given twice"}},
		{"secret of a key twice", []string{"--callback-key=a=" + secret, "--callback-key=b=" + secret}, []string{callbackKey + "b: name or secret given twice"}},
		{"two keys", []string{"--callback-key=a=" + secret + ",b=" + bridgetest.WriteFile(t, "other", otherSecret)}, nil},
		{"range that is none", []string{"--listen=:8080", "--source-range=10.0.0.0/33"}, []string{source + `"10.0.0.0/33" is not a network`}},
		{"name for a range", []string{"--listen=:8080", "--source-range=microsoft"}, []string{source + `"microsoft" is not a network`}},
		{"range with bits too many", []string{"--listen=:8080", "--source-range=10.0.0.1/8"}, []string{source + `"10.0.0.1/8" has bits beyond its length; the network is 10.0.0.0/8`}},
		{"ranges", []string{"--listen=:8080", "--source-range=10.0.0.0/8,2001:db8::1"}, nil},
		{"ranges behind a proxy that is not named", []string{"--source-range=203.0.113.0/24"}, []string{source + "listen is a loopback address"}},
		{"ranges behind a proxy", []string{"--source-range=203.0.113.0/24", "--trusted-proxy=127.0.0.1"}, nil},
		{"range of this host", []string{"--source-range=127.0.0.0/8"}, nil},
		{"proxy that is none", []string{"--trusted-proxy=microsoft"}, []string{proxy + `"microsoft" is not a network`}},
		{"proxies", []string{"--trusted-proxy=10.0.0.0/8", "--trusted-proxy=::1"}, nil},
	})
}

func TestSettings_refuseAdmin(t *testing.T) {
	const listen = "admin-listen (flag --admin-listen): "
	const tokenFile = "admin-token-file (flag --admin-token-file): "
	const host = "admin-host (flag --admin-host): "
	token, short := bridgetest.WriteFile(t, "token", testSecret+"\n"), bridgetest.WriteFile(t, "short", testSecret[1:])
	open := bridgetest.WriteFile(t, "open", testSecret)
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	checkRefusals(t, []refusal{
		{"all interfaces", []string{"--admin-listen=:9090"}, []string{listen + `":9090" can be reached from other hosts; set admin-token-file, or admin-insecure`}},
		{"all by number", []string{"--admin-listen=0.0.0.0:9090"}, []string{listen + `"0.0.0.0:9090" can be reached`}},
		{"private address", []string{"--admin-listen=10.0.0.1:9090"}, []string{listen + `"10.0.0.1:9090" can be reached`}},
		{"name that looks local", []string{"--admin-listen=localhost.example:9090"}, []string{listen + `"localhost.example:9090" can be reached`}},
		{"loopback", []string{"--admin-listen=[::1]:9090"}, nil},
		{"localhost", []string{"--admin-listen=localhost:9090"}, nil},
		{"all, with a token", []string{"--admin-listen=:9090", "--admin-token-file=" + token}, nil},
		{"all, on purpose", []string{"--admin-listen=:9090", "--admin-insecure"}, nil},
		{"both", []string{"--admin-token-file=" + token, "--admin-insecure"}, []string{"admin-insecure (flag --admin-insecure): conflicts with admin-token-file"}},
		{"short token", []string{"--admin-token-file=" + short}, []string{tokenFile + short + " must hold one line of 32 or more"}},
		{"token with a space", []string{"--admin-token-file=" + bridgetest.WriteFile(t, "space", testSecret+" "+testSecret)}, []string{tokenFile}},
		{"token of two lines", []string{"--admin-token-file=" + bridgetest.WriteFile(t, "lines", testSecret+"\n"+testSecret)}, []string{tokenFile}},
		{"token that all can read", []string{"--admin-token-file=" + open}, []string{tokenFile + open + " holds a secret"}},
		{"no token file", []string{"--admin-token-file=" + token + "x"}, []string{tokenFile + "open " + token + "x: no such file"}},
		{"host", []string{"--admin-host=bridge.example.net,bridge"}, nil},
		{"host with a port", []string{"--admin-host=bridge:9090"}, []string{host + `"bridge:9090" is not a host name`}},
		{"host of a URL", []string{"--admin-host=http://bridge"}, []string{host + `"http://bridge" is not a host name`}},
		{"any host", []string{"--admin-host=*"}, []string{host + `"*" is not a host name`}},
	})
}

// TestSettings_edgeValues checks what the settings become.
func TestSettings_edgeValues(t *testing.T) {
	s, _, err := parse(t, "--resource=contoso="+testGUID, "--listen=:8080",
		"--callback-key=new="+bridgetest.WriteFile(t, "new", testSecret+"\n"), "--callback-key=old="+bridgetest.WriteFile(t, "old", otherSecret),
		"--source-range=203.0.113.0/24", "--source-range=198.51.100.7", "--trusted-proxy=10.0.0.0/8,::1",
		"--admin-token-file="+bridgetest.WriteFile(t, "token", otherSecret+"\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]ingest.CallbackKey{{Name: "new", Secret: testSecret}, {Name: "old", Secret: otherSecret}}, s.callbackKeys); diff != "" {
		t.Error(diff)
	}
	if got, want := fmt.Sprint(s.sourceRanges), "[203.0.113.0/24 198.51.100.7/32]"; got != want {
		t.Errorf("source ranges %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(s.trustedProxies), "[10.0.0.0/8 ::1/128]"; got != want {
		t.Errorf("trusted proxies %s, want %s", got, want)
	}
	if s.adminToken != otherSecret {
		t.Errorf("admin token %q", s.adminToken)
	}
}

// TestSettings_edgeSecretsStaySecret looks for secrets in what a bad configuration says.
func TestSettings_edgeSecretsStaySecret(t *testing.T) {
	for _, args := range [][]string{
		{"--callback-key=" + testSecret},
		{"--callback-key=a=" + testSecret},
		{"--callback-key=a=" + bridgetest.WriteFile(t, "key", testSecret+"\n"+testSecret)},
		{"--callback-key=a=" + bridgetest.WriteFile(t, "key", testSecret+"+")},
		{"--admin-token-file=" + bridgetest.WriteFile(t, "token", testSecret+" ")},
		gridArgs("--eventgrid-key=" + testSecret),
		gridArgs("--eventgrid-key=a=" + testSecret),
		gridArgs("--eventgrid-key=a=" + bridgetest.WriteFile(t, "key", testSecret+"+")),
	} {
		_, out, err := parse(t, append(args, "--print-config", "--resource=contoso="+testGUID)...)
		if err == nil || strings.Contains(out+err.Error(), testSecret) {
			t.Errorf("%s: %s %v", args, out, err)
		}
	}
	_, out, err := parse(t, gridArgs("--print-config", "--resource=contoso="+testGUID, "--eventgrid-key=a="+bridgetest.WriteFile(t, "grid-key", otherSecret),
		"--callback-key=a="+bridgetest.WriteFile(t, "key", testSecret), "--admin-token-file="+bridgetest.WriteFile(t, "token", testSecret))...)
	if err != nil || strings.Contains(out, testSecret) || strings.Contains(out, otherSecret) {
		t.Errorf("%s %v", out, err)
	}
}

// TestSettings_console serves the console behind its own token, or where none is needed.
func TestSettings_console(t *testing.T) {
	t.Parallel()
	token := bridgetest.WriteFile(t, "token", strings.Repeat("c", 32))
	admin := bridgetest.WriteFile(t, "admin", strings.Repeat("a", 32))
	for _, test := range []struct {
		args    string
		serves  bool
		problem string
	}{
		{"", true, ""},
		{"--admin-token-file=" + admin, false, ""},
		{"--admin-listen=:9090 --admin-insecure", false, ""},
		{"--admin-listen=:9090 --admin-insecure --console-token-file=" + token, true, ""},
		{"--admin-token-file=" + admin + " --console-token-file=" + token + " --console-show-pii", true, ""},
		{"--admin-token-file=" + admin + " --console-token-file=" + admin, false, "needs one of its own"},
		{"--console-show-pii", false, "console-token-file"},
		{"--console-write", false, "console-token-file"},
		{"--console-nats-context=viewer", false, "is for an external NATS"},
	} {
		args := append(strings.Fields(test.args), "--resource=contoso=c3b7d7e8-4a3c-4a0b-9c55-0123456789ab")
		s, err := Parse(args, nil, io.Discard)
		switch {
		case test.problem != "":
			if err == nil || !strings.Contains(err.Error(), test.problem) {
				t.Errorf("%s: error %v, want %q", test.args, err, test.problem)
			}
		case err != nil:
			t.Errorf("%s: %v", test.args, err)
		case s.ServesConsole() != test.serves:
			t.Errorf("%s: the console is served: %t", test.args, s.ServesConsole())
		}
	}
}
