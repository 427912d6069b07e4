package ingest_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
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
)

// earlyAnswers are the requests that are answered before their body is read, with
// the configuration that does so.
func earlyAnswers(t *testing.T) map[string]struct {
	config  ingest.Config
	drain   bool
	line    string // method and path
	headers string
	want    int
} {
	type answer = struct {
		config  ingest.Config
		drain   bool
		line    string
		headers string
		want    int
	}
	const token = "Authorization: Bearer x\r\n"
	return map[string]answer{
		"no token":         {line: "POST /callbacks", want: 401},
		"no key":           {config: ingest.Config{CallbackKeys: []ingest.CallbackKey{{Name: "a", Secret: goodKey}}}, line: "POST /callbacks", headers: token, want: 401},
		"keys away":        {config: ingest.Config{Verifier: byToken{}}, line: "POST /callbacks", headers: "Authorization: Bearer keys away\r\n", want: 503},
		"source range":     {config: ingest.Config{SourceRanges: ranges(t, "198.51.100.0/24")}, line: "POST /callbacks", headers: token, want: 403},
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
	}
}

// TestEarlyAnswer_ReachesASenderThatWritesFirst has senders read the answer only
// when they have sent the whole request, for every way in which it can end.
func TestEarlyAnswer_ReachesASenderThatWritesFirst(t *testing.T) {
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
	for name, answer := range earlyAnswers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plain, overTLS := listenBoth(t, answer.config, answer.drain)
			for ending, e := range endings {
				if strings.Contains(name, "net/http") && !slices.Contains([]string{"kept alive", "close"}, ending) {
					continue // some have two faults then, of which another is found first
				}
				request := answer.line + " HTTP/" + e.version + "\r\nHost: b\r\n" + answer.headers + e.headers + "\r\n" + e.body
				for transport, dial := range map[string]func() (net.Conn, error){"plain": plain, "TLS": overTLS} {
					if got, err := sendWhole(dial, request); got != answer.want || err != nil {
						t.Errorf("%s, %s: %d %v, want %d", ending, transport, got, err, answer.want)
					}
				}
			}
		})
	}
}

// listenBoth serves a handler without TLS and with it, and returns how to connect,
// over TLS with the given protocols.
func listenBoth(t *testing.T, config ingest.Config, drain bool, protocols ...string) (plain, overTLS func() (net.Conn, error)) {
	t.Helper()
	h := handler(t, config)
	if drain {
		h.Drain()
	}
	files := newCertificateFiles(t)
	files.renew("callbacks.example.net", time.Now().Add(time.Hour))
	certificate, err := ingest.OpenCertificate(files.cert, files.key, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	address := func(tlsConfig *tls.Config) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server, served := h.Server(tlsConfig), make(chan error, 1)
		go func() {
			if tlsConfig != nil {
				served <- server.ServeTLS(h.Bound(l), "", "")
			} else {
				served <- server.Serve(h.Bound(l))
			}
		}()
		t.Cleanup(func() {
			server.Close()
			<-served
		})
		return l.Addr().String()
	}
	plainAddress, tlsAddress := address(nil), address(certificate.TLS())
	return func() (net.Conn, error) { return net.Dial("tcp", plainAddress) },
		func() (net.Conn, error) {
			return tls.Dial("tcp", tlsAddress, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
		}
}

// sendWhole sends a request, reads the answer afterwards, and reads on until the
// server closes the connection.
func sendWhole(dial func() (net.Conn, error), request string) (status int, err error) {
	conn, err := dial()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return 0, fmt.Errorf("send: %w", err)
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return 0, err
	}
	response.Body.Close()
	if rest, err := io.ReadAll(reader); err != nil || len(rest) > 100 {
		return 0, fmt.Errorf("after the answer: %q, %w", rest, err)
	}
	return response.StatusCode, nil
}

// TestEarlyAnswer_SlowSendersDoNotOccupyTheBridge has more senders than may linger
// stop in the middle of bodies that were refused.
func TestEarlyAnswer_SlowSendersDoNotOccupyTheBridge(t *testing.T) {
	l := listen(t, ingest.Config{MaxInFlight: 1})
	var slow []net.Conn
	for range 100 {
		conn, err := net.Dial("tcp", l.address)
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
	response, err := http.Post("http://"+l.address+"/callbacks", "", bytes.NewReader(nil))
	if err != nil || response.StatusCode != 401 {
		t.Error("another sender:", response, err)
	}
	request, err := http.NewRequest("POST", "http://"+l.address+"/callbacks", strings.NewReader(defaultBody))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer x")
	if response, err := http.DefaultClient.Do(request); err != nil || response.StatusCode != 200 {
		t.Error("a good sender:", response, err)
	}
	for i := range slow { // and closed, in spite of what they do
		if _, err := readers[i].ReadByte(); err != io.EOF {
			t.Error("a slow sender's connection:", err)
		}
	}
}

// TestEarlyAnswer_ClosesWithinTwoSeconds has senders stop in the middle of a body
// that was refused. net/http would wait for the rest of some for ten seconds.
func TestEarlyAnswer_ClosesWithinTwoSeconds(t *testing.T) {
	for name, request := range map[string]string{
		"kept alive":   "POST /callbacks HTTP/1.1\r\nHost: b\r\nContent-Length: 1000\r\n\r\nx",
		"close":        "POST /callbacks HTTP/1.1\r\nHost: b\r\nConnection: close\r\nContent-Length: 1000\r\n\r\nx",
		"HTTP/1.0":     "POST /callbacks HTTP/1.0\r\nContent-Length: 1000\r\n\r\nx",
		"chunked":      "POST /callbacks HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nx",
		"100-continue": "POST /callbacks HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, conn := inMemory(t, handler(t, ingest.Config{}))
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
