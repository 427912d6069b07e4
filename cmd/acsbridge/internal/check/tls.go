package check

import (
	"crypto/x509"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/bridge"
	"github.com/acsbridge/acsbridge/ingest/edge"
)

// certificate examines the certificate for callbacks.
func (c *checker) certificate() {
	if c.s.TLSCert == "" {
		c.ok("plain HTTP on %s, for a TLS proxy in front", c.s.Listen)
		return
	}
	held, err := edge.OpenCertificate(c.s.TLSCert, c.s.TLSKey, nil, nil)
	if err != nil {
		c.fail("correct --tls-cert and --tls-key", "%v", err)
		return
	}
	for _, text := range bridge.Expiries(c.s, nil, held) {
		c.problem(Warn, text)
	}
	chain, _ := held.Chain()
	var leaf *x509.Certificate
	intermediates := x509.NewCertPool()
	for i, der := range chain {
		parsed, err := x509.ParseCertificate(der)
		switch {
		case err != nil:
			c.fail("write the file again", "certificate %d in --tls-cert cannot be read: %v", i+1, err)
			return
		case i == 0:
			leaf = parsed
		default:
			intermediates.AddCert(parsed)
		}
	}
	if len(leaf.DNSNames)+len(leaf.IPAddresses) == 0 {
		c.fail("have it issued for the host of the callback URL", "the certificate names no host: ACS does not connect")
	}
	_, err = leaf.Verify(x509.VerifyOptions{Intermediates: intermediates, CurrentTime: within(leaf)})
	if err != nil {
		c.warn("put the intermediate certificates into the file, after the first; ACS takes public authorities alone", "the chain of --tls-cert ends at no authority known here: %v", err)
	}
	c.ok("for %s, by %s, until %s", strings.Join(names(leaf), ", "), leaf.Issuer, leaf.NotAfter.UTC().Format("2006-01-02 15:04Z"))
}

// within is a time at which the certificate is valid: what has expired was said.
func within(leaf *x509.Certificate) time.Time {
	now := time.Now()
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return leaf.NotBefore
	}
	return now
}

func names(leaf *x509.Certificate) []string {
	list := leaf.DNSNames
	for _, ip := range leaf.IPAddresses {
		list = append(list, ip.String())
	}
	return list
}
