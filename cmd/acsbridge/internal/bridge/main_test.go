package bridge

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
)

const (
	testGUID  = "c3b7d7e8-4a3c-4a0b-9c55-0123456789ab"
	otherGUID = "0f0e0d0c-4a3c-4a0b-9c55-0123456789ab"

	testSecret, otherSecret = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
)

// gridArgs are settings with which Event Grid comes with a token.
func gridArgs(more ...string) []string {
	return append([]string{"--eventgrid-tenant=" + acstest.DemoTenant, "--eventgrid-audience=" + acstest.DemoApplication, "--eventgrid-source=contoso=" + acstest.DemoTopic}, more...)
}

// onLoopback returns serve's settings for a bridge with a data directory of its
// own, which listens at any ports and has NATS embedded when args name no server.
func onLoopback(t *testing.T, args ...string) *config.Settings {
	t.Helper()
	args = append(args, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--data-dir="+t.TempDir())
	if !slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--nats-url=") }) {
		args = append(args, "--nats-listen=127.0.0.1:0")
	}
	settings, err := config.Parse(args, nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return settings
}

// idleBridge returns a bridge that does not run.
func idleBridge(t *testing.T, s *config.Settings) *Bridge {
	t.Helper()
	b, err := New(s, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// runBridge runs a bridge until the test ends.
func runBridge(t *testing.T, s *config.Settings, logger *slog.Logger) *Bridge {
	t.Helper()
	b, err := New(s, "test", logger)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return b
}

// newIssuer returns a key server that runs until the test ends.
func newIssuer(t testing.TB) *acstest.Issuer {
	t.Helper()
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{})
	if err == nil {
		err = issuer.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { issuer.Close() })
	return issuer
}

// ready returns the answer of /readyz, which begins with its status.
func ready(t testing.TB, b *Bridge) string {
	t.Helper()
	response, err := http.Get("http://" + b.admin.Addr().String() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d\n%s", response.StatusCode, text)
}
