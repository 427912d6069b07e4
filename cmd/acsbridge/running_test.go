package main

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

// onLoopback returns serve's settings for a bridge with a data directory of its
// own, which listens at any ports and has NATS embedded when args name no server.
func onLoopback(t *testing.T, args ...string) *settings {
	t.Helper()
	ignoreEnvironment(t)
	args = append(args, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--data-dir="+t.TempDir())
	if !slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--nats-url=") }) {
		args = append(args, "--nats-listen=127.0.0.1:0")
	}
	settings, out, err := parseServe(t, args...)
	if err != nil {
		t.Fatal(err, out)
	}
	return settings
}

// idleBridge returns a bridge that does not run.
func idleBridge(t *testing.T, s *settings) *bridge {
	t.Helper()
	b, err := newBridge(s, slog.New(slog.DiscardHandler))
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
func runBridge(t *testing.T, s *settings, logger *slog.Logger) *bridge {
	t.Helper()
	b, err := newBridge(s, logger)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return b
}
