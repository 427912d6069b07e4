package config

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/internal/usertest"
)

// TestSettings_unreadableFile checks what is said of a file that the process may
// not read: a secret of Docker Compose keeps the owner and the mode that its file
// has on the host.
func TestSettings_unreadableFile(t *testing.T) {
	file := usertest.Unreadable(t, testSecret)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("permission denied: this process has user id %d and group id %d, and the mode of %s is %04o; give it to that user with chown",
		os.Getuid(), os.Getgid(), file, info.Mode().Perm())
	for _, flag := range []string{
		"--config=", "--nats-password-file=", "--nats-token-file=", "--nats-creds=", "--nats-nkey=", "--nats-ca=",
		"--admin-token-file=", "--callback-key=a=", "--eventgrid-key=a=", "--tls-key=" + file + " --tls-cert=",
	} {
		t.Run(flag, func(t *testing.T) {
			usertest.AsOther(t, func() {
				args := append(strings.Fields(flag+file), "--resource=contoso="+testGUID)
				if _, _, err := parse(t, args...); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %s", err, want)
				}
			})
		})
	}
}
