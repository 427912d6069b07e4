package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/check"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/certtest"
	"github.com/acsbridge/acsbridge/internal/datadir"
	"github.com/acsbridge/acsbridge/internal/natstest"
)

// runCheck runs the built command and returns what it prints and its exit status.
func runCheck(t *testing.T, env []string, args ...string) (out string, status int) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "acsbridge", append([]string{"check"}, args...)...)
	command.Env = append(os.Environ(), env...)
	text, err := command.Output()
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 && !strings.HasPrefix(line, "{") {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	return string(text), command.ProcessState.ExitCode()
}

// oneLine undoes the wrapping of lines.
func oneLine(out string) string { return regexp.MustCompile(`\s+`).ReplaceAllString(out, " ") }

// onDisk skips a test where directories for temporary files are what check warns of.
func onDisk(t *testing.T) {
	t.Helper()
	if name, _ := datadir.FileSystem(t.TempDir()); name == "overlay" || name == "tmpfs" {
		t.Skip("no disk for temporary files, but " + name)
	}
}

// TestCheck_status runs the built command on a good and on bad set-ups.
func TestCheck_status(t *testing.T) {
	onDisk(t)
	ignoreEnvironment(t)
	server := natstest.Start(t)
	good := append(trust(newIssuer(t)), "--nats-url="+server.URL(), "--data-dir="+t.TempDir(), "--admin-listen="+bridgetest.FreeAddress(t))
	warned := append(good[:len(good):len(good)], "--listen=0.0.0.0:0")
	failing := append(good[:len(good):len(good)], "--nats-url=nats://"+bridgetest.FreeAddress(t))
	for _, test := range []struct {
		args   []string
		status int
		prints string
	}{
		{good, 0, `(?s)^settings\n.*  ok    resource: demo=.*\d+ ok, 0 warnings, 0 failures\n$`},
		{warned, 0, `(?s)^settings\n.*  warn  plain HTTP on 0\.0\.0\.0:0.*\n        → set --tls-cert.*, 1 warning, 0 failures\n$`},
		{append(warned, "--strict"), 1, `1 warning,`},
		{failing, 2, `(?s)\nnats\n  fail  no connection: .*, 1 failure\n$`},
		{[]string{"--leeway=1h"}, 2, `(?s)^settings\n  fail  .*leeway \(flag --leeway\): 1h0m0s is not between 0s and 5m0s\n        → correct it.* 2 failures\n$`},
		{[]string{"--no-such-flag"}, 2, `^$`},
		{append(good, "--token="+t.TempDir()+"/none"), 1, `^$`},
	} {
		out, status := runCheck(t, nil, test.args...)
		if status != test.status || !regexp.MustCompile(test.prints).MatchString(out) {
			t.Errorf("%v: status %d, want %d:\n%s", test.args, status, test.status, out)
		}
	}
	out, status := runCheck(t, nil, append(warned, "--json")...)
	var report check.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil || status != 0 || report.Warnings != 1 || report.Failures != 0 || report.OK+1 != len(report.Findings) {
		t.Errorf("status %d, %v: %s", status, err, out)
	}
	out, status = runCheck(t, nil, "--json")
	if err := json.Unmarshal([]byte(out), &report); err != nil || status != 2 || report.Findings[0].Area != "settings" || report.Findings[0].Level != check.Fail || report.Findings[0].Remedy == "" {
		t.Errorf("status %d, %v: %s", status, err, out)
	}
}

// TestCheck_token reads a token from a file, also as a whole header, and from standard
// input.
func TestCheck_token(t *testing.T) {
	ignoreEnvironment(t)
	issuer := newIssuer(t)
	token, err := issuer.Sign(acstest.TokenSpec{Audience: acstest.DemoAudience})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{token, "Authorization: Bearer " + token + "\r\n"} {
		out, status := runCheck(t, nil, append(trust(issuer), "--token="+bridgetest.WriteFile(t, "token", text))...)
		if status != 0 || !strings.Contains(out, "\ntoken\n  ok    form") || strings.Contains(out, token) {
			t.Errorf("status %d:\n%s", status, out)
		}
	}
	command := exec.CommandContext(t.Context(), "acsbridge", append([]string{"check", "--token=-"}, trust(newIssuer(t))...)...)
	command.Stdin = strings.NewReader(token)
	out, err := command.Output()
	if command.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "401, wrong_issuer") {
		t.Errorf("%v:\n%s", err, out)
	}
}

// TestCheck_trustedCertificates has an authority of its own: key server, bridge and proxy
// with certificates that it has signed.
func TestCheck_trustedCertificates(t *testing.T) {
	onDisk(t)
	ignoreEnvironment(t)
	issuer, server := newIssuer(t), natstest.Start(t)
	authority, leaf, between, key := certtest.Chain(t, &x509.Certificate{
		NotAfter: time.Now().Add(60*24*time.Hour + time.Hour), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
	soonAuthority, soonLeaf, soonBetween, soonKey := certtest.Chain(t, &x509.Certificate{
		NotAfter: time.Now().Add(3*24*time.Hour + time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
	env := []string{"SSL_CERT_FILE=" + bridgetest.WriteFile(t, "authorities.pem", string(authority)+string(soonAuthority))}
	chain := []string{
		"--tls-cert=" + bridgetest.WriteFile(t, "chain.pem", string(leaf)+string(between)), "--tls-key=" + bridgetest.WriteFile(t, "key.pem", string(key)),
	}
	alone := []string{"--tls-cert=" + bridgetest.WriteFile(t, "leaf.pem", string(leaf)), chain[1]}
	keysURL := overTLS(t, issuer, append(leaf, between...), key) + strings.TrimPrefix(issuer.MetadataURL(), issuer.Name())
	soonURL := overTLS(t, issuer, append(soonLeaf, soonBetween...), soonKey) + strings.TrimPrefix(issuer.MetadataURL(), issuer.Name())
	t.Setenv("SSL_CERT_FILE", strings.TrimPrefix(env[0], "SSL_CERT_FILE=")) // of serve

	listen, admin, dir := bridgetest.FreeAddress(t), bridgetest.FreeAddress(t), t.TempDir()
	common := append(trust(issuer), "--nats-url="+server.URL(), "--listen="+listen, "--admin-listen="+admin, "--data-dir="+dir)
	args := append(common[:len(common):len(common)], "--oidc-config-url="+keysURL)
	b := startServe(t, append(args, chain...)...)
	natstest.Until(t, func() bool { return strings.HasPrefix(ask(b.admin+"/readyz"), "200") })
	good := append(append(args[:len(args):len(args)], chain...), "--strict", "--url=https://"+listen+"/callbacks")
	out, status := runCheck(t, env, good...)
	if status != 0 || !strings.Contains(oneLine(out), "the certificate of 127.0.0.1, by authority 2, is good for 60 days (TLS 1.3)") ||
		!strings.Contains(oneLine(out), "ok for localhost, 127.0.0.1, by CN=authority 2, until") || !strings.Contains(oneLine(out), "ok reaches this bridge over HTTP/2.0") {
		t.Errorf("status %d:\n%s", status, out)
	}
	if out, _ := runCheck(t, env, append(args, alone...)...); !strings.Contains(oneLine(out), "warn the chain of --tls-cert ends at no authority known here") {
		t.Errorf("without the intermediate:\n%s", out)
	}
	if out, _ := runCheck(t, env, append(common, "--oidc-config-url="+soonURL)...); !strings.Contains(oneLine(out), "warn the certificate of 127.0.0.1, by authority 2, expires in 3 days") {
		t.Errorf("key server with a certificate that expires:\n%s", out)
	}
	b.stop(syscall.SIGTERM)

	plain := startServe(t, append(args, "--listen="+bridgetest.FreeAddress(t))...)
	natstest.Until(t, func() bool { return strings.HasPrefix(ask(plain.admin+"/readyz"), "200") })
	front := tlsProxy(t, plain.callbacks, append(leaf, between...), key)
	if out, _ := runCheck(t, env, append(args, "--url="+front+"/callbacks")...); !strings.Contains(oneLine(out), "warn the bridge sees 127.0.0.1 as the client: a proxy's address") {
		t.Errorf("a proxy that is not named:\n%s", out)
	}
	plain.stop(syscall.SIGTERM)
}

// TestCheck_proxy has a proxy in the environment that does not listen.
func TestCheck_proxy(t *testing.T) {
	ignoreEnvironment(t)
	proxy := "http://" + bridgetest.FreeAddress(t)
	out, status := runCheck(t, []string{"HTTPS_PROXY=" + proxy, "NO_PROXY="}, "--resource=demo="+testGUID, "--token="+bridgetest.WriteFile(t, "token", "a.b.c"))
	if status != 2 || !strings.Contains(oneLine(out), "ok through the proxy "+proxy) || !strings.Contains(oneLine(out), "proxyconnect tcp: dial tcp") {
		t.Errorf("status %d:\n%s", status, out)
	}
}

// overTLS serves an issuer by TLS and returns its URL.
func overTLS(t *testing.T, issuer *acstest.Issuer, chain, key []byte) string {
	t.Helper()
	return serveTLS(t, chain, key, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		issuer.ServeHTTP(answer, r)
		w.WriteHeader(answer.Code)
		_, _ = w.Write(bytes.Replace(answer.Body.Bytes(), []byte(`"jwks_uri":"http:`), []byte(`"jwks_uri":"https:`), 1))
	}))
}

// tlsProxy is a TLS proxy in front of a bridge.
func tlsProxy(t *testing.T, target string, chain, key []byte) string {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	return serveTLS(t, chain, key, httputil.NewSingleHostReverseProxy(&url.URL{Scheme: u.Scheme, Host: u.Host}))
}

func serveTLS(t *testing.T, chain, key []byte, handler http.Handler) string {
	t.Helper()
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}
