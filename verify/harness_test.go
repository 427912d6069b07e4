package verify_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The resource of the callbacks.
const (
	resource = "contoso"
	audience = "1f6c4f9a-7a4e-4c39-9f1c-0d6a4f0b2a11"
)

// sharedKey is the first key of most issuers: to make one takes a tenth of a second.
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

// start runs a verifier until the test ends.
func start(t testing.TB, c verify.Config) *verify.Verifier {
	t.Helper()
	v, _ := startStoppable(t, c)
	return v
}

// startStoppable is start with a function that stops the verifier earlier.
func startStoppable(t testing.TB, c verify.Config) (v *verify.Verifier, stop func()) {
	t.Helper()
	v, err := verify.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return v, stop
}

// inBubble runs a test in a synctest bubble, with an issuer and a verifier of its
// tokens. Hours take milliseconds there, and every instant is exact.
func inBubble(t *testing.T, test func(*testing.T, *acstest.Issuer, *verify.Verifier)) {
	t.Helper()
	issuer := newIssuer(t)
	synctest.Test(t, func(t *testing.T) { test(t, issuer, start(t, config(issuer))) })
}

// pastCooldown lets the verifier of a bubble fetch its keys, and waits until it may
// fetch again.
func pastCooldown() {
	time.Sleep(time.Minute)
	synctest.Wait()
}

// sign makes a token; that of the zero spec is good.
func sign(t testing.TB, issuer *acstest.Issuer, spec acstest.TokenSpec) string {
	t.Helper()
	if spec.Audience == "" {
		spec.Audience = audience
	}
	token, err := issuer.Sign(spec)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// expect verifies a token and compares the verdict.
func expect(t testing.TB, v *verify.Verifier, token, want string) {
	t.Helper()
	if _, err := v.Verify(t.Context(), token); verdict(err) != want {
		t.Errorf("got %s (%v), want %s", verdict(err), err, want)
	}
}
