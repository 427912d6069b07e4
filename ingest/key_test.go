package ingest_test

import (
	"crypto/rand"
	"crypto/rsa"
	"sync"
	"testing"
)

var generate = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// key returns the issuer's key: one for all tests, because making it is slow.
func key(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}
