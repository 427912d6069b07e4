package verify_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/acstest"
)

// BenchmarkVerify is one good token; BenchmarkRSA is the least that must cost.
func BenchmarkVerify(b *testing.B) {
	issuer := newIssuer(b)
	v := start(b, config(issuer))
	token, err := issuer.Sign(acstest.TokenSpec{Audience: audience})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := v.Verify(b.Context(), token); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRSA(b *testing.B) {
	issuer := newIssuer(b)
	token, err := issuer.Sign(acstest.TokenSpec{Audience: audience})
	if err != nil {
		b.Fatal(err)
	}
	dot := strings.LastIndexByte(token, '.')
	signature, err := base64.RawURLEncoding.DecodeString(token[dot+1:])
	if err != nil {
		b.Fatal(err)
	}
	public := &sharedKey().PublicKey
	b.ReportAllocs()
	for b.Loop() {
		sum := sha256.Sum256([]byte(token[:dot]))
		if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature); err != nil {
			b.Fatal(err)
		}
	}
}
