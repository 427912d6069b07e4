package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
)

// refusal is a configuration that is good but for what args add to it: flags, and
// variables as NAME=value. It has the start of each line that refuses it.
type refusal struct {
	name string
	args []string
	want []string
}

// checkRefusals adds a good resource unless the arguments have one.
func checkRefusals(t *testing.T, tests []refusal) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			args := test.args
			if !strings.Contains(strings.Join(args, " "), "--resource") {
				args = append([]string{"--resource=contoso=" + testGUID}, args...)
			}
			_, _, err := parse(t, args...)
			problems, ok := errors.AsType[Error](err)
			if !ok && err != nil {
				t.Fatalf("error %v, want a Error", err)
			}
			if len(problems) != len(test.want) {
				t.Fatalf("%d problems, want %d: %v", len(problems), len(test.want), err)
			}
			for i, problem := range problems {
				if !strings.HasPrefix(problem.String(), test.want[i]) {
					t.Errorf("got  %s\nwant %s…", problem, test.want[i])
				}
			}
		})
	}
}

func TestSettings_refuseCallbacks(t *testing.T) {
	const listen = "listen (flag --listen): "
	const taken = "admin-listen (default): is the address of listen"
	const path = "callback-path (flag --callback-path): "
	checkRefusals(t, []refusal{
		{"no port", []string{"--listen=127.0.0.1"}, []string{listen + `"127.0.0.1" is not an address`}},
		{"port too high", []string{"--listen=:65536"}, []string{listen + `":65536" is not an address`}},
		{"service name", []string{"--listen=:http"}, []string{listen + `":http" is not an address`}},
		{"admin address", []string{"--admin-listen=x"}, []string{`admin-listen (flag --admin-listen): "x" is not an address`}},
		{"all interfaces", []string{"--listen=:8080"}, nil},
		{"IPv6", []string{"--listen=[::1]:8080"}, nil},
		{"same address", []string{"--listen=127.0.0.1:9090"}, []string{taken}},
		{"same port, all interfaces", []string{"--listen=:9090"}, []string{taken}},
		{"same port, all interfaces by number", []string{"--listen=0.0.0.0:9090"}, []string{taken}},
		{"same port, other address", []string{"--listen=127.0.0.2:9090"}, nil},
		{"any port twice", []string{"--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"}, nil},
		{"relative path", []string{"--callback-path=callbacks"}, []string{path + `"callbacks" is not a path`}},
		{"root", []string{"--callback-path=/"}, []string{path + `"/" covers /livez`}},
		{"path of the probe", []string{"--callback-path=/livez"}, []string{path + `"/livez" covers /livez`}},
		{"path below the probe", []string{"--callback-path=/livez/x"}, nil},
		{"slash at the end", []string{"--callback-path=/a/"}, []string{path + `"/a/" is not a path`}},
		{"parent", []string{"--callback-path=/a/../b"}, []string{path + `"/a/../b" is not a path`}},
		{"pattern", []string{"--callback-path=/{id}"}, []string{path + `"/{id}" is not a path`}},
		{"query", []string{"--callback-path=/a?b"}, []string{path + `"/a?b" is not a path`}},
		{"deep path", []string{"--callback-path=/api/v1.0/call_backs-~x"}, nil},
		{"certificate without key", []string{"--tls-cert=x.pem"}, []string{"tls-cert (flag --tls-cert): needs tls-key"}},
		{"key without certificate", []string{"--tls-key=x.pem"}, []string{"tls-key (flag --tls-key): needs tls-cert"}},
	})
}

func TestSettings_refuseTokens(t *testing.T) {
	const set = "resource (flag --resource): "
	const issuer = "issuer (flag --issuer): "
	const metadata = "oidc-config-url (flag --oidc-config-url): "
	good := "--oidc-config-url=https://sovereign.example/metadata"
	checkRefusals(t, []refusal{
		{"no name", []string{"--resource==" + testGUID}, []string{set + "number 1 has no usable name"}},
		{"name with a dot", []string{"--resource=a.b=" + testGUID}, []string{set + "number 1 has no usable name"}},
		{"GUID alone", []string{"--resource=" + testGUID}, []string{set + "number 1 has no usable name"}},
		{"no GUID", []string{"--resource=a=" + testGUID[1:]}, []string{set + "number 1: the part after = is not a GUID"}},
		{"GUID in braces", []string{"--resource=a={" + testGUID + "}"}, []string{set + "number 1: the part after = is not a GUID"}},
		{"path in Azure", []string{"--resource=a=/subscriptions/x"}, []string{set + "number 1: this is the resource's path in Azure"}},
		{"endpoint", []string{"--resource=a=contoso.communication.azure.com"}, []string{set + "number 1: this is an endpoint"}},
		{"connection string", []string{"--resource=a=endpoint=https://x.example/;accesskey=y"}, []string{set + "number 1: this is a connection string"}},
		{"name twice", []string{"--resource=a=" + testGUID, "--resource=a=" + otherGUID}, []string{set + "a: name or GUID given twice"}},
		{"GUID twice", []string{"--resource=a=" + testGUID, "--resource=b=" + strings.ToUpper(testGUID)}, []string{set + "b: name or GUID given twice"}},
		{"two bad ones", []string{"--resource=a=x,b=y"}, []string{set + "number 1: ", set + "number 2: "}},
		{"issuer alone", []string{"--issuer=https://sovereign.example"}, []string{"oidc-config-url (default): is that of another issuer"}},
		{"issuer and metadata", []string{"--issuer=https://sovereign.example", good}, nil},
		{"metadata alone", []string{good}, nil},
		{"issuer no URL", []string{"--issuer=sovereign.example", good}, []string{issuer + "is not a URL"}},
		{"issuer of another kind", []string{"--issuer=ftp://sovereign.example", good}, []string{issuer + "is not a URL"}},
		{"issuer with a login", []string{"--issuer=https://a:b@sovereign.example", good}, []string{issuer + "must not hold a login"}},
		{"plain http", []string{"--oidc-config-url=http://sovereign.example"}, []string{metadata + "is plain http"}},
		{"plain http that looks local", []string{"--oidc-config-url=http://localhost.example"}, []string{metadata + "is plain http"}},
		{"plain http on loopback", []string{"--issuer=http://[::1]:1", "--oidc-config-url=http://localhost:1/m"}, nil},
		{"metadata with a fragment", []string{good + "#x"}, []string{metadata + "must not hold a login or a fragment"}},
		{"leeway", []string{"--leeway=5m1s"}, []string{"leeway (flag --leeway): 5m1s is not between 0s and 5m0s"}},
		{"negative leeway", []string{"--leeway=-1s"}, []string{"leeway (flag --leeway): -1s is not between 0s and 5m0s"}},
		{"largest leeway", []string{"--leeway=5m"}, nil},
		{"token reuse", []string{"--token-reuse=on"}, []string{`token-reuse (flag --token-reuse): "on" is none of report, refuse, off`}},
	})
}

func TestSettings_refuseStream(t *testing.T) {
	const stream = "stream (flag --stream): "
	const window = "stream-duplicate-window (flag --stream-duplicate-window): "
	checkRefusals(t, []refusal{
		{"name with a dot", []string{"--stream=A.B"}, []string{stream + `"A.B" is not a usable name`}},
		{"name of the quarantine", []string{"--stream=ACS_QUARANTINE"}, []string{stream + `"ACS_QUARANTINE" is not a usable name`}},
		{"prefix of two tokens", []string{"--subject-prefix=a.b"}, []string{`subject-prefix (flag --subject-prefix): "a.b" is not a usable token`}},
		{"prefix of the quarantine", []string{"--subject-prefix=acs-quarantine"}, []string{`subject-prefix (flag --subject-prefix): "acs-quarantine" is no`}},
		{"no replicas", []string{"--nats-url=n", "--stream-replicas=0"}, []string{"stream-replicas (flag --stream-replicas): 0 is not between 1 and 5"}},
		{"too many replicas", []string{"--nats-url=n", "--stream-replicas=6"}, []string{"stream-replicas (flag --stream-replicas): 6 is not between 1 and 5"}},
		{"replicas of a cluster", []string{"--nats-url=n", "--stream-replicas=5"}, nil},
		{"replicas of the embedded server", []string{"--stream-replicas=3"}, []string{"stream-replicas (flag --stream-replicas): the embedded server keeps one copy"}},
		{"short age", []string{"--stream-max-age=59s", "--stream-duplicate-window=1m"}, []string{
			"stream-max-age (flag --stream-max-age): 59s is less than 1m0s", window + "1m0s is longer than stream-max-age"}},
		{"no age limit", []string{"--stream-max-age=0s"}, nil},
		{"short window", []string{"--stream-duplicate-window=59s"}, []string{window + "59s is not between 1m0s and 24h0m0s"}},
		{"long window", []string{"--stream-duplicate-window=24h1s"}, []string{window + "24h0m1s is not between 1m0s and 24h0m0s"}},
		{"window beyond age", []string{"--stream-duplicate-window=1h", "--stream-max-age=59m"}, []string{window + "1h0m0s is longer than stream-max-age, 59m0s"}},
		{"window as long as age", []string{"--stream-duplicate-window=1h", "--stream-max-age=1h"}, nil},
		{"small stream", []string{"--stream-max-bytes=1023KiB"}, []string{"stream-max-bytes (flag --stream-max-bytes): 1047552 bytes are less than 1 MiB"}},
	})
}

func TestSettings_refuseJournalAndProcess(t *testing.T) {
	file := bridgetest.WriteFile(t, "file", "")
	checkRefusals(t, []refusal{
		{"no data directory", []string{"--data-dir="}, []string{"data-dir (flag --data-dir): is empty"}},
		{"data directory is a file", []string{"--data-dir=" + file}, []string{"data-dir (flag --data-dir): " + file + " is not a directory"}},
		{"data directory", []string{"--data-dir=" + filepath.Dir(file)}, nil},
		{"journal", []string{"--journal=true"}, []string{`journal (flag --journal): "true" is not one of on, off`}},
		{"no journal and no NATS", []string{"--journal=off"}, []string{"journal (flag --journal): the embedded server alone"}},
		{"no journal", []string{"--journal=off", "--nats-url=n"}, nil},
		{"small journal", []string{"--journal-max-bytes=0"}, []string{"journal-max-bytes (flag --journal-max-bytes): 0 bytes are less than 1 MiB"}},
		{"long wait", []string{"--ack-wait=4001ms"}, []string{"ack-wait (flag --ack-wait): 4.001s is not between 0s and 4s"}},
		{"no wait", []string{"--ack-wait=0s"}, nil},
		{"nothing in flight", []string{"--max-in-flight=0"}, []string{"max-in-flight (flag --max-in-flight): 0 is not between 1 and 65536"}},
		{"too much in flight", []string{"--max-in-flight=65537"}, []string{"max-in-flight (flag --max-in-flight): 65537 is not between 1 and 65536"}},
		{"long delay", []string{"--shutdown-delay=6m"}, []string{"shutdown-delay (flag --shutdown-delay): 6m0s is more than 5m0s"}},
		{"short timeout", []string{"--shutdown-timeout=0s"}, []string{"shutdown-timeout (flag --shutdown-timeout): 0s is less than 1s"}},
		{"long timeout", []string{"--shutdown-timeout=11m"}, []string{"shutdown-timeout (flag --shutdown-timeout): 11m0s is more than 10m0s"}},
		{"log format", []string{"--log-format=xml"}, []string{`log-format (flag --log-format): "xml" is not one of auto, text, json`}},
		{"log level", []string{"--log-level=trace"}, []string{`log-level (flag --log-level): "trace" is not one of debug, info, warn, error`}},
	})
}

func TestSettings_refuseNATS(t *testing.T) {
	const url = "nats-url (flag --nats-url): "
	const inbox = "nats-inbox-prefix (flag --nats-inbox-prefix): "
	missing := filepath.Join(t.TempDir(), "missing")
	creds := bridgetest.WriteFile(t, "bridge.creds", "x")
	checkRefusals(t, []refusal{
		{"URL and context", []string{"--nats-url=n", "--nats-context=c"}, []string{"nats-context (flag --nats-context): conflicts with nats-url (flag --nats-url)"}},
		{"empty server", []string{"--nats-url=n,,m"}, []string{url + "number 2 is not a URL"}},
		{"no host", []string{"--nats-url=nats://:4222"}, []string{url + "number 1 is not a URL"}},
		{"no NATS scheme", []string{"--nats-url=http://n"}, []string{url + `number 1 has the scheme "http"`}},
		{"all schemes", []string{"--nats-url=nats://n, tls://n,ws://n,wss://n,n:4222"}, nil},
		{"login in the URL", []string{"--nats-url=tls://token@n"}, []string{url + "number 1 has a login in it"}},
		{"domain without a server", []string{"--nats-domain=hub"}, []string{"nats-domain (flag --nats-domain): is for an external NATS"}},
		{"login without a server", []string{"--nats-creds=" + creds}, []string{"nats-creds (flag --nats-creds): is for an external NATS"}},
		{"token without a server", []string{"NATS_TOKEN=x"}, []string{"nats-token (NATS_TOKEN): is for an external NATS"}},
		{"embedded server for all", []string{"--nats-listen=:4222"}, []string{`nats-listen (flag --nats-listen): ":4222" can be reached`}},
		{"embedded server nowhere", []string{"--nats-listen=local"}, []string{`nats-listen (flag --nats-listen): "local" is not an address`}},
		{"embedded server elsewhere", []string{"--nats-listen=[::1]:0"}, nil},
		{"embedded server and another", []string{"--nats-url=n", "--nats-listen=127.0.0.1:1"}, []string{"nats-listen (flag --nats-listen): there is no embedded server"}},
		{"domain", []string{"--nats-url=n", "--nats-domain=a.b"}, []string{`nats-domain (flag --nats-domain): "a.b" is not a JetStream domain`}},
		{"inbox with a wildcard", []string{"--nats-url=n", "--nats-inbox-prefix=a.>"}, []string{inbox + `"a.>" is not a subject`}},
		{"inbox with a dot at the end", []string{"--nats-url=n", "--nats-inbox-prefix=a."}, []string{inbox + `"a." is not a subject`}},
		{"inbox", []string{"--nats-url=n", "--nats-inbox-prefix=_INBOX.bridge"}, nil},
		{"two logins", []string{"--nats-url=n", "--nats-creds=" + creds, "NATS_TOKEN=x"}, []string{"nats-token (NATS_TOKEN): is a second login, besides nats-creds (flag --nats-creds)"}},
		{"three logins", []string{"--nats-url=n", "--nats-nkey=" + creds, "--nats-user=u", "NATS_PASSWORD=x", "--nats-token-file=" + creds}, []string{
			"nats-user (flag --nats-user): is a second login, besides nats-nkey", "nats-token-file (flag --nats-token-file): is a second login, besides nats-nkey"}},
		{"context and login", []string{"--nats-context=c", "NATS_TOKEN=x"}, []string{"nats-token (NATS_TOKEN): is a second login, besides nats-context"}},
		{"token twice", []string{"--nats-url=n", "NATS_TOKEN=x", "--nats-token-file=" + creds}, []string{"nats-token-file (flag --nats-token-file): conflicts with nats-token"}},
		{"password twice", []string{"--nats-url=n", "--nats-user=u", "NATS_PASSWORD=x", "--nats-password-file=" + creds}, []string{"nats-password-file (flag --nats-password-file): conflicts with nats-password"}},
		{"user without password", []string{"--nats-url=n", "--nats-user=u"}, []string{"nats-user (flag --nats-user): needs a password"}},
		{"password without user", []string{"--nats-url=n", "NATS_PASSWORD=x"}, []string{"nats-user (not set): is missing, but a password is set"}},
		{"missing creds", []string{"--nats-url=n", "--nats-creds=" + missing}, []string{"nats-creds (flag --nats-creds): open " + missing}},
		{"missing nkey", []string{"--nats-url=n", "--nats-nkey=" + missing}, []string{"nats-nkey (flag --nats-nkey): open " + missing}},
		{"missing password", []string{"--nats-url=n", "--nats-user=u", "--nats-password-file=" + missing}, []string{"nats-password-file (flag --nats-password-file): open " + missing}},
		{"missing authorities", []string{"--nats-url=n", "--nats-ca=" + missing}, []string{"nats-ca (flag --nats-ca): open " + missing}},
		{"no authorities", []string{"--nats-url=n", "--nats-ca=" + creds}, []string{"nats-ca (flag --nats-ca): " + creds + " has no certificate"}},
		{"certificate without key", []string{"--nats-url=n", "--nats-cert=" + creds}, []string{"nats-cert (flag --nats-cert): needs nats-key"}},
		{"creds are a directory", []string{"--nats-url=n", "--nats-creds=" + filepath.Dir(creds)}, []string{"nats-creds (flag --nats-creds): " + filepath.Dir(creds) + " is not a regular file"}},
	})
}

// TestSettings_refuseOpenSecrets checks that a file with a secret in it is refused when
// every user may read it, and taken when only owner and group may.
func TestSettings_refuseOpenSecrets(t *testing.T) {
	path := bridgetest.WriteFile(t, "secret", "hunter2\n")
	config := bridgetest.WriteFile(t, "bridge.yaml", "nats-url: n\nnats-token: hunter2\n")
	tests := map[string][]string{
		"nats-creds":         {"--nats-url=n", "--nats-creds=" + path},
		"nats-nkey":          {"--nats-url=n", "--nats-nkey=" + path},
		"nats-password-file": {"--nats-url=n", "--nats-user=u", "--nats-password-file=" + path},
		"nats-token-file":    {"--nats-url=n", "--nats-token-file=" + path},
		"nats-token":         {"--config=" + config},
	}
	for setting, args := range tests {
		for mode, want := range map[os.FileMode]bool{0o600: false, 0o440: false, 0o604: true, 0o602: true} {
			for _, file := range []string{path, config} {
				if err := os.Chmod(file, mode); err != nil {
					t.Fatal(err)
				}
			}
			_, _, err := parse(t, append(args, "--resource=contoso="+testGUID)...)
			problems, _ := errors.AsType[Error](err)
			got := len(problems) == 1 && problems[0].setting == setting && strings.Contains(problems[0].fault, "chmod o=")
			if got != want || !want && err != nil {
				t.Errorf("%s, mode %04o: refused %v, want %v: %v", setting, mode, got, want, err)
			}
		}
	}
}

// TestSettings_overruledSecret checks that a file is not judged by a secret that is not
// taken from it.
func TestSettings_overruledSecret(t *testing.T) {
	config := bridgetest.WriteFile(t, "bridge.yaml", "nats-url: n\nnats-token: changeme\n")
	if err := os.Chmod(config, 0o644); err != nil {
		t.Fatal(err)
	}
	s, _, err := parse(t, "NATS_TOKEN=hunter2", "--resource=contoso="+testGUID, "--config="+config)
	if err != nil || s.NatsLogin.token != "hunter2" {
		t.Errorf("token %q, error %v, want that of the environment", s.NatsLogin.token, err)
	}
}
