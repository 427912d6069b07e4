package check

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/verify"
)

// skewed is a clock's error that is warned of. Date has whole seconds.
const skewed = 5 * time.Second

// soon is how long before it expires a certificate of another server is warned of.
const soon = 14 * 24 * time.Hour

// keys examines the key server of callbacks, the clock by it, and a token; and the key
// server of Event Grid when its tokens are asked for.
func (c *checker) keys(ctx context.Context) {
	v := c.keyServer(ctx, "keys", c.s.Callbacks())
	if c.Token != "" {
		c.in("token", func() { c.token(v) })
		return
	}
	if grid := c.s.EventGrid(); grid.Entra != nil {
		c.keyServer(ctx, "eventgrid", grid)
	}
}

// keyServer fetches the keys of an issuer as serve does.
func (c *checker) keyServer(ctx context.Context, area string, config verify.Config) (v *verify.Verifier) {
	record := &recorder{next: verify.NewTransport()}
	defer record.next.CloseIdleConnections()
	config.Transport = record
	c.in(area, func() {
		var err error
		if v, err = verify.New(config); err != nil { // the settings were checked
			c.fail("", "%v", err)
			return
		}
		keys, err := v.FetchKeys(ctx)
		first := record.first()
		if first.url != nil {
			c.proxy(first.url)
		}
		if first.tls != nil {
			c.peerCertificate(first.url.Hostname(), first.tls)
		}
		switch {
		case err != nil:
			c.fail(keyRemedy(err), "no keys: %s", plain(err))
		case len(keys.Skipped) > 0:
			c.ok("%s from %s, issuer exact; not used: %s", view.Plural(keys.Usable, "usable key"), first.url.Host, strings.Join(keys.Skipped, ", "))
		default:
			c.ok("%s from %s, issuer exact", view.Plural(keys.Usable, "usable key"), first.url.Host)
		}
		if first.answered {
			c.in("clock", func() { c.clock(first) })
		}
	})
	return v
}

// proxy names the proxy of the environment.
func (c *checker) proxy(u *url.URL) {
	if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u}); err == nil && proxy != nil {
		c.ok("through the proxy %s", proxy.Redacted())
	}
}

// peerCertificate names the certificate that a server has shown, which was verified.
func (c *checker) peerCertificate(host string, state *tls.ConnectionState) {
	leaf := state.PeerCertificates[0]
	left := time.Until(leaf.NotAfter)
	by := cmp.Or(leaf.Issuer.CommonName, leaf.Issuer.String())
	if left < soon {
		c.warn("have it renewed", "the certificate of %s, by %s, expires in %s", host, by, days(left))
		return
	}
	c.ok("the certificate of %s, by %s, is good for %s (%s)", host, by, days(left), tls.VersionName(state.Version))
}

func days(d time.Duration) string { return view.Plural(int(d.Hours()/24), "day") }

// clock compares this clock with the Date of an answer.
func (c *checker) clock(a exchange) {
	date, err := http.ParseTime(a.date)
	if err != nil {
		c.ok("not known: the key server sends no Date")
		return
	}
	// Date is cut to a second, and was written between request and answer.
	ahead := max(a.sent.Sub(date.Add(time.Second+a.age)), 0)
	behind := max(date.Add(a.age).Sub(a.received), 0)
	off, way := ahead, "ahead of"
	if behind > 0 {
		off, way = behind, "behind"
	}
	text := fmt.Sprintf("%s %s the key server's", off.Round(time.Second), way)
	switch {
	case off > c.s.Leeway:
		c.fail("set the clock by NTP", "%s, more than --leeway %s: good tokens are refused for good", text, c.s.Leeway)
	case off > skewed:
		c.warn("set the clock by NTP", "%s: --leeway %s is partly used up", text, c.s.Leeway)
	default:
		c.ok("within %s of the key server's", skewed)
	}
}

// token reports which rules a token passes. The token is not printed.
func (c *checker) token(v *verify.Verifier) {
	if v == nil {
		return
	}
	for _, rule := range v.Examine(c.Token) {
		refused, isRefusal := errors.AsType[*verify.RefusedError](rule.Err)
		switch {
		case rule.Err == nil:
			c.ok("%s: %s", rule.Name, rule.Found)
		case isRefusal:
			c.fail(fmt.Sprintf("callbacks with it are answered 401, %s: %v", refused.Reason, refused.Err), "%s: %s", rule.Name, rule.Found)
		default:
			c.warn("callbacks with it are answered 503 until the key is there", "%s: %s", rule.Name, rule.Found)
		}
	}
}

// recorder notes the first exchange with a server.
type recorder struct {
	next *http.Transport

	mu    sync.Mutex
	noted exchange // without a URL before the first
}

// exchange is one request and its answer.
type exchange struct {
	url            *url.URL
	sent, received time.Time
	answered       bool
	date           string
	age            time.Duration // in caches
	tls            *tls.ConnectionState
}

// RoundTrip makes an exchange.
func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	e := exchange{url: request.URL, sent: time.Now()}
	response, err := r.next.RoundTrip(request)
	e.received = time.Now()
	if err == nil {
		seconds, _ := strconv.Atoi(response.Header.Get("Age"))
		e.answered, e.date, e.age, e.tls = true, response.Header.Get("Date"), time.Duration(seconds)*time.Second, response.TLS
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.noted.url == nil {
		r.noted = e
	}
	return response, err
}

// first returns the first exchange, a zero one when there was none.
func (r *recorder) first() exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.noted
}

// plain is the text of an error about a request, with the host in place of its URL: that
// is long, and can have a secret.
func plain(err error) string {
	failed, ok := errors.AsType[*url.Error](err)
	if !ok {
		return err.Error()
	}
	host := ""
	if u, err := url.Parse(failed.URL); err == nil {
		host = u.Host + ": "
	}
	return strings.Replace(err.Error(), failed.Error(), host+failed.Err.Error(), 1)
}

// keyRemedy returns what to do when keys cannot be fetched.
func keyRemedy(err error) string {
	if remedy := dialRemedy(err); remedy != "" {
		return remedy
	}
	var issuer *verify.IssuerError
	var status *verify.StatusError
	var unusable *verify.NoUsableKeyError
	switch {
	case errors.As(err, &issuer):
		return "set --issuer to exactly what the document says, if that is your cloud"
	case errors.As(err, &status) && status.Status/100 == 3:
		return "name the final address with --oidc-config-url: redirects are not followed"
	case errors.As(err, &unusable):
		return "keys for RS256 are needed, RSA with 2048 bits or more"
	}
	return "compare --oidc-config-url with the cloud of the resource"
}

// dialRemedy returns what to do when a server cannot be reached by HTTP, empty for other
// errors.
func dialRemedy(err error) string {
	var name *net.DNSError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var timeout net.Error
	switch {
	case errors.As(err, &name):
		return "check DNS on this host: the name cannot be looked up"
	case errors.As(err, &authority):
		return "its chain ends at no authority known here: an intermediate is missing, or a proxy opens TLS; add that authority with SSL_CERT_FILE"
	case errors.As(err, &host):
		return "its certificate is for another name"
	case errors.As(err, &invalid):
		return "its certificate has expired, or this host's clock is wrong"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "no server listens there, or a firewall refuses"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer: check the route, firewalls, and HTTPS_PROXY"
	}
	return ""
}
