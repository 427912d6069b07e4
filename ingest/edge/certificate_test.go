package edge_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/acsbridge/acsbridge/ingest/edge"
	"github.com/acsbridge/acsbridge/internal/certtest"
)

// certificateFiles is a pair of files that change under a certificate.
type certificateFiles struct {
	t         *testing.T
	cert, key string
}

func newCertificateFiles(t *testing.T) *certificateFiles {
	dir := t.TempDir()
	return &certificateFiles{t: t, cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
}

// renew puts a new pair there, of the given name.
func (f *certificateFiles) renew(name string, expires time.Time) {
	f.t.Helper()
	cert, key := makePair(f.t, name, expires)
	f.write(f.cert, cert)
	f.write(f.key, key)
}

func (f *certificateFiles) write(name string, content []byte) {
	f.t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// makePair returns a self-signed certificate and its key, in PEM.
func makePair(t *testing.T, name string, expires time.Time) (cert, key []byte) {
	t.Helper()
	return certtest.SelfSigned(t, &x509.Certificate{DNSNames: []string{name}, NotAfter: expires})
}

// shown returns the name in the certificate that a client would see.
func shown(t *testing.T, c *edge.Certificate) string {
	t.Helper()
	certificate, err := c.TLS().GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return certificate.Leaf.DNSNames[0]
}

const untilRead = 5 * time.Second

func TestCertificate_followsItsFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files, reg := newCertificateFiles(t), prometheus.NewRegistry()
		var log bytes.Buffer
		expires := time.Now().Add(time.Hour).Truncate(time.Second)
		files.renew("first", expires)
		c, err := edge.OpenCertificate(files.cert, files.key, slog.New(slog.NewTextHandler(&log, nil)), reg)
		if err != nil {
			t.Fatal(err)
		}
		step := func(what, want string) {
			t.Helper()
			if got := shown(t, c); got != want {
				t.Errorf("%s: got %s, want %s", what, got, want)
			}
		}
		files.renew("second", expires.Add(time.Hour))
		time.Sleep(untilRead - time.Nanosecond)
		step("before it is time to read", "first")
		time.Sleep(time.Nanosecond)
		step("after that", "second")

		cert, key := makePair(t, "third", expires.Add(2*time.Hour))
		files.write(files.cert, cert)
		time.Sleep(untilRead)
		step("one file of two is new", "second")
		files.write(files.key, key)
		time.Sleep(untilRead)
		step("both are", "third")

		files.renew("fourth", expires.Add(3*time.Hour))
		if err := os.Chmod(files.key, 0o604); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(untilRead)
			step("the key is readable by all", "third")
		}
		want := fmt.Sprintf(`
# HELP acsbridge_tls_certificate_expiry_timestamp_seconds When the TLS certificate for callbacks expires, as Unix time.
# TYPE acsbridge_tls_certificate_expiry_timestamp_seconds gauge
acsbridge_tls_certificate_expiry_timestamp_seconds %d
# HELP acsbridge_tls_reload_total Changed TLS certificates that were loaded (ok), and files that could not be used (failed).
# TYPE acsbridge_tls_reload_total counter
acsbridge_tls_reload_total{outcome="failed"} 4
acsbridge_tls_reload_total{outcome="ok"} 2
`, expires.Add(2*time.Hour).Unix())
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
			t.Error(err)
		}
		const read, failed = `level=INFO msg="TLS certificate read again"`, `level=ERROR msg="TLS certificate not read again, the old one stays"`
		lines := slices.Collect(strings.Lines(log.String()))
		for i, want := range []string{read, failed, read, failed} {
			if len(lines) != 4 || !strings.Contains(lines[i], want) || strings.Contains(lines[i], "PRIVATE KEY") {
				t.Fatalf("the log has %q", lines)
			}
		}
	})
}

// TestCertificate_isReadByAScrape holds that the expiry is true without handshakes.
func TestCertificate_isReadByAScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files, reg := newCertificateFiles(t), prometheus.NewRegistry()
		files.renew("first", time.Now().Add(time.Hour))
		if _, err := edge.OpenCertificate(files.cert, files.key, nil, reg); err != nil {
			t.Fatal(err)
		}
		expires := time.Now().Add(9 * time.Hour)
		files.renew("second", expires)
		time.Sleep(untilRead)
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		if got := families[0].GetMetric()[0].GetGauge().GetValue(); got != float64(expires.Unix()) {
			t.Errorf("%s is %v, want %d", families[0].GetName(), got, expires.Unix())
		}
	})
}

func TestOpenCertificate_refuses(t *testing.T) {
	files := newCertificateFiles(t)
	open := func() error {
		_, err := edge.OpenCertificate(files.cert, files.key, nil, nil)
		return err
	}
	files.renew("first", time.Now().Add(time.Hour))
	if err := open(); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o604, 0o602} {
		if err := os.Chmod(files.key, mode); err != nil {
			t.Fatal(err)
		}
		if err := open(); err == nil || !strings.Contains(err.Error(), "chmod o=") {
			t.Errorf("key with mode %04o: %v", mode, err)
		}
	}
	if err := os.Chmod(files.key, 0o640); err != nil { // the group is how Kubernetes does it
		t.Fatal(err)
	}
	if err := open(); err != nil {
		t.Error(err)
	}
	other, otherKey := makePair(t, "other", time.Now().Add(time.Hour))
	files.write(files.cert, append([]byte("\xef\xbb\xbf"), other...))
	files.write(files.key, append([]byte("\xef\xbb\xbf"), otherKey...))
	if err := open(); err != nil {
		t.Errorf("files with a byte order mark: %v", err)
	}
	files.renew("first", time.Now().Add(time.Hour))
	files.write(files.cert, other)
	if err := open(); err == nil {
		t.Error("the key of another certificate was accepted")
	}
}

// TestCertificate_tlsVersions shakes hands with a real server.
func TestCertificate_tlsVersions(t *testing.T) {
	files := newCertificateFiles(t)
	files.renew("bridge.test", time.Now().Add(time.Hour))
	c, err := edge.OpenCertificate(files.cert, files.key, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := edge.NewServer(http.NotFoundHandler(), c.TLS(), slog.New(slog.DiscardHandler), func() {})
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(listener, "", "") }()
	defer func() {
		server.Close()
		if err := <-served; err != http.ErrServerClosed {
			t.Error(err)
		}
	}()
	for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{
			InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, NextProtos: []string{"h2"},
		})
		if (err == nil) != want {
			t.Errorf("%s: %v, want it taken: %v", tls.VersionName(version), err, want)
		}
		if err == nil {
			if got := conn.ConnectionState().NegotiatedProtocol; got != "h2" {
				t.Errorf("%s: protocol %q, want h2", tls.VersionName(version), got)
			}
			conn.Close()
		}
	}
}
