package check

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/webhook"
)

// outsideTimeout bounds one request from outside in.
const outsideTimeout = 10 * time.Second

// What is added to the callback URL, as applications do, and the body: each must arrive
// as it was sent.
const (
	probePath  = "/acsbridge%20check/~a"
	probeQuery = "check=a%2Fb+c%26&empty="
	probeBody  = `[{"check":"acsbridge"}]`
)

// outside posts to the callback URL as ACS would, with a nonce in the place of a token,
// and compares what comes to the bridge; and then the handshake of Event Grid.
func (c *checker) outside(ctx context.Context) {
	target, err := url.Parse(c.URL)
	if err != nil || target.Host == "" || target.Scheme != "https" && target.Scheme != "http" {
		c.fail("write it like https://calls.example.net/callbacks", "--url is not a URL")
		return
	}
	if target.Scheme == "http" && !config.IsLoopback(target.Hostname()) {
		c.fail("give ACS a URL with https", "--url is plain http: ACS does not call it, and tokens could be read on the way")
	}
	nonce, err := c.nonce(ctx)
	if err != nil {
		c.fail("give check the settings of the bridge", "the bridge gives no nonce: %v", err)
		return
	}
	c.addKey(target)
	posted := *target
	posted.RawPath = strings.TrimSuffix(target.EscapedPath(), "/") + probePath
	posted.Path, _ = url.PathUnescape(posted.RawPath)
	posted.RawQuery = strings.TrimPrefix(target.RawQuery+"&"+probeQuery, "&")
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, posted.String(), strings.NewReader(probeBody))
	if err != nil {
		c.fail("write it like https://calls.example.net/callbacks", "--url is not a URL")
		return
	}
	request.Header.Set("Content-Type", webhook.ContentType)
	if arrival := c.exchange(ctx, request, nonce, 0, true); arrival != nil {
		c.compare(arrival, &posted)
	}
	if c.s.Ingest().EventGrid != nil {
		c.in("eventgrid", func() { c.handshake(ctx, target, nonce) })
	}
}

// addKey adds a callback key of the settings to a URL without one, so that the secret need
// not be on the command line.
func (c *checker) addKey(target *url.URL) {
	keys := c.s.Ingest().CallbackKeys
	if _, given := ingest.SplitKeys(target.RawQuery); len(given) > 0 || len(keys) == 0 {
		return
	}
	c.ok("--url has no %s: %s of --callback-key is added; the callback URL of ACS needs one", ingest.KeyParameter, keys[0].Name)
	target.RawQuery = strings.TrimPrefix(target.RawQuery+"&"+ingest.KeyParameter+"="+url.QueryEscape(keys[0].Secret), "&")
}

// exchange sends a request and returns how it arrived at the bridge, nil when it did not,
// which is a finding. So many others with the nonce have arrived.
func (c *checker) exchange(ctx context.Context, request *http.Request, nonce string, others int, certificate bool) *ingest.Arrival {
	request.Header.Set("Authorization", "Bearer "+nonce)
	request.Header.Set(ingest.ArrivalHeader, nonce)
	transport := webhook.NewTransport(1)
	defer transport.CloseIdleConnections()
	client := http.Client{
		Transport: transport, Timeout: outsideTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		remedy := dialRemedy(err)
		if remedy == "" {
			remedy = "check the proxy in front, and that its host reaches the bridge"
		}
		c.fail(remedy, "no answer from %s", plain(err))
		return nil
	}
	response.Body.Close()
	if response.TLS != nil && certificate {
		c.peerCertificate(request.URL.Hostname(), response.TLS)
	}
	came, err := c.arrivals(ctx, nonce)
	switch {
	case err != nil:
		c.fail("try again", "the bridge does not say what arrived: %v", err)
	case len(came) > others:
		return &came[others]
	case response.StatusCode/100 == 3:
		c.fail("give ACS the final URL", "%s redirects (%d): ACS's POST becomes a GET", request.URL.Host, response.StatusCode)
	default:
		c.fail("look for its host and path in the proxy in front", "%s answers %d, and nothing arrives at this bridge: another server, or another bridge", request.URL.Host, response.StatusCode)
	}
	return nil
}

// compare compares what arrived with what was sent to the callback URL.
func (c *checker) compare(a *ingest.Arrival, sent *url.URL) {
	fine := true
	differs := func(remedy, format string, args ...any) {
		fine = false
		c.fail(remedy, format, args...)
	}
	below, ok := strings.CutSuffix(a.Path, probePath)
	switch {
	case !ok:
		differs("have the proxy pass on the path as it is, escapes included", "the path arrives changed")
	case a.Route != "callbacks":
		differs("set --callback-path, or the path in the proxy", "it arrives at %s, and --callback-path is %s: callbacks are answered 404", below, c.s.CallbackPath)
	}
	if a.Method != http.MethodPost {
		differs("give ACS the final URL", "POST arrives as %s", a.Method)
	}
	if a.Authorization != "unchanged" {
		differs("have the proxy pass on the Authorization header as it is", "the Authorization header arrives %s: every callback is answered 401", a.Authorization)
	}
	if query, _ := ingest.SplitKeys(sent.RawQuery); a.QueryHash != ingest.HashText(query) {
		differs("have the proxy pass on the query as it is", "the query arrives changed")
	}
	if a.BodyHash != ingest.HashText(probeBody) || a.ContentType != webhook.ContentType {
		differs("have the proxy pass on body and Content-Type as they are", "the body or its Content-Type arrives changed")
	}
	switch {
	case a.KeyAsked && !a.KeyGood:
		c.fail("put acsbridge-key=… of --callback-key into the callback URL, and into --url", "the bridge asks for a callback key, and the URL has no good one: callbacks are answered 401")
	case a.KeyAsked:
		c.ok("the callback key is good")
	}
	if fine {
		c.ok("reaches this bridge over %s; path, query, body and Authorization arrive unchanged", a.Protocol)
	}
	c.address(a)
}

// address is about the address that limits and source ranges are for.
func (c *checker) address(a *ingest.Arrival) {
	peer, _ := netip.ParseAddr(a.Peer)
	trusted := func(p netip.Prefix) bool { return p.Contains(peer) }
	switch {
	case a.Client == "" || !a.Forwarded && slices.ContainsFunc(c.s.Ingest().TrustedProxies, trusted):
		c.fail("have the proxy set X-Forwarded-For", "the trusted proxy %s does not say the client's address: limits and --source-range are for its own", a.Peer)
	case a.Client == a.Peer && (peer.IsLoopback() || peer.IsPrivate()) && len(c.s.TrustedProxy) == 0 && c.behindProxy():
		c.warn(fmt.Sprintf("set --trusted-proxy %s, if that is your proxy, and have it set X-Forwarded-For", a.Peer), "the bridge sees %s as the client: a proxy's address, for all senders", a.Peer)
	default:
		c.ok("the bridge sees this host as %s", a.Client)
	}
	if a.Client != "" && !a.Allowed {
		c.ok("%s is not in --source-range: from here, callbacks would be answered 403", a.Client)
	}
}

// behindProxy reports whether the URL leads to another listener than that of the bridge.
func (c *checker) behindProxy() bool {
	target, err := url.Parse(c.URL)
	return err == nil && target.Scheme == "https" && c.s.TLSCert == ""
}

// handshake asks for permission to deliver as Event Grid does, with the nonce in the place
// of a token.
func (c *checker) handshake(ctx context.Context, target *url.URL, nonce string) {
	const origin = "eventgrid.azure.net"
	u := *target
	u.Path, u.RawPath, u.RawQuery = c.s.GridPath, "", ""
	if keys := c.s.Ingest().EventGrid.Keys; len(keys) > 0 {
		u.RawQuery = ingest.KeyParameter + "=" + url.QueryEscape(keys[0].Secret)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodOptions, u.String(), nil)
	if err != nil {
		c.fail("", "%v", err)
		return
	}
	request.Header.Set("WebHook-Request-Origin", origin)
	before, err := c.arrivals(ctx, nonce)
	if err != nil {
		c.fail("try again", "the bridge does not say what arrived: %v", err)
		return
	}
	a := c.exchange(ctx, request, nonce, len(before), false)
	if a == nil {
		return
	}
	switch {
	case a.Route != "eventgrid":
		c.fail("pass --eventgrid-path on as it is", "the handshake arrives at %s, and --eventgrid-path is %s", a.Path, c.s.GridPath)
	case a.Method != http.MethodOptions || a.Origin != origin:
		c.fail("have the proxy pass on OPTIONS and WebHook-Request-Origin, and not answer CORS itself", "the handshake arrives changed: %s, origin %q", a.Method, a.Origin)
	case a.Authorization != "unchanged":
		c.fail("have the proxy pass on the Authorization header as it is", "the Authorization header of the handshake arrives %s", a.Authorization)
	case a.KeyAsked && !a.KeyGood:
		c.fail("give check and the bridge the same settings", "the key of the handshake is not good")
	default:
		c.ok("the handshake at %s arrives unchanged", c.s.GridPath)
	}
}
