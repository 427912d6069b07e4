package acstest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/acsbridge/acsbridge/acstest"
)

// TestLoadOrCreateKey: one file for its owner alone, and one key for all programs that
// start together.
func TestLoadOrCreateKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key.pem")
	if _, err := acstest.LoadKey(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: error %v, want %v", err, fs.ErrNotExist)
	}
	keys := make([]*rsa.PrivateKey, 4)
	var all sync.WaitGroup
	for i := range keys {
		all.Go(func() {
			key, err := acstest.LoadOrCreateKey(path)
			if err != nil {
				t.Error(err)
			}
			keys[i] = key
		})
	}
	all.Wait()
	loaded, err := acstest.LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if !loaded.Equal(key) {
			t.Error("two keys from one file")
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%v in the directory (error %v), want the key alone", files, err)
	}
	if info, err := files[0].Info(); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v (error %v), want 0600", info.Mode(), err)
	}
}

func TestLoadOrCreateKey_badFiles(t *testing.T) {
	pkcs8 := func(key any, err error) []byte {
		t.Helper()
		der, encodeErr := x509.MarshalPKCS8PrivateKey(key)
		if err := errors.Join(err, encodeErr); err != nil {
			t.Fatal(err)
		}
		return der
	}
	short, good := pkcs8(rsa.GenerateKey(rand.Reader, 1024)), pkcs8(sharedKey(), nil)
	curve := pkcs8(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for name, test := range map[string]struct {
		text []byte
		mode fs.FileMode
		want string
	}{
		"read by others": {block("PRIVATE KEY", good), 0o604, "mode 0604); run chmod o="},
		"no PEM":         {[]byte("hello"), 0o600, "does not hold a PEM block"},
		"PKCS #1":        {block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(sharedKey())), 0o600, "does not hold a PEM block"},
		"garbage":        {block("PRIVATE KEY", []byte("hello")), 0o600, "key.pem: asn1"},
		"short":          {block("PRIVATE KEY", short), 0o600, "does not hold an RSA key of 2048 bits"},
		"ECDSA":          {block("PRIVATE KEY", curve), 0o600, "does not hold an RSA key of 2048 bits"},
	} {
		path := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(path, test.text, test.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := acstest.LoadOrCreateKey(path); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, test.want)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != string(test.text) {
			t.Errorf("%s: the file was changed", name)
		}
	}
	if _, err := acstest.LoadOrCreateKey(filepath.Join(t.TempDir(), "none", "key.pem")); err == nil {
		t.Error("a key without a directory")
	}
}
