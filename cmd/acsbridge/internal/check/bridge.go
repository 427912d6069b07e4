package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/bridge"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/ingest"
)

const (
	// adminTimeout bounds one answer of the admin listener.
	adminTimeout = 5 * time.Second
	// maxAdminBody bounds its size in bytes.
	maxAdminBody = 256 << 10
)

// bridge examines the bridge that runs, by its admin listener, and the way to it from
// outside.
func (c *checker) bridge(ctx context.Context) {
	there := false
	c.in("bridge", func() { there = c.ready(ctx) })
	if c.URL == "" {
		return
	}
	c.in("url", func() {
		if !there {
			c.fail("start the bridge, then check again", "--url needs a running bridge, which says what arrives")
			return
		}
		c.outside(ctx)
	})
}

// ready repeats what /readyz of a running bridge says, and reports whether one answers.
func (c *checker) ready(ctx context.Context) bool {
	status, body, err := c.admin(ctx, http.MethodGet, "/readyz")
	switch {
	case err != nil && c.locked:
		c.warn("name the address of the running bridge with --admin-listen", "a bridge uses the data directory, but its admin listener does not answer: %v", err)
		return false
	case err != nil:
		c.ok("no bridge answers on %s: what a running one reports is not known", c.adminAddress())
		return false
	case status != http.StatusOK && status != http.StatusServiceUnavailable:
		c.fail("is it a bridge? --admin-listen names its address", "%s/readyz answers %d", c.adminAddress(), status)
		return false
	}
	details := false
	for line := range strings.Lines(string(body)) {
		part, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		mark, text, more := strings.Cut(strings.TrimSpace(rest), " ")
		text = strings.TrimSpace(text)
		details = details || more
		switch mark {
		case "ok":
			c.ok("%s: %s", part, text)
		case "missing":
			c.problem(Fail, part+": "+text)
		case "note":
			c.note(part, text)
		}
	}
	if !details {
		c.warn("give --admin-token-file that of the bridge", "the admin listener wants a token: the details are not shown")
	}
	return true
}

// note adds a note of /readyz. That of a refusal has its cause and remedy after colons.
func (c *checker) note(part, text string) {
	if cause, remedy, ok := strings.Cut(text, ": check "); ok && part == "refused" {
		c.warn("check "+remedy, "%s: %s", part, cause)
		return
	}
	found, remedy, _ := strings.Cut(text, "; ")
	if remedy == "" {
		remedy = "docs/operations.md has each line of /readyz"
	}
	c.warn(remedy, "%s: %s", part, found)
}

// adminAddress is where the admin listener is, seen from this host.
func (c *checker) adminAddress() string {
	if c.running != nil {
		return c.running.AdminURL
	}
	host, port, _ := net.SplitHostPort(c.s.AdminListen)
	if config.IsWildcard(host) {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// admin asks the admin listener.
func (c *checker) admin(ctx context.Context, method, path string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, c.adminAddress()+path, nil)
	if err != nil {
		return 0, nil, err
	}
	if token := c.s.AdminToken(); token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	// No proxy: the admin listener is on this host or in this network.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, errors.New(plain(err)) // without the nonce
	}
	defer response.Body.Close()
	body, err = io.ReadAll(io.LimitReader(response.Body, maxAdminBody))
	return response.StatusCode, body, err
}

// nonce gets one from the bridge.
func (c *checker) nonce(ctx context.Context) (string, error) {
	answer, err := c.checkAnswer(ctx, http.MethodPost, bridge.CheckPath)
	if err == nil && answer.Nonce == "" {
		err = errors.New("it gave no nonce")
	}
	return answer.Nonce, err
}

// arrivals returns what came to the bridge with a nonce.
func (c *checker) arrivals(ctx context.Context, nonce string) ([]ingest.Arrival, error) {
	answer, err := c.checkAnswer(ctx, http.MethodGet, bridge.CheckPath+"?nonce="+url.QueryEscape(nonce))
	return answer.Arrivals, err
}

func (c *checker) checkAnswer(ctx context.Context, method, path string) (answer bridge.CheckAnswer, err error) {
	status, body, err := c.admin(ctx, method, path)
	switch {
	case err != nil:
		return answer, err
	case status == http.StatusUnauthorized:
		return answer, errors.New("it wants a token: give --admin-token-file that of the bridge")
	case status != http.StatusOK:
		return answer, fmt.Errorf("it answers %d: it is another version", status)
	}
	return answer, json.Unmarshal(body, &answer)
}
