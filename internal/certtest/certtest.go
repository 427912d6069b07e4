// Package certtest makes certificates for tests.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"
)

// SelfSigned returns a certificate as the template has it, signed with its own key,
// and that key, in PEM.
func SelfSigned(t testing.TB, template *x509.Certificate) (cert, key []byte) {
	t.Helper()
	template.SerialNumber = big.NewInt(1)
	cert, private := sign(t, template, template, nil)
	return cert, keyPEM(t, private)
}

// Chain returns the certificate of an authority, and a certificate as the template has it
// that an intermediate authority of it has signed: alone, then the intermediate's, and the
// key, in PEM.
func Chain(t testing.TB, template *x509.Certificate) (authority, leaf, intermediate, key []byte) {
	t.Helper()
	ca := func(serial int64) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: fmt.Sprint("authority ", serial)},
			NotAfter: time.Now().Add(1000 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
	}
	root, between := ca(1), ca(2)
	authority, rootKey := sign(t, root, root, nil)
	intermediate, betweenKey := sign(t, between, root, rootKey)
	template.SerialNumber = big.NewInt(3)
	leaf, leafKey := sign(t, template, between, betweenKey)
	return authority, leaf, intermediate, keyPEM(t, leafKey)
}

// sign returns a certificate as the template has it, in PEM, and its new key. The signer is
// the key of the parent, nil for a certificate that its own key signs.
func sign(t testing.TB, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (cert []byte, private *ecdsa.PrivateKey) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if signer == nil {
		signer = private
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, parent, private.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), private
}

func keyPEM(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}
