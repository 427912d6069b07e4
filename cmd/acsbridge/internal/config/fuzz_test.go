package config

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzSettings makes up parts of the file, the environment and the
// command line, each together with a secret. Whatever comes of it, there is an answer
// without a panic, and no secret in it.
func FuzzSettings(f *testing.F) {
	for _, file := range []string{
		"", "resource: contoso=" + testGUID, "listen: [a, b]\n", "a: &x 1\nb: *x", "nats-user: u\nnats-url: tls://u:p@h", "nats-password:",
		"nats-token-file: /dev/null", "? [a]\n: b", "stream: |\n  a\n  b", "--- 1\n--- 2", "%YAML 9", "\tx: 1", "<<: *a", "a: !!binary x", "\xff",
	} {
		f.Add(file, "ACSBRIDGE_ACK_WAIT=1h\nACSBRIDGE_RESOURCE=a=b,c", "--leeway=x\n--journal=off")
		f.Add(file, "ACSBRIDGE_X=1\nNATS_URL=nats://user:pw@h%zz", "--nats-user\n--resource=contoso="+testGUID)
		f.Add(file, "ACSBRIDGE_SOURCE_RANGE=x,10.0.0.1/8", "serve\n--\n-\n--nats-creds\n--stream-update=maybe")
	}
	ofFile, ofVariable := "Fo3Secret-of-the-file", "Fo3Secret-of-the-variable"
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, file, environment, flags string) {
		if strings.Contains(file+environment+flags, "Fo3") || strings.ContainsAny(flags, "\x00") {
			t.Skip("the input has a secret")
		}
		path := filepath.Join(dir, "bridge.yaml")
		if err := os.WriteFile(path, []byte("nats-token: '"+ofFile+"'\n"+file), 0o600); err != nil {
			t.Fatal(err)
		}
		variables := append(strings.Split(environment, "\n"), "ACSBRIDGE_NATS_PASSWORD="+ofVariable)
		var out bytes.Buffer
		_, err := Parse(append([]string{"--print-config", "--config=" + path}, strings.Split(flags, "\n")...), variables, &out)
		said := fmt.Sprintf("%s %v", out.String(), err)
		for _, secret := range []string{ofFile, ofVariable} {
			if strings.Contains(said, secret) {
				t.Errorf("%q was said: %s", secret, said)
			}
		}
	})
}
