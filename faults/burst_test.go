package faults_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/internal/certtest"
	"github.com/acsbridge/acsbridge/internal/webhook"
)

// A burst, and its connections.
const (
	burstRate        = 5000
	burstConnections = 500
	// burstWithin bounds a burst, which takes ten seconds on an idle machine.
	burstWithin = 30 * time.Second
	// burstP99 bounds the answers 200.
	burstP99 = time.Second
)

// TestBurst sends 50,000 callbacks in ten seconds over 500 connections.
func TestBurst(t *testing.T) {
	t.Run("HTTP 1", func(t *testing.T) { burst(t, load{calls: burstConnections, rate: burstRate}) })
	t.Run("HTTP 2", func(t *testing.T) {
		needForm(t)
		cert, key, trust := certificate(t)
		over := func(calls int) (clients []webhook.Client) {
			for range calls { // one client would put all of them on one connection
				c := client(1)
				c.Transport = http2Only{t, &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: trust}}}
				clients = append(clients, c)
			}
			return clients
		}
		burst(t, load{calls: burstConnections, rate: burstRate, clients: over}, "--tls-cert="+cert, "--tls-key="+key)
	})
}

func burst(t *testing.T, l load, args ...string) {
	callbacks := byForm[int64](5_000, 50_000)
	var from, to time.Time
	scenario{
		load: l, args: args, rounds: byForm(1, 3),
		fault: func(w *world, _ int) {
			from = time.Now()
			w.answers(callbacks, burstWithin)
			to = time.Now()
			w.Logf("%d callbacks answered 200 in %v, %.0f a second; peak memory %.0f MiB", callbacks,
				to.Sub(from).Round(time.Millisecond), float64(callbacks)/to.Sub(from).Seconds(), w.bridge.process.peak(w)/(1<<20))
		},
		after: func(w *world) {
			got := timesOf(w.calls, from, to)
			w.Logf("200 in p50 %v, p99 %v", quantile(got.stored, .5), quantile(got.stored, .99))
			if p99 := quantile(got.stored, .99); p99 > burstP99 {
				w.Errorf("answers 200 take %v in p99, want at most %v", p99, burstP99)
			}
			if peak := w.bridge.process.peak(w); peak > maxMemory {
				w.Errorf("the bridge took %.0f MiB, want at most %d", peak/(1<<20), maxMemory>>20)
			}
		},
	}.run(t)
}

// http2Only is a transport that fails the test with HTTP/1.
type http2Only struct {
	t testing.TB
	*http.Transport
}

func (o http2Only) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := o.Transport.RoundTrip(r)
	if err == nil && response.ProtoMajor != 2 {
		o.t.Errorf("answered over %s", response.Proto)
	}
	return response, err
}

// certificate makes one for loopback, and the pool with it.
func certificate(t testing.TB) (certFile, keyFile string, trust *x509.CertPool) {
	t.Helper()
	cert, key := certtest.SelfSigned(t, &x509.Certificate{
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	})
	write := func(name string, content []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	trust = x509.NewCertPool()
	trust.AppendCertsFromPEM(cert)
	return write("cert.pem", cert), write("key.pem", key), trust
}

// peak is the peak memory of the process in bytes (VmHWM of proc(5)).
func (p *process) peak(t testing.TB) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kib float64
		if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &kib); err == nil {
			return kib * 1024
		}
	}
	t.Fatal("the kernel does not have VmHWM")
	return 0
}

// times are the durations of attempts in a span, sorted: of those answered 200, and the
// number of others.
type times struct {
	stored []time.Duration
	others int // of good callbacks
}

func timesOf(calls [][]*callback, from, to time.Time) (t times) {
	for _, c := range slices.Concat(calls...) {
		for _, a := range c.attempts {
			switch {
			case c.kind != good || a.sent.Before(from) || a.sent.After(to):
			case a.status == http.StatusOK:
				t.stored = append(t.stored, a.answered.Sub(a.sent))
			default:
				t.others++
			}
		}
	}
	slices.Sort(t.stored)
	return t
}

// quantile returns one of sorted times.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(q*float64(len(sorted)-1))].Round(100 * time.Microsecond)
}
