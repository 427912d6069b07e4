package config

import (
	"crypto/x509"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/acsbridge/acsbridge/internal/bom"
	"github.com/acsbridge/acsbridge/internal/secretfile"
)

// keyPair checks a certificate and its key, which go together or not at all.
func (s *Settings) keyPair(certSetting, cert, keySetting, key string) {
	switch {
	case cert == "" && key == "":
	case key == "":
		s.reject(certSetting, "needs %s too", keySetting)
	case cert == "":
		s.reject(keySetting, "needs %s too", certSetting)
	case s.file(certSetting, cert) && s.secretFile(keySetting, key):
		if _, err := bom.KeyPair(cert, key); err != nil {
			s.reject(certSetting, "%v", err)
		}
	}
}

// authorities checks a file of certificates to trust.
func (s *Settings) authorities(setting, name string) {
	if !s.file(setting, name) {
		return
	}
	pem, err := bom.ReadFile(name)
	if err != nil {
		s.reject(setting, "%v", err)
	} else if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		s.reject(setting, "%s has no certificate in PEM form", name)
	}
}

// file checks a file that must be there and readable.
func (s *Settings) file(setting, name string) bool {
	file, err := os.Open(name)
	if err != nil {
		s.reject(setting, "%v", secretfile.Explain(err))
		return false
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		s.reject(setting, "%s is not a regular file", name)
		return false
	}
	return true
}

// secretFile checks a file that holds a secret.
func (s *Settings) secretFile(setting, name string) bool {
	if err := secretfile.Check(name); err != nil {
		s.reject(setting, "%v", err)
		return false
	}
	return true
}

// secretOf returns a secret of [Secrets], or of the file that the setting
// beside it names. The configuration file must be closed when the secret is from there.
func (s *Settings) secretOf(setting, name string) string {
	text, _ := s.sources.lookUp(setting).(string)
	if entry, ok := s.sources.file[setting]; ok && text != "" && s.sources.originOf(setting) == entry.origin() {
		s.secretFile(setting, entry.path)
	}
	fileSetting := setting + "-file"
	switch {
	case name == "":
		return text
	case text != "":
		s.reject(fileSetting, "conflicts with %s (%s); keep one", setting, s.sources.originOf(setting))
		return ""
	}
	content, err := secretfile.Read(name)
	if err != nil {
		s.reject(fileSetting, "%v", err)
	}
	return content
}

// directory checks a directory that serve makes when it is absent.
func (s *Settings) directory(setting, name string) {
	if name == "" {
		s.reject(setting, "is empty; name a directory")
		return
	}
	if info, err := os.Stat(name); err == nil && !info.IsDir() {
		s.reject(setting, "%s is not a directory", name)
	}
}

// isPort reports whether text is a TCP port; 0 lets the system choose.
func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}

// IsLoopback reports whether host names this host only.
func IsLoopback(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}

// sameAddress reports whether two listeners cannot both have their address.
func sameAddress(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	return hostA == hostB || IsWildcard(hostA) || IsWildcard(hostB)
}

// IsWildcard reports whether host stands for all interfaces.
func IsWildcard(host string) bool {
	return host == "" || net.ParseIP(host).IsUnspecified()
}
