package main

import (
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/acsbridge/acsbridge/internal/bom"
	"github.com/acsbridge/acsbridge/internal/secretfile"
)

// maxSecret bounds a password or token in bytes.
const maxSecret = 4 << 10

// keyPair examines a certificate and its key, which go together or not at all.
func (x *examination) keyPair(certSetting, cert, keySetting, key string) {
	switch {
	case cert == "" && key == "":
	case key == "":
		x.reject(certSetting, "needs %s beside it", keySetting)
	case cert == "":
		x.reject(keySetting, "needs %s beside it", certSetting)
	case x.file(certSetting, cert) && x.secretFile(keySetting, key):
		if _, err := bom.KeyPair(cert, key); err != nil {
			x.reject(certSetting, "%v", err)
		}
	}
}

// authorities examines a file of certificates to trust.
func (x *examination) authorities(setting, name string) {
	if !x.file(setting, name) {
		return
	}
	pem, err := bom.ReadFile(name)
	if err != nil {
		x.reject(setting, "%v", err)
	} else if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		x.reject(setting, "%s holds no certificate in PEM form", name)
	}
}

// file examines a file that must be there and readable.
func (x *examination) file(setting, name string) bool {
	file, err := os.Open(name)
	if err != nil {
		x.reject(setting, "%v", secretfile.Explain(err))
		return false
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		x.reject(setting, "%s is no regular file", name)
		return false
	}
	return true
}

// secretFile examines a file whose content nobody else may read.
func (x *examination) secretFile(setting, name string) bool {
	if !x.file(setting, name) {
		return false
	}
	if err := secretfile.Check(name); err != nil {
		x.reject(setting, "%v", err)
		return false
	}
	return true
}

// secretOf returns a secret of [secretSettings], or of the file that the setting
// beside it names. The configuration file must be closed when the secret is from there.
func (x *examination) secretOf(setting, name string) string {
	text, _ := x.sources.lookUp(setting).(string)
	if entry, ok := x.sources.file[setting]; ok && text != "" && x.sources.originOf(setting) == entry.origin() {
		x.secretFile(setting, entry.path)
	}
	fileSetting := setting + "-file"
	switch {
	case name == "":
		return text
	case text != "":
		x.reject(fileSetting, "is set beside %s (%s); keep one", setting, x.sources.originOf(setting))
		return ""
	case !x.secretFile(fileSetting, name):
		return ""
	}
	content, err := readSecret(name)
	if err != nil {
		x.reject(fileSetting, "%v", err)
	} else if content == "" || strings.ContainsAny(content, "\r\n") {
		x.reject(fileSetting, "%s must hold one line of at most %d bytes", name, maxSecret)
	}
	return content
}

// readSecret returns the one line of a file without its end and without a byte
// order mark; more than maxSecret bytes come back as nothing.
func readSecret(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", secretfile.Explain(err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if err != nil || len(content) > maxSecret {
		return "", err
	}
	if content, err = bom.Trim(content); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	line := strings.TrimSuffix(string(content), "\n")
	return strings.TrimSuffix(line, "\r"), nil
}

// directory examines a directory that serve makes when it is absent.
func (x *examination) directory(setting, name string) {
	if name == "" {
		x.reject(setting, "is empty; name a directory")
		return
	}
	if info, err := os.Stat(name); err == nil && !info.IsDir() {
		x.reject(setting, "%s is no directory", name)
	}
}

// isPort reports whether text is a TCP port; 0 lets the system choose.
func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}

// isLoopback reports whether host names this host only.
func isLoopback(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}

// sameAddress reports whether two listeners cannot both have their address.
func sameAddress(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	return hostA == hostB || isWildcard(hostA) || isWildcard(hostB)
}

// isWildcard reports whether host stands for all interfaces.
func isWildcard(host string) bool {
	return host == "" || net.ParseIP(host).IsUnspecified()
}
