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

// TestKeyFile: made once, for its owner alone, and the same ever after, also
// for several who come at a time.
func TestKeyFile(t *testing.T) {
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
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode(); got != 0o600 {
		t.Errorf("mode %v, want 0600", got)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("%v left behind (error %v), want the key alone", files, err)
	}
}

func TestKeyFileIsRefused(t *testing.T) {
	short, err := x509.MarshalPKCS8PrivateKey(shortKey(t))
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := x509.MarshalPKCS8PrivateKey(curve)
	if err != nil {
		t.Fatal(err)
	}
	good, err := x509.MarshalPKCS8PrivateKey(sharedKey())
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		text []byte
		mode fs.FileMode
		want string
	}{
		"read by others": {block("PRIVATE KEY", good), 0o640, "mode 0640): run chmod 600"},
		"no PEM":         {[]byte("hello"), 0o600, "no PEM block"},
		"PKCS #1":        {block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(sharedKey())), 0o600, "no PEM block"},
		"garbage":        {block("PRIVATE KEY", []byte("hello")), 0o600, "key.pem: asn1"},
		"short":          {block("PRIVATE KEY", short), 0o600, "no RSA key of 2048 bits"},
		"no RSA":         {block("PRIVATE KEY", other), 0o600, "no RSA key of 2048 bits"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key.pem")
			if err := os.WriteFile(path, test.text, test.mode); err != nil {
				t.Fatal(err)
			}
			_, err := acstest.LoadOrCreateKey(path)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
			if text, err := os.ReadFile(path); err != nil || string(text) != string(test.text) {
				t.Error("a file that was refused was changed")
			}
		})
	}
	if _, err := acstest.LoadOrCreateKey(filepath.Join(t.TempDir(), "none", "key.pem")); err == nil {
		t.Error("made a key where there is no directory")
	}
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// shortKey is a key of 1024 bits.
func shortKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
