package bridge

import (
	"context"
	"crypto/x509"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/internal/certtest"
)

const (
	testGUID  = "c3b7d7e8-4a3c-4a0b-9c55-0123456789ab"
	otherGUID = "0f0e0d0c-4a3c-4a0b-9c55-0123456789ab"

	testSecret, otherSecret = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
)

// writeFile makes a file that only its owner can read and returns its path.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// makePair returns a certificate that is valid for a time, and its key, in PEM.
func makePair(t *testing.T, from, until time.Time) (cert, key string) {
	t.Helper()
	certPEM, keyPEM := certtest.SelfSigned(t, &x509.Certificate{NotBefore: from, NotAfter: until})
	return string(certPEM), string(keyPEM)
}

// writePair makes a self-signed certificate and its key.
func writePair(t *testing.T) (cert, key string) {
	t.Helper()
	cert, key = makePair(t, time.Time{}, time.Now().Add(time.Hour))
	return writeFile(t, "cert.pem", cert), writeFile(t, "key.pem", key)
}

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

// readRoot reads a file of the repository.
func readRoot(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../../../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
