package config

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
)

// TestSettings_keyPairs checks both pairs of certificate and key: taken when they fit,
// refused when they do not, or when all users can read the key.
func TestSettings_keyPairs(t *testing.T) {
	cert, key := bridgetest.PairFiles(t)
	other, open := bridgetest.PairFiles(t)
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
