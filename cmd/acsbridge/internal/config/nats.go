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
	if s.NatsURL != "" && s.NatsLogin.Context != "" {
		s.reject("nats-context", "conflicts with nats-url (%s); a context has a URL of its own, so set one of the two",
			s.sources.originOf("nats-url"))
	}
	if s.NatsURL != "" {
		s.checkURLs()
	}
	if s.NatsDomain != "" && !schemas.ValidToken(s.NatsDomain) {
		s.reject("nats-domain", "%q is not a JetStream domain; take letters, digits, _ or -", s.NatsDomain)
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
	refuse := func(setting string) {
		switch {
		case strings.HasPrefix(setting, consoleNATS):
			s.reject(setting, "is for an external NATS, and none is set; the console reads the embedded server by itself")
		case strings.HasPrefix(setting, bridgeNATS) && setting != "nats-listen":
			s.reject(setting, "is for an external NATS, and none is set; add nats-url or nats-context")
		}
	}
	for _, flag := range s.flags {
		if !flag.Target.IsZero() {
			refuse(flag.Name)
		}
	}
	for _, secret := range Secrets {
		if s.sources.lookUp(secret.Name) != nil {
			refuse(secret.Name)
		}
	}
}

// The prefixes of the settings of a [natsLogin].
const (
	bridgeNATS  = "nats-"
	consoleNATS = "console-nats-"
)

// checkConsoleLogin checks how the console logs in to NATS.
func (s *Settings) checkConsoleLogin() {
	login := &s.ConsoleLogin
	s.checkLogin(login, consoleNATS)
	switch {
	case login.method == "" && login.InboxPrefix != "":
		s.reject(consoleNATS+"inbox-prefix", "is for a login of the console, and none is set; add console-nats-user, or another one")
	case login.method != "" && login.Context == "" && s.NatsLogin.Context != "":
		s.reject(login.method, "would be mixed with the login in nats-context (%s); make a context for the console too, and name that with console-nats-context",
			s.sources.originOf("nats-context"))
	}
}

// checkLogin checks a login to NATS, and reads its password or token. A context is a
// login too: what it holds would be mixed with what is set here.
func (s *Settings) checkLogin(l *natsLogin, prefix string) {
	l.password = s.secretOf(prefix+"password", l.PasswordFile)
	l.token = s.secretOf(prefix+"token", l.TokenFile)
	if l.Creds != "" {
		s.secretFile(prefix+"creds", l.Creds)
	}
	if l.Nkey != "" {
		s.secretFile(prefix+"nkey", l.Nkey)
	}
	for token := range strings.SplitSeq(l.InboxPrefix, ".") {
		if l.InboxPrefix != "" && !schemas.ValidToken(token) {
			s.reject(prefix+"inbox-prefix", "%q is not a subject without wildcards; write it like _INBOX_acsbridge", l.InboxPrefix)
			break
		}
	}
	withPassword := l.PasswordFile != "" || s.sources.lookUp(prefix+"password") != nil
	if withPassword && l.User == "" {
		s.reject(prefix+"user", "is missing, but a password is set; NATS needs both")
	}
	if l.User != "" && !withPassword {
		s.reject(prefix+"user", "needs a password; add %[1]spassword-file, or %[1]stoken-file if this is a token", prefix)
	}
	for _, m := range []struct {
		setting string
		given   bool
	}{
		{"context", l.Context != ""},
		{"creds", l.Creds != ""},
		{"nkey", l.Nkey != ""},
		{"user", l.User != ""},
		{"token", s.sources.lookUp(prefix+"token") != nil},
		{"token-file", l.TokenFile != ""},
	} {
		switch {
		case !m.given:
		case l.method == "":
			l.method = prefix + m.setting
		case l.method == prefix+"token": // the file of the token: already refused as a pair
		default:
			s.reject(prefix+m.setting, "is a second login, besides %s (%s); keep one", l.method, s.sources.originOf(l.method))
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
