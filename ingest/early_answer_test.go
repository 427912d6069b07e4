package ingest_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/certtest"
)

// TestEarlyAnswer_reachesASenderThatWritesFirst sends requests that are answered before
// their body is read. The senders read the answer only when they have sent the whole
// request, for every way in which it can end.
func TestEarlyAnswer_reachesASenderThatWritesFirst(t *testing.T) {
	const token = "Authorization: Bearer x\r\n"
	const size = 400 << 10
	body := strings.Repeat("x", size)
	length := fmt.Sprintf("Content-Length: %d\r\n", size)
	endings := map[string]struct{ version, headers, body string }{
		"kept alive":        {"1.1", length, body},
		"close":             {"1.1", length + "Connection: close\r\n", body},
		"HTTP/1.0":          {"1.0", length, body},
		"HTTP/1.0 keep":     {"1.0", length + "Connection: keep-alive\r\n", body},
		"chunked":           {"1.1", "Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", size, body)},
		"chunked and close": {"1.1", "Transfer-Encoding: chunked\r\nConnection: close\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", size, body)},
		"100-continue":      {"1.1", length + "Expect: 100-continue\r\n", body},
	}
	for name, test := range map[string]struct {
		config  ingest.Config
		drain   bool
		line    string // method and path
		headers string
		want    int
	}{
		"no token":         {line: "POST /callbacks", want: 401},
		"no key":           {config: ingest.Config{CallbackKeys: []ingest.CallbackKey{{Name: "a", Secret: goodKey}}}, line: "POST /callbacks", headers: token, want: 401},
		"keys unreachable": {line: "POST /callbacks", headers: "Authorization: Bearer forged\r\n", want: 503},
		"source range":     {config: ingest.Config{SourceRanges: ranges("198.51.100.0/24")}, line: "POST /callbacks", headers: token, want: 403},
		"path":             {line: "POST /other", headers: token, want: 404},
		"method":           {line: "PUT /callbacks", headers: token, want: 405},
		"probe":            {line: "GET /livez", want: 200},
		"method of probe":  {line: "POST /livez", want: 405},
		"media type":       {line: "POST /callbacks", headers: token + "Content-Type: text/plain\r\n", want: 415},
		"encoding":         {line: "POST /callbacks", headers: token + "Content-Encoding: gzip\r\n", want: 415},
		"too large":        {line: "POST /callbacks", headers: token, want: 413},
		"draining":         {drain: true, line: "POST /callbacks", headers: token, want: 503},
		"Event Grid":       {config: ingest.Config{EventGrid: grid()}, line: "POST /eventgrid", want: 401},
		"handshake":        {config: ingest.Config{EventGrid: grid()}, line: "OPTIONS /eventgrid?acsbridge-key=" + goodKey, headers: "WebHook-Request-Origin: eventgrid.azure.net\r\n", want: 200},
		"of net/http: 400": {line: "POST /callbacks", headers: "A : b\r\n", want: 400},
		"of net/http: 417": {line: "POST /callbacks", headers: "Expect: x\r\n", want: 417},
		"of net/http: 431": {line: "POST /callbacks", headers: "A: " + strings.Repeat("b", 30<<10) + "\r\n", want: 431},
		"of net/http: 501": {line: "POST /callbacks", headers: "Transfer-Encoding: x\r\n", want: 501},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHandler(t, test.config)
			if test.drain {
				h.Drain()
			}
			plain, overTLS := dialer(startServer(t, h, nil)), dialerTLS(startServer(t, h, serverTLS(t)))
			for ending, e := range endings {
				if strings.Contains(name, "net/http") && !slices.Contains([]string{"kept alive", "close"}, ending) {
					continue // some have two faults then, and the other one is found first
				}
				request := test.line + " HTTP/" + e.version + "\r\nHost: b\r\n" + test.headers + e.headers + "\r\n" + e.body
				for transport, dial := range map[string]func() (net.Conn, error){"plain": plain, "TLS": overTLS} {
					if got, open, err := send(dial, request); !slices.Equal(got, []int{test.want}) || open || err != nil {
						t.Errorf("%s, %s: %d, open %v, %v, want %d", ending, transport, got, open, err, test.want)
					}
				}
			}
		})
	}
}

// serverTLS returns the TLS configuration of a server with a certificate.
func serverTLS(t *testing.T) *tls.Config {
	t.Helper()
	certificate, err := tls.X509KeyPair(certtest.SelfSigned(t, &x509.Certificate{DNSNames: []string{"bridge.test"}, NotAfter: time.Now().Add(time.Hour)}))
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{certificate}}
}

// dialerTLS returns how to connect to an address over TLS with the given protocols.
func dialerTLS(address string, protocols ...string) func() (net.Conn, error) {
	return func() (net.Conn, error) {
		return tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
	}
}

// TestEarlyAnswer_slowSendersDoNotOccupyTheBridge has more senders stop in the middle of
// refused bodies than the bridge reads from at a time.
func TestEarlyAnswer_slowSendersDoNotOccupyTheBridge(t *testing.T) {
	address := startServer(t, newHandler(t, ingest.Config{MaxInFlight: 1}), nil)
	var slow []net.Conn
	for range 100 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, conn)
		if _, err := io.WriteString(conn, "POST /callbacks HTTP/1.1\r\nHost: b\r\nContent-Length: 200000\r\n\r\nx"); err != nil {
			t.Fatal(err)
		}
	}
	readers := make([]*bufio.Reader, len(slow))
	for i, conn := range slow { // all are answered, though none has sent its body
		readers[i] = bufio.NewReader(conn)
		response, err := http.ReadResponse(readers[i], nil)
		if err != nil || response.StatusCode != 401 {
			t.Fatal(response, err)
		}
	}
	response, err := http.Post("http://"+address+"/callbacks", "", bytes.NewReader(nil))
	if err != nil || response.StatusCode != 401 {
		t.Error("another sender:", response, err)
	}
	response.Body.Close()
	if response := post(t, http.DefaultClient, address); response.StatusCode != 200 {
		t.Error("a good sender:", response.Status)
	}
	http.DefaultClient.CloseIdleConnections()
	for i := range slow { // and closed, in spite of what they do
		if _, err := readers[i].ReadByte(); err != io.EOF {
			t.Error("a slow sender's connection:", err)
		}
	}
}

// TestEarlyAnswer_closesWithinTwoSeconds has senders stop in the middle of a body
// that was refused. net/http would wait for the rest of some for ten seconds.
func TestEarlyAnswer_closesWithinTwoSeconds(t *testing.T) {
	for name, request := range map[string]string{
		"kept alive":   "POST /callbacks HTTP/1.1\r\nHost: b\r\nContent-Length: 1000\r\n\r\nx",
		"close":        "POST /callbacks HTTP/1.1\r\nHost: b\r\nConnection: close\r\nContent-Length: 1000\r\n\r\nx",
		"HTTP/1.0":     "POST /callbacks HTTP/1.0\r\nContent-Length: 1000\r\n\r\nx",
		"chunked":      "POST /callbacks HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nx",
		"100-continue": "POST /callbacks HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, conn := inMemory(t, newHandler(t, ingest.Config{}))
				start := time.Now()
				if _, err := io.WriteString(conn, request); err != nil {
					t.Fatal(err)
				}
				reader := bufio.NewReader(conn)
				if response, err := http.ReadResponse(reader, nil); err != nil || response.StatusCode != 401 || time.Since(start) != 0 {
					t.Fatal(response, err, time.Since(start))
				}
				if _, err := reader.ReadByte(); err != io.EOF || time.Since(start) != 2*time.Second {
					t.Errorf("%v after %s", err, time.Since(start))
				}
			})
		})
	}
}
