package ingest_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/proxytest"
)

const (
	proxyRequests = 400 // of each kind
	proxySenders  = 8
)

// nginxPlain is proxy_pass and nothing else: HTTP/1.0 with a connection for each
// request.
const nginxPlain = `server {
	listen FRONT;
	location / { proxy_pass http://BRIDGE; }
}
`

// haproxyPlain speaks PROTO to the bridge.
const haproxyPlain = `defaults
	mode http
	timeout connect 5s
	timeout client 30s
	timeout server 30s
frontend f
	bind FRONT
	default_backend b
backend b
	server s BRIDGE PROTO
`

// TestProxy_refusalsReachTheSender sends requests that are refused before their
// body is read through real proxies. One that is reset before it has read the
// answer makes 502 of it.
func TestProxy_refusalsReachTheSender(t *testing.T) {
	for name, proxy := range map[string]func(t *testing.T, front, bridge string){
		"nginx": func(t *testing.T, front, bridge string) {
			proxytest.Nginx(t, strings.NewReplacer("FRONT", front, "BRIDGE", bridge).Replace(nginxPlain), front)
		},
		"HAProxy": func(t *testing.T, front, bridge string) {
			proxytest.HAProxy(t, strings.NewReplacer("FRONT", front, "BRIDGE", bridge, "PROTO", "").Replace(haproxyPlain), front)
		},
		"HAProxy, HTTP/2": func(t *testing.T, front, bridge string) {
			proxytest.HAProxy(t, strings.NewReplacer("FRONT", front, "BRIDGE", bridge, "PROTO", "proto h2").Replace(haproxyPlain), front)
		},
	} {
		t.Run(name, func(t *testing.T) {
			address, front := startServer(t, newHandler(t, ingest.Config{}), nil), bridgetest.FreeAddress(t)
			proxy(t, front, address)
			for _, refusal := range proxyRefusals {
				got := sendMany(t, "http://"+front, refusal)
				if got[refusal.want] != proxyRequests {
					t.Errorf("%s: answers %v, want %d times %d", refusal.name, got, proxyRequests, refusal.want)
				}
			}
		})
	}
}

type proxyRefusal struct {
	name, method, path string
	headers            map[string]string
	want               int
}

var proxyRefusals = []proxyRefusal{
	{"no token", "POST", "/callbacks", nil, 401},
	{"keys unreachable", "POST", "/callbacks", map[string]string{"Authorization": "Bearer forged"}, 503},
	{"media type", "POST", "/callbacks", map[string]string{"Authorization": "Bearer x", "Content-Type": "text/plain"}, 415},
	{"path", "POST", "/other", nil, 404},
	{"method", "PUT", "/callbacks", nil, 405},
	{"method of the probe", "POST", "/livez", nil, 405},
	{"too large", "POST", "/callbacks", map[string]string{"Authorization": "Bearer x"}, 413},
}

// sendMany sends requests of 1 to 300 KB and counts the answers by status.
func sendMany(t *testing.T, url string, refusal proxyRefusal) map[int]int {
	t.Helper()
	var mu sync.Mutex
	got := make(map[int]int)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport}
	var senders sync.WaitGroup
	for sender := range proxySenders {
		senders.Go(func() {
			for n := range proxyRequests / proxySenders {
				size := 1000 + (n*proxySenders+sender)*299_000/proxyRequests
				if refusal.want == 413 {
					size = 262_145 + size/8
				}
				request, err := http.NewRequest(refusal.method, url+refusal.path, bytes.NewReader(make([]byte, size)))
				if err != nil {
					t.Error(err)
					return
				}
				for name, value := range refusal.headers {
					request.Header.Set(name, value)
				}
				status := 0
				if response, err := client.Do(request); err != nil {
					t.Log(size, err)
				} else {
					_, _ = io.Copy(io.Discard, response.Body)
					response.Body.Close()
					status = response.StatusCode
				}
				mu.Lock()
				got[status]++
				mu.Unlock()
			}
		})
	}
	senders.Wait()
	return got
}
