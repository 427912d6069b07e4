package bridge

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
)

// TestBridge_notify checks that the bridge says when it is ready, which is not
// before it takes callbacks, and when it stops.
func TestBridge_notify(t *testing.T) {
	for _, test := range []struct{ name, socket string }{
		{"path", filepath.Join(t.TempDir(), "notify")},
		{"abstract", fmt.Sprintf("@acsbridge-test-%d", os.Getpid())},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := onLoopback(t, "--resource=contoso="+testGUID)
			conn := bridgetest.NotifySocket(t, test.socket)
			b, err := New(s, "test", slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- b.Run(ctx) }()
			if got := bridgetest.State(conn, time.Minute); got != "READY=1" {
				t.Errorf("got %q, want READY=1", got)
			}
			response, err := http.Post(b.CallbackURL(), "application/json", strings.NewReader("[]"))
			if err != nil || response.StatusCode == http.StatusNotFound {
				t.Errorf("ready, but a callback gets %v, error %v", response, err)
			}
			stop()
			if got := bridgetest.State(conn, time.Minute); got != "STOPPING=1" {
				t.Errorf("got %q, want STOPPING=1", got)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBridge_watchdog checks that a bridge that runs notifies systemd, when the unit
// has a watchdog for this process, and that a short WatchdogSec is named.
func TestBridge_watchdog(t *testing.T) {
	for _, test := range []struct {
		name, usec, pid string
		want, warning   string
	}{
		{"on", "60000000", fmt.Sprint(os.Getpid()), "WATCHDOG=1", ""},
		{"short", "9000000", "", "WATCHDOG=1", "WatchdogSec is too short"},
		{"off", "", "", "", ""},
		{"of another process", "60000000", "1", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("WATCHDOG_USEC", test.usec)
			t.Setenv("WATCHDOG_PID", test.pid)
			conn := bridgetest.NotifySocket(t, filepath.Join(t.TempDir(), "notify"))
			log := &logLines{}
			b, err := New(onLoopback(t, "--resource=contoso="+testGUID), "test", slog.New(log))
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- b.Run(ctx) }()
			got := map[string]bool{}
			for range 2 {
				got[bridgetest.State(conn, 500*time.Millisecond)] = true
			}
			if !got["READY=1"] || !got[test.want] {
				t.Errorf("got %v, want READY=1 and %q", got, test.want)
			}
			if found := strings.Join(log.taken("WatchdogSec"), "\n"); !strings.Contains(found, test.warning) || test.warning == "" && found != "" {
				t.Errorf("log %q, want %q", found, test.warning)
			}
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestWatch_aliveEndsWithTheChecks checks that the watchdog is not notified while a check
// does not return, as with a lock that is never released.
func TestWatch_aliveEndsWithTheChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var alive atomic.Int32
		var hangs atomic.Bool
		release := make(chan struct{})
		w := &watch{logger: slog.New(slog.DiscardHandler), alive: func() { alive.Add(1) }, checks: []func(context.Context) []condition{
			func(context.Context) []condition {
				if hangs.Load() {
					<-release
				}
				return nil
			},
		}}
		go w.run(ctx)
		time.Sleep(3*watchInterval + time.Second)
		if n := alive.Load(); n != 4 {
			t.Errorf("alive %d times in %v, want 4", n, 3*watchInterval)
		}
		hangs.Store(true)
		time.Sleep(time.Minute)
		if n := alive.Load(); n != 4 {
			t.Errorf("alive %d times, also while a check does not return", n)
		}
		close(release)
		stop()
	})
}
