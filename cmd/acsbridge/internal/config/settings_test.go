package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/verify"
)

// TestSettings_values checks that texts become the values that they say.
func TestSettings_values(t *testing.T) {
	s, _, err := parse(t, "ACSBRIDGE_NATS_PASSWORD=-dashed",
		"--resource", "contoso="+testGUID+",fabrikam="+otherGUID,
		"--leeway=1m30s", "--journal-max-bytes=2 GiB", "--stream-max-bytes=5242880", "--max-in-flight=7",
		"--stream-update", "--nats-url=nats://n1:4222,n2", "--nats-user=bridge")
	if err != nil {
		t.Fatal(err)
	}
	got := []any{s.Leeway, s.JournalMaxBytes, s.StreamMaxBytes, s.MaxInFlight,
		s.StreamUpdate, s.EmbeddedNATS(), s.NatsLogin.password, s.NatsLogin.token}
	want := []any{90 * time.Second, size(2 << 30), size(5 << 20), 7, true, false, "-dashed", ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	resources := []verify.Resource{{Name: "contoso", Audience: testGUID}, {Name: "fabrikam", Audience: otherGUID}}
	if diff := cmp.Diff(resources, s.Resources()); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
}

// TestSources_order checks flag over variable over file over default, for the file of
// settings as well, and the names of the nats command.
func TestSources_order(t *testing.T) {
	file := bridgetest.WriteFile(t, "bridge.yaml", `
# every source sets some
resource: [contoso=`+testGUID+`]
listen: 127.0.0.1:1001
admin-listen: 127.0.0.1:1002
callback-path: /file
nats-url: nats://file
stream-update: true
`)
	s, _, err := parse(t, "--listen=127.0.0.1:3001", "--config="+file, "ACSBRIDGE_CONFIG="+file+"x",
		"ACSBRIDGE_LISTEN=127.0.0.1:2001", "ACSBRIDGE_ADMIN_LISTEN=127.0.0.1:2002",
		"ACSBRIDGE_LOG_LEVEL=", "ACSBRIDGE_RESORCE=", // as compose passes an unset variable
		"ACSBRIDGE_NATS_USER=ours", "NATS_USER=theirs", "NATS_PASSWORD=s3cret")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, name := range []string{"listen", "admin-listen", "callback-path", "log-level", "nats-url", "nats-user", "stream-update"} {
		for _, flag := range s.flags {
			if flag.Name == name {
				got[name] = fmt.Sprintf("%v from %s", flag.Target.Interface(), s.sources.originOf(name))
			}
		}
	}
	want := map[string]string{
		"listen":        "127.0.0.1:3001 from flag --listen",
		"admin-listen":  "127.0.0.1:2002 from ACSBRIDGE_ADMIN_LISTEN",
		"callback-path": "/file from bridge.yaml:6",
		"log-level":     "info from default",
		"nats-url":      "nats://file from bridge.yaml:7",
		"nats-user":     "ours from ACSBRIDGE_NATS_USER",
		"stream-update": "true from bridge.yaml:8",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if got, want := s.NatsLogin.password+" from "+s.sources.originOf("nats-password"), "s3cret from NATS_PASSWORD"; got != want {
		t.Errorf("password %s, want %s", got, want)
	}
}

// TestSettings_print checks that what --print-config writes is the same
// configuration when it is read back, and that no secret is in it.
func TestSettings_print(t *testing.T) {
	_, first, err := parse(t, "NATS_PASSWORD=s3cret", "--print-config",
		"--resource", "contoso="+testGUID, "--resource", "null="+otherGUID, "--stream", "null", "--journal", "off",
		"--nats-url", "tls://nats.example.net", "--nats-user", "yes: # no", "--stream-update", "--leeway", "0s")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(first, "s3cret") || !strings.Contains(first, "# nats-password: ******** # NATS_PASSWORD\n") {
		t.Errorf("want the password masked and in a comment:\n%s", first)
	}
	_, second, err := parse(t, "NATS_PASSWORD=s3cret", "--print-config", "--config", bridgetest.WriteFile(t, "bridge.yaml", first))
	if err != nil {
		t.Fatalf("read back: %v\n%s", err, first)
	}
	if diff := cmp.Diff(withoutOrigins(first), withoutOrigins(second)); diff != "" {
		t.Errorf("read back (-first +second):\n%s", diff)
	}
	if strings.Contains(first, "nats-token:") {
		t.Errorf("a secret that is not set is printed:\n%s", first)
	}
	if want := `nats-user: 'yes: # no' # flag --nats-user`; !strings.Contains(first, want) {
		t.Errorf("want the line %s:\n%s", want, first)
	}
}

// withoutOrigins cuts the comment off each line.
func withoutOrigins(text string) []string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if at := strings.LastIndex(line, " # "); at >= 0 {
			lines[i] = line[:at]
		}
	}
	return lines
}

// TestSettings_secretsStaySecret breaks the configuration around secrets in each way
// that makes an error, and looks for them in everything that is printed.
func TestSettings_secretsStaySecret(t *testing.T) {
	const hidden = "hunter2"
	file := func(text string) string { return bridgetest.WriteFile(t, "bridge.yaml", text) }
	tests := map[string][]string{
		"flag that does not exist":  {"--nats-password=" + hidden},
		"flag, and then a value":    {"--nats-token", hidden},
		"two logins":                {"--nats-url=x", "--config=" + file("nats-token: "+hidden+"\nnats-password: "+hidden)},
		"no server":                 {"--config=" + file("nats-token: "+hidden)},
		"login in a URL":            {"--nats-url=nats://user:" + hidden + "@host:4222"},
		"login in a broken URL":     {"--nats-url=nats://user:" + hidden + "%zz@host:4222"},
		"login in the issuer":       {"--issuer=https://user:" + hidden + "@host"},
		"login in a broken issuer":  {"--issuer=https://user:" + hidden + "%zz@host"},
		"login in the metadata URL": {"--oidc-config-url=https://user:" + hidden + "@host"},
		"connection string":         {"--resource=endpoint=https://contoso.example/;accesskey=" + hidden},
		"key for an audience":       {"--resource=contoso=" + hidden},
		"no name":                   {"--resource=" + hidden},
		"list in the file":          {"--config=" + file("nats-password: ["+hidden+"]")},
		"mapping in the file":       {"--config=" + file("nats-password: {a: "+hidden+"}")},
		"reference in the file":     {"--config=" + file("nats-password: *"+hidden)},
		"twice in the file":         {"--config=" + file("nats-password: "+hidden+"\nnats-password: "+hidden)},
		"broken file":               {"--config=" + file("nats-password: "+hidden+": x")},
		"two lines in a file":       {"--nats-url=x", "--nats-user=u", "--nats-password-file=" + file(hidden+"\n"+hidden)},
	}
	for name, args := range tests {
		t.Run(name, func(t *testing.T) {
			_, out, err := parse(t, append([]string{"--print-config"}, args...)...)
			if err == nil {
				t.Fatal("no error")
			}
			if strings.Contains(out+err.Error(), hidden) {
				t.Errorf("secret printed: %s %v", out, err)
			}
		})
	}
}

// TestSize_text checks what is read as a size, and how it is printed.
func TestSize_text(t *testing.T) {
	for text, want := range map[string]string{
		"0": "0", "1000": "1000B", "2048 KiB": "2MiB", "5242880": "5MiB", "1GiB": "1GiB", "3TiB": "3TiB", "7 B": "7B",
		"x": "", "": "", "5kB": "", "-1": "", "1.5MiB": "", "9000000TiB": "", "MiB": "",
	} {
		var got size
		err := got.UnmarshalText([]byte(text))
		if bad := want == ""; bad != (err != nil) || !bad && got.String() != want {
			t.Errorf("%q: got %s, %v, want %q", text, got, err, want)
		}
	}
}

// TestSettings_allProblems checks that one refusal names the problems of every
// source at once.
func TestSettings_allProblems(t *testing.T) {
	file := bridgetest.WriteFile(t, "bridge.yaml", "leeway: an hour\nstraem: ACS\n")
	_, _, err := parse(t, "ACSBRIDGE_LISEN=127.0.0.1:8080", "ACSBRIDGE_PRINT_CONFIG=true", "ACSBRIDGE_ACK_WAIT=10s", "--config", file, "--journal=maybe")
	problems, ok := errors.AsType[Error](err)
	if !ok {
		t.Fatalf("error %v, want a Error", err)
	}
	want := `bad configuration, nothing was started
  ACSBRIDGE_LISEN (environment): no such setting; did you mean ACSBRIDGE_LISTEN?
  ACSBRIDGE_PRINT_CONFIG (environment): no such setting
  straem (bridge.yaml:2): no such setting; did you mean stream?
  leeway (bridge.yaml:1): "an hour" is not a duration; write it like 500ms, 10s or 5m
  resource (not set): at least one is needed; write NAME=GUID, where GUID is the immutable resource id: az communication show --query immutableResourceId
  journal (flag --journal): "maybe" is not one of on, off
  ack-wait (ACSBRIDGE_ACK_WAIT): 10s is not between 0s and 4s`
	if diff := cmp.Diff(want, problems.Error()); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}
