package verify_test

import (
	"crypto/rand"
	"crypto/rsa"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The resource that tests take callbacks for.
const (
	resource = "contoso"
	audience = "1f6c4f9a-7a4e-4c39-9f1c-0d6a4f0b2a11"
)

// sharedKey is the first key of most issuers: making one takes a tenth of a
// second.
var sharedKey = sync.OnceValue(newKey)

func newKey() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}

func newIssuer(t testing.TB) *acstest.Issuer {
	t.Helper()
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{Key: sharedKey()})
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}

// config is the configuration for an issuer without a socket.
func config(issuer *acstest.Issuer) verify.Config {
	return verify.Config{
		Issuer:      issuer.Name(),
		MetadataURL: issuer.MetadataURL(),
		Resources:   []verify.Resource{{Name: resource, Audience: audience}},
		Transport:   issuer.Transport(),
	}
}

// start runs a verifier for as long as the test.
func start(t testing.TB, c verify.Config) *verify.Verifier {
	t.Helper()
	v, err := verify.New(c)
	if err != nil {
		t.Fatal(err)
	}
	run(t, v)
	return v
}
