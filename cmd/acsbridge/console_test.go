package main

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
)

// TestConsoleCommand shows calls and events with the rights that deploy/nats gives to a
// viewer, and says which right the rest needs.
func TestConsoleCommand(t *testing.T) {
	viewer := viewed(t)
	token := bridgetest.WriteFile(t, "token", strings.Repeat("c", 32))
	var out, log sharedLog
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		args := append([]string{"console", "--admin-listen=127.0.0.1:0", "--console-token-file=" + token, "--admin-host=console.example"}, viewer...)
		ended <- run(ctx, args, stdio{out: &out, err: &log})
	}()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err, log.String())
		}
	}()
	address := regexp.MustCompile(`^console  (http://127\.0\.0\.1:\d+)/\n$`)
	natstest.Until(t, func() bool { return address.MatchString(out.String()) })
	console := address.FindStringSubmatch(out.String())[1]
	get := func(path, host, token string) (int, string) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, console+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	natstest.Until(t, func() bool { status, _ := get("/readyz", "", ""); return status == http.StatusOK })
	secret := strings.Repeat("c", 32)
	for _, test := range []struct {
		path, host, token string
		status            int
		says              string
	}{
		{"/calls", "", "", 401, "a bearer token is needed"},
		{"/calls", "evil.example", secret, 421, "not among admin-host"},
		{"/calls", "console.example", secret, 200, `href="/calls/c-1"`},
		{"/", "", secret, 200, "CallDisconnected"}, // the list of calls
		{"/refusals", "", secret, 404, "no such page"},
		{"/calls/c-1", "", secret, 200, `href="/events/2"`},
		{"/calls/0123456789", "", secret, 200, `href="/events/2"`},
		{"/events/2", "", secret, 200, "the right to $JS.API.CONSUMER.LIST.ACS"},
		{"/events/99", "", secret, 400, "stream ACS has no message 99"},
		{"/livez", "", "", 200, "alive"},
	} {
		if status, text := get(test.path, test.host, test.token); status != test.status || !strings.Contains(text, test.says) {
			t.Errorf("%s: %d, want %d with %q in\n%s", test.path, status, test.status, test.says, text)
		}
	}
	if text := log.String(); strings.Contains(text, secret) {
		t.Error("the token is in the log:\n", text)
	}
}
