package config

import (
	"net"
	"net/url"
	"strings"

	"github.com/acsbridge/acsbridge/schemas"
)

// checkNATS checks [natsSettings], but for the login, and the embedded server.
func (s *Settings) checkNATS() {
	s.checkServers()
	if s.EmbeddedNATS() {
		s.needServer()
		s.loopback("nats-listen", s.NatsListen)
	} else if s.NatsListen != DefaultNATSListen {
		s.reject("nats-listen", "there is no embedded server with nats-url or nats-context; remove one of them")
	}
}

// checkServers checks how to reach NATS.
func (s *Settings) checkServers() {
	if s.NatsURL != "" && s.NatsContext != "" {
		s.reject("nats-context", "conflicts with nats-url (%s); a context has a URL of its own, so set one of the two",
			s.sources.originOf("nats-url"))
	}
	if s.NatsURL != "" {
		s.checkURLs()
	}
	if s.NatsDomain != "" && !schemas.ValidToken(s.NatsDomain) {
		s.reject("nats-domain", "%q is not a JetStream domain; take letters, digits, _ or -", s.NatsDomain)
	}
	for token := range strings.SplitSeq(s.NatsInboxPrefix, ".") {
		if s.NatsInboxPrefix != "" && !schemas.ValidToken(token) {
			s.reject("nats-inbox-prefix", "%q is not a subject without wildcards; write it like _INBOX_acsbridge", s.NatsInboxPrefix)
			break
		}
	}
	if s.NatsCA != "" {
		s.authorities("nats-ca", s.NatsCA)
	}
	s.keyPair("nats-cert", s.NatsCert, "nats-key", s.NatsKey)
}

// checkURLs checks nats-url. The faults do not repeat a URL: it may hold a
// password.
func (s *Settings) checkURLs() {
	for i, server := range strings.Split(s.NatsURL, ",") {
		server = strings.TrimSpace(server)
		if !strings.Contains(server, "://") {
			server = "nats://" + server // as the NATS client does
		}
		u, err := url.Parse(server)
		if err != nil || u.Hostname() == "" {
			s.reject("nats-url", "number %d is not a URL; write it like nats://nats.example.net:4222", i+1)
			continue
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			s.reject("nats-url", "number %d has the scheme %q; take nats, tls, ws or wss", i+1, u.Scheme)
		}
		if u.User != nil {
			s.reject("nats-url", "number %d has a login in it, which logs would show; use nats-user and nats-password-file, or nats-token-file", i+1)
		}
	}
}

// needServer refuses what only makes sense with an external NATS: left alone,
// it would be ignored, and the events would end up in the embedded server.
func (s *Settings) needServer() {
	for _, flag := range s.flags {
		if !strings.HasPrefix(flag.Name, "nats-") || flag.Name == "nats-listen" {
			continue
		}
		if !flag.Target.IsZero() {
			s.reject(flag.Name, needsServer)
		}
	}
	for _, secret := range Secrets {
		if s.sources.lookUp(secret.Name) != nil {
			s.reject(secret.Name, needsServer)
		}
	}
}

const needsServer = "is for an external NATS, and none is set; add nats-url or nats-context"

// checkLogin checks how the bridge logs in to NATS, and reads the password or the
// token. A context is a login too: what it holds would be mixed with what is set here.
func (s *Settings) checkLogin() {
	s.password = s.secretOf("nats-password", s.NatsPasswordFile)
	s.token = s.secretOf("nats-token", s.NatsTokenFile)
	if s.NatsCreds != "" {
		s.secretFile("nats-creds", s.NatsCreds)
	}
	if s.NatsNkey != "" {
		s.secretFile("nats-nkey", s.NatsNkey)
	}
	withPassword := s.NatsPasswordFile != "" || s.sources.lookUp("nats-password") != nil
	if withPassword && s.NatsUser == "" {
		s.reject("nats-user", "is missing, but a password is set; NATS needs both")
	}
	if s.NatsUser != "" && !withPassword {
		s.reject("nats-user", "needs a password; add nats-password-file, or nats-token-file if this is a token")
	}
	first := ""
	for _, method := range []struct {
		setting string
		given   bool
	}{
		{"nats-context", s.NatsContext != ""},
		{"nats-creds", s.NatsCreds != ""},
		{"nats-nkey", s.NatsNkey != ""},
		{"nats-user", s.NatsUser != ""},
		{"nats-token", s.sources.lookUp("nats-token") != nil},
		{"nats-token-file", s.NatsTokenFile != ""},
	} {
		switch {
		case !method.given:
		case first == "":
			first = method.setting
		case first == "nats-token": // nats-token-file: already refused as a pair
		default:
			s.reject(method.setting, "is a second login, besides %s (%s); keep one", first, s.sources.originOf(first))
		}
	}
}

// address checks a host:port to listen at.
func (s *Settings) address(setting, address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err != nil || !isPort(port) {
		s.reject(setting, "%q is not an address; write host:port like 127.0.0.1:8080, or :8080 for all interfaces", address)
		return false
	}
	return true
}

// loopback checks a host:port that must not be reachable from other hosts.
func (s *Settings) loopback(setting, address string) {
	if !s.address(setting, address) {
		return
	}
	if host, _, _ := net.SplitHostPort(address); !IsLoopback(host) {
		s.reject(setting, "%q can be reached from other hosts, and the embedded server has no logins; take 127.0.0.1", address)
	}
}
