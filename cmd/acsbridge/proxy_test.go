package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/certtest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/internal/proxytest"
)

const (
	nginxFile      = "../../deploy/nginx/acsbridge.conf"
	haproxyFile    = "../../deploy/haproxy/acsbridge.cfg"
	haproxyTCPFile = "../../deploy/haproxy/acsbridge-tcp.cfg"
)

// proxies run each proxy in front of two bridges, as the project ships its configuration,
// with the bridges chosen in its way or by the path of the callback.
var proxies = map[string]func(t *testing.T, byPath bool, front string, bridges [2]string){
	"nginx": func(t *testing.T, byPath bool, front string, bridges [2]string) {
		cert, key := bridgetest.PairFiles(t)
		choice := "upstream acsbridge {"
		if byPath {
			choice += "\nhash $uri consistent;"
		}
		proxytest.Nginx(t, proxytest.Shipped(t, nginxFile, "listen 443", "listen "+front, "upstream acsbridge {", choice,
			"/var/log/nginx/acsbridge.log", "stderr", "/etc/ssl/callbacks.pem", cert, "/etc/ssl/callbacks.key", key,
			"10.0.0.11:8080", bridges[0], "10.0.0.12:8080", bridges[1]), front)
	},
	"HAProxy": func(t *testing.T, byPath bool, front string, bridges [2]string) {
		cert, key := certtest.SelfSigned(t, &x509.Certificate{NotAfter: time.Now().Add(time.Hour)})
		choice := "balance leastconn"
		if byPath {
			choice = "balance uri\nhash-type consistent"
		}
		proxytest.HAProxy(t, proxytest.Shipped(t, haproxyFile, "bind :443", "bind "+front, "balance leastconn", choice,
			"/etc/haproxy/callbacks.pem", bridgetest.WriteFile(t, "both.pem", string(cert)+string(key)),
			"10.0.0.11:8080", bridges[0], "10.0.0.12:8080", bridges[1]), front)
	},
}

// TestProxy_byPath has all callbacks of a call, which have one path, at one bridge, and at
// the other one while that is gone.
func TestProxy_byPath(t *testing.T) {
	for name, proxy := range proxies {
		t.Run(name, func(t *testing.T) {
			p := newPairLoad(t)
			p.senders = 1
			proxy(t, true, p.front, p.addresses)
			p.run(func() {
				p.awaitAnswers(restartAnswers)
				var used [2]bool
				for n, b := range p.bridges {
					used[n] = inUse.MatchString(ask(b.admin + "/metrics"))
				}
				if used[0] == used[1] {
					t.Fatalf("callbacks of one call at the bridges: %v", used)
				}
				n := 0
				if used[1] {
					n = 1
				}
				p.bridges[n].stop(syscall.SIGKILL)
				p.awaitAnswers(restartAnswers)
				p.start(n)
			})
		})
	}
}

// TestProxy_oneRetryAtTheOtherBridge kills one of two bridges behind each proxy, and
// then the other one. No request may fail, and nothing may be in the stream twice.
func TestProxy_oneRetryAtTheOtherBridge(t *testing.T) {
	for name, proxy := range proxies {
		t.Run(name, func(t *testing.T) {
			p := newPairLoad(t)
			proxy(t, false, p.front, p.addresses)
			p.run(func() {
				for round := range 4 {
					n := round % 2
					p.awaitAnswers(restartAnswers)
					if round < 2 {
						p.bridges[n].stop(syscall.SIGKILL)
					} else {
						p.bridges[n].stop(syscall.SIGTERM)
					}
					p.awaitAnswers(restartAnswers)
					p.start(n)
					p.awaitUse(n)
				}
			})
		})
	}
}

// TestProxy_balancerOfTCP stops one of two bridges whose clients keep their
// connections through a balancer: they must have left before the bridge closes the
// connections, because one of them may be sending then.
func TestProxy_balancerOfTCP(t *testing.T) {
	const delay = 5 * time.Second
	cert, key := bridgetest.PairFiles(t)
	p := newPairLoad(t, "--tls-cert="+cert, "--tls-key="+key, "--shutdown-delay="+delay.String())
	proxytest.HAProxy(t, proxytest.Shipped(t, haproxyTCPFile, "bind :443", "bind "+p.front, "inter 1s", "inter 100ms",
		"10.0.0.11:8443", p.addresses[0], "10.0.0.12:8443", p.addresses[1]), p.front)
	p.run(func() {
		p.awaitAnswers(restartAnswers)
		signalled := time.Now()
		if err := p.bridges[0].cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		natstest.Until(t, func() bool {
			return strings.Contains(ask(p.bridges[0].admin+"/metrics"), "\nacsbridge_connections 0\n")
		})
		if took := time.Since(signalled); took >= delay {
			t.Errorf("the clients kept their connections for %s", took)
		}
		p.bridges[0].stop(0)
		p.awaitAnswers(restartAnswers)
		p.start(0)
	})
}

// pairLoad is a load on two bridges that share a stream, behind a proxy.
type pairLoad struct {
	*restartLoad
	front     string
	addresses [2]string
	settings  []string
	senders   int // each has one call
	dirs      [2]string
	bridges   [2]*bridgeProcess
}

// newPairLoad starts two bridges.
func newPairLoad(t *testing.T, settings ...string) *pairLoad {
	ignoreEnvironment(t)
	p := &pairLoad{
		restartLoad: newRestartLoad(t), front: bridgetest.FreeAddress(t), settings: settings, senders: restartSenders,
		addresses: [2]string{bridgetest.FreeAddress(t), bridgetest.FreeAddress(t)}, dirs: [2]string{t.TempDir(), t.TempDir()},
	}
	p.start(0)
	p.start(1)
	return p
}

// start starts one of the bridges at its address, again.
func (p *pairLoad) start(n int) {
	p.t.Helper()
	b := startServe(p.t, slices.Concat(p.settings, trust(p.issuer), []string{
		"--listen=" + p.addresses[n], "--nats-url=" + p.nats.URL(), "--data-dir=" + p.dirs[n]})...)
	natstest.Until(p.t, func() bool { return strings.HasPrefix(ask(b.admin+"/readyz"), "200") })
	p.bridges[n] = b
}

// awaitUse waits until the proxy has found out that a bridge is there again.
func (p *pairLoad) awaitUse(n int) {
	p.t.Helper()
	natstest.Until(p.t, func() bool { return inUse.MatchString(ask(p.bridges[n].admin + "/metrics")) })
}

var inUse = regexp.MustCompile(`acsbridge_requests_total\{code="200",route="callbacks"\} [1-9]`)

// run sends callbacks, each once, while do acts on the bridges, and compares what
// was answered with the stream.
func (p *pairLoad) run(do func()) {
	sending, stop := context.WithCancel(p.t.Context())
	var senders sync.WaitGroup
	for range p.senders {
		senders.Go(func() { p.sendOnce(sending) })
	}
	do()
	stop()
	senders.Wait()
	for _, b := range p.bridges {
		natstest.Until(p.t, func() bool { return strings.Contains(ask(b.admin+"/readyz"), " 0 not in the stream") })
		b.stop(syscall.SIGKILL) // it may have a long delay
	}
	p.compare()
}

// sendOnce posts one event after another through the proxy, on a connection of its
// own, and takes no answer but 200.
func (p *pairLoad) sendOnce(ctx context.Context) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	caller, err := acstest.NewCaller(acstest.CallerOptions{
		Target: "https://" + p.front + "/callbacks/x%20y?a=%2F", Signer: p.issuer, Attempts: 1, Transport: transport,
	})
	if err != nil {
		p.t.Error(err)
		return
	}
	call := acstest.NewCall()
	for ctx.Err() == nil {
		event, ok := p.newEvent(call)
		if !ok {
			return
		}
		a := caller.Send(ctx, call.Callback(event))
		if a.Status != http.StatusOK {
			p.t.Errorf("answer %d, %v", a.Status, a.Err)
			continue
		}
		p.mu.Lock()
		p.answered[event.MsgID()] = true
		p.mu.Unlock()
	}
}
