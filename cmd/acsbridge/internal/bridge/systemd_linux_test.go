package bridge

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// notifySocket is a socket as systemd gives one to a service of Type=notify.
func notifySocket(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return conn
}

// state returns the next state of the service, "" when none comes in time.
func state(conn *net.UnixConn, within time.Duration) string {
	_ = conn.SetReadDeadline(time.Now().Add(within))
	buffer := make([]byte, 4096)
	n, _ := conn.Read(buffer)
	return string(buffer[:n])
}

// TestBridge_notify checks that the bridge says when it is ready, which is not
// before it takes callbacks, and when it stops.
func TestBridge_notify(t *testing.T) {
	for _, test := range []struct{ name, socket string }{
		{"path", filepath.Join(t.TempDir(), "notify")},
		{"abstract", fmt.Sprintf("@acsbridge-test-%d", os.Getpid())},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := onLoopback(t, "--resource=contoso="+testGUID)
			conn := notifySocket(t, test.socket)
			b, err := New(s, "test", slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- b.Run(ctx) }()
			if got := state(conn, time.Minute); got != "READY=1" {
				t.Errorf("got %q, want READY=1", got)
			}
			response, err := http.Post(b.CallbackURL(), "application/json", strings.NewReader("[]"))
			if err != nil || response.StatusCode == http.StatusNotFound {
				t.Errorf("ready, but a callback gets %v, error %v", response, err)
			}
			stop()
			if got := state(conn, time.Minute); got != "STOPPING=1" {
				t.Errorf("got %q, want STOPPING=1", got)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
