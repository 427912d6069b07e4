package config

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/acsbridge/acsbridge/ingest/edge"
	"github.com/acsbridge/acsbridge/internal/secretfile"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

const (
	// minAdminToken characters have 128 bits or more, also in hex.
	minAdminToken = 32
)

// checkCallbacks checks [callbackSettings].
func (s *Settings) checkCallbacks() {
	s.address("listen", s.Listen)
	s.keyPair("tls-cert", s.TLSCert, "tls-key", s.TLSKey)
	s.callbackKeys = s.sharedKeys("callback-key", s.CallbackKey)
	s.trustedProxies = s.networks("trusted-proxy", s.TrustedProxy)
	s.checkSourceRanges()
	s.report(s.Ingest().Check())
}

// sharedKeys reads the keys that a URL may have. The faults do not repeat what
// stands after the equals sign: people put the secret there.
func (s *Settings) sharedKeys(setting string, entries []string) (keys []verify.SharedKey) {
	seen := map[string]bool{}
	for i, entry := range entries {
		name, file, found := strings.Cut(strings.TrimSpace(entry), "=")
		if !found || !schemas.ValidToken(name) {
			s.reject(setting, "number %d has no usable name; write NAME=FILE, where NAME is 1 to 64 letters, digits, _ or -", i+1)
			continue
		}
		secret, err := secretfile.Read(file)
		if _, missing := errors.AsType[*fs.PathError](err); missing && !errors.Is(err, fs.ErrPermission) {
			s.reject(setting, "%s: the part after = is not a file that can be read; put the secret into a file and name that", name)
			continue
		}
		if err != nil {
			s.reject(setting, "%s: %v", name, err)
			continue
		}
		key := verify.SharedKey{Name: name, Secret: secret}
		switch err := key.Check(); {
		case err != nil:
			s.reject(setting, "%v", err)
		case seen["name "+name] || seen["secret "+secret]:
			s.reject(setting, "%s: name or secret given twice; each key needs its own of both", name)
		default:
			seen["name "+name], seen["secret "+secret] = true, true
			keys = append(keys, key)
		}
	}
	return keys
}

// checkSourceRanges checks source-range. All callbacks would be refused if they came
// through a proxy that is not named.
func (s *Settings) checkSourceRanges() {
	const setting = "source-range"
	s.sourceRanges = s.networks(setting, s.SourceRange)
	host, _, _ := net.SplitHostPort(s.Listen)
	if len(s.sourceRanges) > 0 && len(s.TrustedProxy) == 0 && IsLoopback(host) &&
		!slices.ContainsFunc(s.sourceRanges, func(r netip.Prefix) bool { return r.Addr().IsLoopback() }) {
		s.reject(setting, "listen is a loopback address, so that every callback comes from a proxy on this host; name it with trusted-proxy")
	}
}

// networks parses networks and single addresses.
func (s *Settings) networks(setting string, texts []string) (list []netip.Prefix) {
	for _, text := range texts {
		network, err := edge.ParseRange(strings.TrimSpace(text))
		if err != nil {
			s.reject(setting, "%v", err)
			continue
		}
		list = append(list, network)
	}
	return list
}

// checkAdmin checks [adminSettings].
func (s *Settings) checkAdmin() {
	if s.address("admin-listen", s.AdminListen) {
		host, _, _ := net.SplitHostPort(s.AdminListen)
		if !IsLoopback(host) && s.AdminTokenFile == "" && !s.AdminInsecure {
			s.reject("admin-listen", "%q can be reached from other hosts; set admin-token-file, or admin-insecure where only your monitoring gets there", s.AdminListen)
		}
	}
	if sameAddress(s.Listen, s.AdminListen) {
		s.reject("admin-listen", "is the address of listen; the admin listener needs one of its own")
	}
	for _, name := range s.AdminHost {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r != '.' && !schemas.ValidToken(string(r)) }) {
			s.reject("admin-host", "%q is not a host name; write it without scheme and port, like bridge.example.net", name)
		}
	}
	s.checkAdminToken()
}

// checkAdminToken reads the token of the admin listener.
func (s *Settings) checkAdminToken() {
	const setting = "admin-token-file"
	switch {
	case s.AdminTokenFile == "":
		return
	case s.AdminInsecure:
		s.reject("admin-insecure", "conflicts with admin-token-file (%s); keep one", s.sources.originOf(setting))
		return
	}
	s.adminToken = s.operatorToken(setting, s.AdminTokenFile)
}

// operatorToken reads a token that operators must have.
func (s *Settings) operatorToken(setting, file string) string {
	token, err := secretfile.Read(file)
	switch {
	case err != nil:
		s.reject(setting, "%v", err)
	case len(token) < minAdminToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' || r == ',' }):
		s.reject(setting, "%s must hold one line of %d or more visible ASCII characters but commas; openssl rand -hex 32 makes one", file, minAdminToken)
	default:
		return token
	}
	return ""
}

// checkConsole checks [consoleSettings].
func (s *Settings) checkConsole() {
	const setting = "console-token-file"
	if s.ConsoleTokenFile != "" {
		s.consoleToken = s.operatorToken(setting, s.ConsoleTokenFile)
	}
	switch {
	case s.consoleToken != "" && s.consoleToken == s.adminToken:
		s.reject(setting, "holds the token of admin-token-file, which Prometheus has; the console needs one of its own")
	case s.ConsoleWrite && s.ConsoleTokenFile == "":
		s.reject(setting, "is missing, which --console-write needs: without it every user of this host could change quarantined callbacks and dead letters")
	case s.ConsoleShowPII && s.ConsoleTokenFile == "":
		s.reject(setting, "is missing, and personal data is to be shown: without it every user of this host sees that")
	}
}
