package acstest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/acsbridge/acsbridge/internal/bom"
)

// LoadOrCreateKey reads an RSA key from a PEM file (PKCS #8), and makes the
// file with a new key when there is none. Whoever has the key can sign
// callbacks, so the file is for its owner alone: it is made with mode 0600, and
// one that others can read is refused.
//
// Programs that share the file share the key, and because an [Issuer] names a
// key by its thumbprint, its kid as well.
func LoadOrCreateKey(path string) (*rsa.PrivateKey, error) {
	key, err := LoadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := createKey(path); err != nil {
		return nil, fmt.Errorf("create key: %w", err)
	}
	return LoadKey(path)
}

// LoadKey reads a key that [LoadOrCreateKey] made, or another that is as it
// says there.
func LoadKey(path string) (*rsa.PrivateKey, error) {
	key, err := loadKey(path)
	if err != nil {
		return nil, fmt.Errorf("load key: %w", err)
	}
	return key, nil
}

func loadKey(path string) (*rsa.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	// Windows has no such bits: Go makes them up.
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("%s can be read by others (mode %04o): run chmod 600 on it", path, mode)
	}
	text, err := bom.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s holds no PEM block PRIVATE KEY: openssl genpkey -algorithm RSA makes one", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok || key.N.BitLen() < keyBits {
		return nil, fmt.Errorf("%s holds no RSA key of %d bits or more", path, keyBits)
	}
	return key, nil
}

// createKey writes a new key beside path and links it there, so that nobody
// ever reads half a file, and of two programs that start together both use the
// key of the first.
func createKey(path string) error {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	err = pem.Encode(file, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Link(file.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
