package check_test

import (
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/certtest"
	"github.com/acsbridge/acsbridge/internal/natstest"
)

const secret, otherSecret = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"

// front is a reverse proxy in front of a bridge, with a fault.
func front(t *testing.T, target string, fault func(*httputil.ProxyRequest)) string {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = u.Scheme, u.Host
		if fault != nil {
			fault(r)
		}
	}})
	t.Cleanup(proxy.Close)
	return proxy.URL + u.Path
}

// TestRun_outside has proxies in front of a bridge that spoil callbacks.
func TestRun_outside(t *testing.T) {
	t.Parallel()
	s := healthy(t)
	b := s.running()
	redirect := httptest.NewServer(http.RedirectHandler("https://elsewhere.invalid/", http.StatusMovedPermanently))
	t.Cleanup(redirect.Close)
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(elsewhere.Close)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	for name, test := range map[string]struct {
		url  string
		want want
	}{
		"fine": {front(t, b.CallbackURL(), nil), want{"url", "ok", "reaches this bridge over HTTP/1.1; path, query, body and Authorization arrive unchanged", ""}},
		"no Authorization": {front(t, b.CallbackURL(), func(r *httputil.ProxyRequest) { r.Out.Header.Del("Authorization") }),
			want{"url", "fail", "the Authorization header arrives missing", "pass on the Authorization header"}},
		"another Authorization": {front(t, b.CallbackURL(), func(r *httputil.ProxyRequest) { r.Out.Header.Set("Authorization", "Bearer x") }),
			want{"url", "fail", "the Authorization header arrives changed", "pass on"}},
		"path": {front(t, b.CallbackURL(), func(r *httputil.ProxyRequest) { r.Out.URL.Path, r.Out.URL.RawPath = "/callbacks/x", "" }),
			want{"url", "fail", "the path arrives changed", "escapes"}},
		"prefix": {front(t, b.CallbackURL(), func(r *httputil.ProxyRequest) {
			r.Out.URL.Path, r.Out.URL.RawPath = "/api"+r.Out.URL.Path, "/api"+r.Out.URL.EscapedPath()
		}), want{"url", "fail", "it arrives at /api/callbacks, and --callback-path is /callbacks", "404|--callback-path"}},
		"query": {front(t, b.CallbackURL(), func(r *httputil.ProxyRequest) { r.Out.URL.RawQuery = "" }),
			want{"url", "fail", "the query arrives changed", "pass on the query"}},
		"method": {front(t, b.CallbackURL(), func(r *httputil.ProxyRequest) { r.Out.Method = http.MethodPut }),
			want{"url", "fail", "POST arrives as PUT", "final URL"}},
		"media type": {front(t, b.CallbackURL(), func(r *httputil.ProxyRequest) { r.Out.Header.Set("Content-Type", "text/plain") }),
			want{"url", "fail", "the body or its Content-Type arrives changed", "pass on"}},
		"redirect":          {redirect.URL + "/callbacks", want{"url", "fail", `redirects \(301\)`, "final URL"}},
		"another server":    {elsewhere.URL + "/callbacks", want{"url", "fail", "answers 404, and nothing arrives at this bridge", "host and path"}},
		"nothing listens":   {"http://" + bridgetest.FreeAddress(t) + "/callbacks", want{"url", "fail", "no answer from .*connection refused", "no server listens"}},
		"unknown name":      {"https://calls.invalid/callbacks", want{"url", "fail", "no answer from calls.invalid", "DNS"}},
		"unknown authority": {secure.URL + "/callbacks", want{"url", "fail", "unknown authority", "intermediate"}},
		"no URL":            {"callbacks", want{"url", "fail", "--url is not a URL", "https://"}},
		"plain":             {strings.Replace(b.CallbackURL(), "127.0.0.1", "0.0.0.0", 1), want{"url", "fail", "--url is plain http", "https"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one := *s
			one.t, one.opts.URL = t, test.url
			expect(t, one.check(), test.want)
		})
	}
}

// TestRun_outsideWithoutBridge needs one that runs.
func TestRun_outsideWithoutBridge(t *testing.T) {
	t.Parallel()
	s := healthy(t)
	s.opts.URL = "https://calls.invalid/callbacks"
	expect(t, s.check(), want{"url", "fail", "--url needs a running bridge", "start the bridge"})
}

// TestRun_callbackKey is about the key in the URL.
func TestRun_callbackKey(t *testing.T) {
	t.Parallel()
	key := "--callback-key=first=" + bridgetest.WriteFile(t, "key", secret)
	s := healthy(t)
	b := s.running(key)
	s.opts.URL = b.CallbackURL()
	r := s.check(key)
	expect(t, r, want{"url", "ok", "--url has no acsbridge-key: first of --callback-key is added", ""})
	expect(t, r, want{"url", "ok", "the callback key is good", ""})
	expect(t, s.check(), want{"url", "fail", "the bridge asks for a callback key, and the URL has no good one", "acsbridge-key="})
	s.opts.URL = b.CallbackURL() + "?acsbridge-key=" + otherSecret
	r = s.check(key)
	expect(t, r, want{"url", "fail", "the bridge asks for a callback key, and the URL has no good one", "acsbridge-key="})
	if strings.Contains(list(r), otherSecret) || strings.Contains(list(r), secret) {
		t.Errorf("a key is printed:\n%s", list(r))
	}
}

// TestRun_address is about the address that the bridge sees.
func TestRun_address(t *testing.T) {
	t.Parallel()
	s := healthy(t, "--trusted-proxy=127.0.0.0/8", "--source-range=203.0.113.0/24")
	b := s.running()
	s.opts.URL = front(t, b.CallbackURL(), func(r *httputil.ProxyRequest) { r.Out.Header.Set("X-Forwarded-For", "203.0.113.7") })
	expect(t, s.check(), want{"url", "ok", "the bridge sees this host as 203.0.113.7", ""})
	s.opts.URL = front(t, b.CallbackURL(), func(r *httputil.ProxyRequest) { r.Out.Header.Set("X-Forwarded-For", "198.51.100.7") })
	expect(t, s.check(), want{"url", "ok", "198.51.100.7 is not in --source-range", ""})
	s.opts.URL = front(t, b.CallbackURL(), nil)
	expect(t, s.check(), want{"url", "fail", `the trusted proxy 127.0.0.1 does not say the client's address`, "X-Forwarded-For"})
}

// TestRun_eventGridHandshake has a proxy answer the handshake itself, as one does that
// takes OPTIONS for CORS, or drop its header.
func TestRun_eventGridHandshake(t *testing.T) {
	t.Parallel()
	s := healthy(t, "--eventgrid-key=first="+bridgetest.WriteFile(t, "key", secret), "--eventgrid-source=demo="+acstest.DemoTopic)
	b := s.running()
	s.opts.URL = b.CallbackURL()
	r := s.check()
	expect(t, r, want{"eventgrid", "ok", "the handshake at /eventgrid arrives unchanged", ""})
	if strings.Contains(list(r), secret) {
		t.Errorf("a key is printed:\n%s", list(r))
	}
	u, err := url.Parse(b.CallbackURL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: u.Scheme, Host: u.Host})
	cors := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(cors.Close)
	s.opts.URL = cors.URL + "/callbacks"
	expect(t, s.check(), want{"eventgrid", "fail", "answers 204, and nothing arrives", "."})
	s.opts.URL = front(t, b.CallbackURL(), func(r *httputil.ProxyRequest) { r.Out.Header.Del("WebHook-Request-Origin") })
	expect(t, s.check(), want{"eventgrid", "fail", `arrives changed: OPTIONS, origin ""`, "OPTIONS"})
	s.opts.URL = front(t, b.CallbackURL(), func(r *httputil.ProxyRequest) {
		r.Out.URL.Path = strings.Replace(r.Out.URL.Path, "/eventgrid", "/events", 1)
	})
	expect(t, s.check(), want{"eventgrid", "fail", "arrives at /events, and --eventgrid-path is /eventgrid", "."})
	onHandshake := func(fault func(*http.Request)) string {
		return front(t, b.CallbackURL(), func(r *httputil.ProxyRequest) {
			if r.Out.Method == http.MethodOptions {
				fault(r.Out)
			}
		})
	}
	s.opts.URL = onHandshake(func(r *http.Request) { r.Header.Del("Authorization") })
	expect(t, s.check(), want{"eventgrid", "fail", "the Authorization header of the handshake arrives missing", "pass on"})
	s.opts.URL = onHandshake(func(r *http.Request) { r.URL.RawQuery = "" })
	expect(t, s.check(), want{"eventgrid", "fail", "the key of the handshake is not good", "."})
}

// TestRun_bridge repeats what a running bridge says.
func TestRun_bridge(t *testing.T) {
	t.Parallel()
	const theirs = "0f0e0d0c-4a3c-4a0b-9c55-0123456789ab"
	s := healthy(t)
	b := s.running()
	for _, spec := range []acstest.TokenSpec{{Audience: theirs}, {Now: time.Now().Add(-10 * time.Minute)}} {
		if got := bridgetest.Post(t, b.CallbackURL(), s.token(spec), "[]"); got != 401 {
			t.Fatalf("answered %d", got)
		}
	}
	natstest.Until(t, func() bool { return strings.Count(list(s.check()), "a token signed by ACS") == 2 })
	r := s.check()
	expect(t, r, want{"bridge", "warn", "wrong_audience, 1 in the last 5 minutes: a token signed by ACS names audience " + theirs, "immutable id"}, "bridge")
	expect(t, r, want{"bridge", "warn", `expired, 1 in the last 5 minutes: .*it expired 5m\d*s ago`, "check this host's clock"}, "bridge")
	expect(t, r, want{"bridge", "ok", `callback: last came \d+s ago, stored never, refused \d+s ago`, ""}, "bridge")
}

// TestRun_bridgeMissing is a bridge that answers 503, for its NATS is gone and it has no
// journal.
func TestRun_bridgeMissing(t *testing.T) {
	t.Parallel()
	s := healthy(t, "--journal=off")
	s.running()
	s.server.Stop()
	natstest.Until(t, func() bool { return strings.Contains(list(s.check()), "bridge fail") })
	expect(t, s.check(), want{"bridge", "fail", "storage: no journal, and the stream is out of reach", "."}, "bridge", "nats")
}

// TestRun_adminListener is about the listener that says it.
func TestRun_adminListener(t *testing.T) {
	t.Parallel()
	token := "--admin-token-file=" + bridgetest.WriteFile(t, "token", secret)
	s := healthy(t)
	b := s.running(token)
	s.opts.URL = b.CallbackURL()
	expectHealthy(t, s.check(token))
	expect(t, s.check(), want{"bridge", "warn", "the admin listener wants a token", "--admin-token-file"}, "url")
	expect(t, s.check(), want{"url", "fail", "the bridge gives no nonce: it wants a token", "."}, "bridge")
	s.opts.URL = ""
	expect(t, s.check("--admin-listen="+bridgetest.FreeAddress(t)), want{"bridge", "warn", "a bridge uses the data directory, but its admin listener does not answer", "--admin-listen"})

	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	expect(t, s.check("--admin-listen="+strings.TrimPrefix(other.URL, "http://")), want{"bridge", "fail", "/readyz answers 404", "is it a bridge"})
}

// TestRun_natsListenTaken has another server at the embedded one's address.
func TestRun_natsListenTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	expect(t, healthy(t, "--nats-listen="+l.Addr().String()).check(), want{"nats", "fail", "the embedded server cannot listen", "--nats-url"})
}

// TestRun_certificate makes bad certificates for callbacks. No authority known here has
// signed any of them.
func TestRun_certificate(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, test := range map[string]struct {
		template x509.Certificate
		want     want
	}{
		"own authority": {x509.Certificate{NotAfter: now.Add(90 * 24 * time.Hour), DNSNames: []string{"calls.example.net"}}, want{"tls", "warn", "ends at no authority known here", "intermediate"}},
		"soon":          {x509.Certificate{NotAfter: now.Add(3*24*time.Hour + time.Hour), DNSNames: []string{"calls.example.net"}}, want{"tls", "warn", "expires on .*, in 3 days", "renew it"}},
		"expired":       {x509.Certificate{NotAfter: now.Add(-time.Hour), NotBefore: now.Add(-48 * time.Hour), DNSNames: []string{"calls.example.net"}}, want{"tls", "warn", "expired on .*: ACS does not connect", "renew it"}},
		"no names":      {x509.Certificate{NotAfter: now.Add(90 * 24 * time.Hour)}, want{"tls", "fail", "names no host", "have it issued"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cert, key := certtest.SelfSigned(t, &test.template)
			s := healthy(t, "--tls-cert="+bridgetest.WriteFile(t, "cert.pem", string(cert)), "--tls-key="+bridgetest.WriteFile(t, "key.pem", string(key)))
			expect(t, s.check(), test.want, "tls")
		})
	}
}
