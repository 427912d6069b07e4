package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/running"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/internal/secretfile"
)

const (
	// healthTimeout bounds the whole question; container health checks ask
	// every few seconds and must not pile up.
	healthTimeout = 4 * time.Second
	// maxReadyBody bounds the answer. /readyz is a few lines long.
	maxReadyBody = 64 << 10
)

// healthCmd asks a bridge's admin listener whether it is ready. It is the
// health check of containers, whose image has neither shell nor curl.
type healthCmd struct {
	Admin          string `help:"Admin listener of the bridge, as host:port or URL." default:"${admin}" env:"ACSBRIDGE_ADMIN_LISTEN" placeholder:"ADDR"`
	AdminTokenFile string `help:"File with the token of the admin listener, for the details." env:"ACSBRIDGE_ADMIN_TOKEN_FILE" placeholder:"FILE"`
}

// Run prints the body of /readyz and fails unless the answer was 200.
func (c *healthCmd) Run(ctx context.Context, std stdio) error {
	target, err := c.readyURL()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", target, err)
	}
	if c.AdminTokenFile != "" {
		token, err := secretfile.Read(c.AdminTokenFile)
		if err != nil {
			return fmt.Errorf("--admin-token-file: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	// No proxy: the admin listener is on this host or in this network.
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%w; is the bridge running with its admin listener there?%s", err, elsewhere())
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReadyBody))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", target, err)
	}
	if text := strings.TrimSpace(string(body)); text != "" {
		fmt.Fprintln(std.out, view.PrintableLines(text))
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s answered %s", target, resp.Status)
	}
	return nil
}

// elsewhere names the newest demo or bridge of this user, which has another address.
func elsewhere() string {
	states, err := running.Find()
	if err != nil || len(states) == 0 {
		return ""
	}
	return fmt.Sprintf(" That of %s: --admin %s", running.Name(&states[0], len(states)), states[0].AdminURL)
}

// readyURL is the address of /readyz at c.Admin.
func (c *healthCmd) readyURL() (string, error) {
	base := cmp.Or(c.Admin, config.DefaultAdminListen)
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return "", fmt.Errorf("%q is not an admin address; write 127.0.0.1:9090 or http://127.0.0.1:9090", c.Admin)
	}
	return u.JoinPath("readyz").String(), nil
}
