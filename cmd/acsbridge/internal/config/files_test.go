package config

import (
	"crypto/x509"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/internal/certtest"
)

// writePair makes a self-signed certificate and its key.
func writePair(t *testing.T) (cert, key string) {
	t.Helper()
	cert, key = makePair(t, time.Time{}, time.Now().Add(time.Hour))
	return writeFile(t, "cert.pem", cert), writeFile(t, "key.pem", key)
}

// makePair returns a certificate that is valid for a time, and its key, in PEM.
func makePair(t *testing.T, from, until time.Time) (cert, key string) {
	t.Helper()
	certPEM, keyPEM := certtest.SelfSigned(t, &x509.Certificate{NotBefore: from, NotAfter: until})
	return string(certPEM), string(keyPEM)
}

// TestSettings_keyPairs checks both pairs of certificate and key: taken when they fit,
// refused when they do not, or when all users can read the key.
func TestSettings_keyPairs(t *testing.T) {
	cert, key := writePair(t)
	other, open := writePair(t)
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, names := range [][2]string{{"tls-cert", "tls-key"}, {"nats-cert", "nats-key"}} {
		for _, test := range []struct{ cert, key, setting, fault string }{
			{cert, key, "", ""},
			{other, key, names[0], "private key does not match"},
			{key, key, names[0], "tls: "},
			{other, open, names[1], "run chmod o="},
			{cert + "x", key, names[0], "no such file"},
			{cert, key + "x", names[1], "no such file"},
		} {
			_, _, err := parse(t, "--resource=contoso="+testGUID, "--nats-url=n",
				"--"+names[0]+"="+test.cert, "--"+names[1]+"="+test.key)
			problems, _ := errors.AsType[Error](err)
			switch {
			case test.fault == "" && err == nil:
			case len(problems) != 1 || problems[0].setting != test.setting || !strings.Contains(problems[0].fault, test.fault):
				t.Errorf("%s %s: error %v, want %s: …%s…", test.cert, test.key, err, test.setting, test.fault)
			}
		}
	}
}

// TestSettings_authorities checks that a file of certificates is taken.
func TestSettings_authorities(t *testing.T) {
	cert, _ := writePair(t)
	if _, _, err := parse(t, "--resource=contoso="+testGUID, "--nats-url=n", "--nats-ca="+cert); err != nil {
		t.Error(err)
	}
}
