package edge

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/acsbridge/acsbridge/internal/bom"
	"github.com/acsbridge/acsbridge/internal/secretfile"
)

// certificateInterval is how often the files of a certificate are read again, by a
// handshake or a scrape of the metrics. It takes about 100 µs.
const certificateInterval = 5 * time.Second

// Certificate is the TLS certificate of a server. It follows its files, so that a
// renewed certificate needs no restart. A new pair that cannot be used leaves the old
// one in place, as happens while only one of the two files is new.
type Certificate struct {
	certFile, keyFile string
	logger            *slog.Logger
	current           atomic.Pointer[pair]
	reloads           *prometheus.CounterVec // outcome

	reading sync.Mutex // guards what follows
	next    time.Time  // when to read again
	problem string     // why the files cannot be used; each is logged once
}

// pair is a certificate with the digest of the files it came from.
type pair struct {
	certificate tls.Certificate
	digest      [sha256.Size]byte
}

// OpenCertificate reads a certificate chain and its private key, both in PEM.
// The logger and the registerer may be nil.
func OpenCertificate(certFile, keyFile string, logger *slog.Logger, registerer prometheus.Registerer) (*Certificate, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	first, err := readPair(certFile, keyFile, nil)
	if err != nil {
		return nil, err
	}
	c := &Certificate{certFile: certFile, keyFile: keyFile, logger: logger, next: time.Now().Add(certificateInterval)}
	c.current.Store(first)
	c.register(registerer)
	return c, nil
}

// TLS returns the configuration of a server with this certificate.
func (c *Certificate) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &c.latest().certificate, nil
		},
	}
}

// latest returns the newest pair that could be used.
func (c *Certificate) latest() *pair {
	if !c.reading.TryLock() { // another handshake reads
		return c.current.Load()
	}
	defer c.reading.Unlock()
	now, held := time.Now(), c.current.Load()
	if now.Before(c.next) {
		return held
	}
	c.next = now.Add(certificateInterval)
	read, err := readPair(c.certFile, c.keyFile, held)
	if err != nil {
		c.reloads.WithLabelValues("failed").Inc()
		if err.Error() != c.problem {
			c.problem = err.Error()
			c.logger.Error("TLS certificate not read again, the old one stays", "error", err, "expires", held.certificate.Leaf.NotAfter)
		}
		return held
	}
	c.problem = ""
	if read != held {
		c.current.Store(read)
		c.reloads.WithLabelValues("ok").Inc()
		c.logger.Info("TLS certificate read again", "expires", read.certificate.Leaf.NotAfter)
	}
	return read
}

// Chain returns the chain of the certificate in use, in DER, and why its files
// cannot be used: empty when they can.
func (c *Certificate) Chain() (chain [][]byte, problem string) {
	held := c.latest()
	c.reading.Lock()
	defer c.reading.Unlock()
	return held.certificate.Certificate, c.problem
}

// readPair reads both files, and returns held when they are the same. Contents are
// compared and not dates: a file that was moved here may be older than the one it
// replaces.
func readPair(certFile, keyFile string, held *pair) (*pair, error) {
	key, err := secretfile.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	cert, err := bom.ReadFile(certFile)
	if err != nil {
		return nil, secretfile.Explain(err)
	}
	certDigest := sha256.Sum256(cert)
	digest := sha256.Sum256(append(certDigest[:], key...))
	if held != nil && held.digest == digest {
		return held, nil
	}
	certificate, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", certFile, keyFile, err)
	}
	return &pair{certificate, digest}, nil
}

func (c *Certificate) register(registerer prometheus.Registerer) {
	factory := promauto.With(registerer)
	c.reloads = factory.NewCounterVec(prometheus.CounterOpts{
		Name: "acsbridge_tls_reload_total",
		Help: "Changed TLS certificates that were loaded (ok), and files that could not be used (failed).",
	}, []string{"outcome"})
	for _, outcome := range []string{"ok", "failed"} {
		c.reloads.WithLabelValues(outcome)
	}
	factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "acsbridge_tls_certificate_expiry_timestamp_seconds",
		Help: "When the TLS certificate for callbacks expires, as Unix time.",
	}, func() float64 { return float64(c.latest().certificate.Leaf.NotAfter.Unix()) })
}
