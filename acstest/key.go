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

	"github.com/acsbridge/acsbridge/internal/secretfile"
)

// LoadOrCreateKey reads an RSA key from a PEM file (PKCS #8), which it makes with a new
// key if needed. The key signs callbacks, so a new file has mode 0600, and one that every
// user of the host can read is refused.
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

// LoadKey reads a key as [LoadOrCreateKey] does, and does not make one.
func LoadKey(path string) (*rsa.PrivateKey, error) {
	key, err := loadKey(path)
	if err != nil {
		return nil, fmt.Errorf("load key: %w", err)
	}
	return key, nil
}

func loadKey(path string) (*rsa.PrivateKey, error) {
	text, err := secretfile.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s does not hold a PEM block PRIVATE KEY: openssl genpkey -algorithm RSA makes one", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok || key.N.BitLen() < keyBits {
		return nil, fmt.Errorf("%s does not hold an RSA key of %d bits or more", path, keyBits)
	}
	return key, nil
}

// createKey writes a temporary file and links it to path, so that no program reads half
// a file, and two that start together use one key.
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
