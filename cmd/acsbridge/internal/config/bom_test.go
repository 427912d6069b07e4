package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
)

const mark = "\xef\xbb\xbf"

// utf16 is ASCII as Windows PowerShell writes it to a file.
func utf16(text string) string {
	return "\xff\xfe" + strings.Join(strings.SplitAfter(text, ""), "\x00") + "\x00"
}

// TestSettings_byteOrderMark: files that tools of Windows have written are read, and
// those in another encoding are refused by its name.
func TestSettings_byteOrderMark(t *testing.T) {
	cert, key := bridgetest.PairFiles(t)
	withMark := func(name string) string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return bridgetest.WriteFile(t, filepath.Base(name), mark+string(text))
	}
	config := mark + "resource: contoso=" + testGUID + "\r\nnats-url: nats://127.0.0.1:4222\r\n"
	s, _, err := parse(t, "--config="+bridgetest.WriteFile(t, "bridge.yaml", config),
		"--callback-key=a="+bridgetest.WriteFile(t, "key", mark+testSecret+"\r\n"),
		"--admin-token-file="+bridgetest.WriteFile(t, "admin", mark+otherSecret+"\r\n"),
		"--nats-token-file="+bridgetest.WriteFile(t, "token", mark+"hunter2\r\n"),
		"--tls-cert="+withMark(cert), "--tls-key="+withMark(key),
		"--nats-cert="+withMark(cert), "--nats-key="+withMark(key), "--nats-ca="+withMark(cert))
	if err != nil {
		t.Fatal(err)
	}
	if s.NatsLogin.token != "hunter2" || s.callbackKeys[0].Secret != testSecret || s.adminToken != otherSecret {
		t.Errorf("token %q, callback key %q, admin token %q", s.NatsLogin.token, s.callbackKeys[0].Secret, s.adminToken)
	}
	wide := bridgetest.WriteFile(t, "wide", utf16(testSecret+"\r\n"))
	checkRefusals(t, []refusal{
		{"UTF-16 token", []string{"--nats-url=n", "--nats-token-file=" + wide}, []string{"nats-token-file (flag --nats-token-file): " + wide + ": the text is UTF-16; save it as UTF-8"}},
		{"UTF-16 admin token", []string{"--admin-token-file=" + wide}, []string{"admin-token-file (flag --admin-token-file): " + wide + ": the text is UTF-16"}},
		{"UTF-16 callback key", []string{"--callback-key=a=" + wide}, []string{"callback-key (flag --callback-key): a: " + wide + ": the text is UTF-16"}},
		{"UTF-16 authorities", []string{"--nats-url=n", "--nats-ca=" + wide}, []string{"nats-ca (flag --nats-ca): " + wide + ": the text is UTF-16"}},
		{"UTF-16 certificate", []string{"--tls-cert=" + wide, "--tls-key=" + wide}, []string{"tls-cert (flag --tls-cert): " + wide + ": the text is UTF-16"}},
		{"UTF-16 configuration", []string{"--config=" + bridgetest.WriteFile(t, "wide.yaml", utf16("log-format: text\r\n"))}, nil}, // YAML has it
	})
}
