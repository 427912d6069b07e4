package publish

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/acsbridge/acsbridge/internal/bom"
)

// The options here are those of nats.go for files, which may have a byte order
// mark: with it, nats.go does not find the seed, or the first certificate. Files
// are read again for each connection.

// nkeyOption logs in with the seed in a file.
func nkeyOption(file string) (nats.Option, error) {
	read := func() (nkeys.KeyPair, error) {
		text, err := bom.ReadFile(file)
		if err != nil {
			return nil, err
		}
		return nkeys.ParseDecoratedUserNKey(text)
	}
	pair, err := read()
	if err != nil {
		return nil, err
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err != nil {
		return nil, err
	}
	return nats.Nkey(public, func(nonce []byte) ([]byte, error) {
		pair, err := read()
		if err != nil {
			return nil, err
		}
		defer pair.Wipe()
		return pair.Sign(nonce)
	}), nil
}

// tlsOption trusts the authorities in a file, and shows the certificate in
// another. Either may be empty, not both.
func tlsOption(authorities, certFile, keyFile string) nats.Option {
	var certificate nats.TLSCertHandler
	if certFile != "" {
		certificate = func() (tls.Certificate, error) {
			pair, err := bom.KeyPair(certFile, keyFile)
			if err != nil {
				return pair, fmt.Errorf("load client certificate: %w", err)
			}
			return pair, nil
		}
	}
	var roots nats.RootCAsHandler
	if authorities != "" {
		roots = func() (*x509.CertPool, error) {
			text, err := bom.ReadFile(authorities)
			if err != nil {
				return nil, fmt.Errorf("load certificate authorities: %w", err)
			}
			pool := x509.NewCertPool()
			if !pool.AppendCertsFromPEM(text) {
				return nil, errors.New(authorities + " holds no certificate in PEM form")
			}
			return pool, nil
		}
	}
	return nats.ClientTLSConfig(certificate, roots)
}
