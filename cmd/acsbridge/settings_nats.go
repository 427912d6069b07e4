package main

import (
	"net"
	"net/url"
	"strings"

	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

// nats examines [natsSettings], but for the login, and the embedded server.
func (x *examination) nats() {
	x.natsServers()
	if x.embeddedNATS() {
		x.needServer()
		x.loopback("nats-listen", x.NatsListen)
	} else if x.NatsListen != defaultNatsListen {
		x.reject("nats-listen", "there is no embedded server beside nats-url or nats-context; remove the one or the other")
	}
}

// natsServers examines how to reach NATS.
func (x *examination) natsServers() {
	if x.NatsURL != "" && x.NatsContext != "" {
		x.reject("nats-context", "is set beside nats-url (%s); a context has a URL of its own, so set one of the two",
			x.sources.originOf("nats-url"))
	}
	if x.NatsURL != "" {
		x.servers()
	}
	if x.NatsDomain != "" && !schemas.ValidToken(x.NatsDomain) {
		x.reject("nats-domain", "%q is no JetStream domain; take letters, digits, _ or -", x.NatsDomain)
	}
	for token := range strings.SplitSeq(x.NatsInboxPrefix, ".") {
		if x.NatsInboxPrefix != "" && !schemas.ValidToken(token) {
			x.reject("nats-inbox-prefix", "%q is no subject without wildcards; write it like _INBOX_acsbridge", x.NatsInboxPrefix)
			break
		}
	}
	if x.NatsCA != "" {
		x.authorities("nats-ca", x.NatsCA)
	}
	x.keyPair("nats-cert", x.NatsCert, "nats-key", x.NatsKey)
}

// servers examines nats-url. The faults do not repeat a URL: it may hold a
// password.
func (x *examination) servers() {
	for i, server := range strings.Split(x.NatsURL, ",") {
		server = strings.TrimSpace(server)
		if !strings.Contains(server, "://") {
			server = "nats://" + server // as the NATS client does
		}
		u, err := url.Parse(server)
		if err != nil || u.Hostname() == "" {
			x.reject("nats-url", "number %d is no URL; write it like nats://nats.example.net:4222", i+1)
			continue
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			x.reject("nats-url", "number %d has the scheme %q; take nats, tls, ws or wss", i+1, u.Scheme)
		}
		if u.User != nil {
			x.reject("nats-url", "number %d has a login in it, which logs would show; use nats-user and nats-password-file, or nats-token-file", i+1)
		}
	}
}

// needServer refuses what only makes sense with an external NATS: left alone,
// it would be ignored, and the events would end up in the embedded server.
func (x *examination) needServer() {
	for _, flag := range x.flags {
		if !strings.HasPrefix(flag.Name, "nats-") || flag.Name == "nats-listen" {
			continue
		}
		if !flag.Target.IsZero() {
			x.reject(flag.Name, needsServer)
		}
	}
	for _, secret := range secretSettings {
		if x.sources.lookUp(secret.name) != nil {
			x.reject(secret.name, needsServer)
		}
	}
}

const needsServer = "is for an external NATS, and none is set; add nats-url or nats-context"

// natsLogin examines how the bridge logs in to NATS, and reads the password or the
// token. A context is a login too: what it holds would be mixed with what is set here.
func (x *examination) natsLogin() {
	x.password = x.secretOf("nats-password", x.NatsPasswordFile)
	x.token = x.secretOf("nats-token", x.NatsTokenFile)
	if x.NatsCreds != "" {
		x.secretFile("nats-creds", x.NatsCreds)
	}
	if x.NatsNkey != "" {
		x.secretFile("nats-nkey", x.NatsNkey)
	}
	withPassword := x.NatsPasswordFile != "" || x.sources.lookUp("nats-password") != nil
	if withPassword && x.NatsUser == "" {
		x.reject("nats-user", "is missing beside the password; NATS wants both")
	}
	if x.NatsUser != "" && !withPassword {
		x.reject("nats-user", "needs a password; add nats-password-file, or nats-token-file if this is a token")
	}
	first := ""
	for _, method := range []struct {
		setting string
		given   bool
	}{
		{"nats-context", x.NatsContext != ""},
		{"nats-creds", x.NatsCreds != ""},
		{"nats-nkey", x.NatsNkey != ""},
		{"nats-user", x.NatsUser != ""},
		{"nats-token", x.sources.lookUp("nats-token") != nil},
		{"nats-token-file", x.NatsTokenFile != ""},
	} {
		switch {
		case !method.given:
		case first == "":
			first = method.setting
		case first == "nats-token": // nats-token-file: already refused as a pair
		default:
			x.reject(method.setting, "is a second login beside %s (%s); keep one", first, x.sources.originOf(first))
		}
	}
}

// address examines a host:port to listen at.
func (x *examination) address(setting, address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err != nil || !isPort(port) {
		x.reject(setting, "%q is no address; write host:port like 127.0.0.1:8080, or :8080 for all interfaces", address)
		return false
	}
	return true
}

// loopback examines a host:port that must not be reachable from other hosts.
func (x *examination) loopback(setting, address string) {
	if !x.address(setting, address) {
		return
	}
	if host, _, _ := net.SplitHostPort(address); !isLoopback(host) {
		x.reject(setting, "%q can be reached from other hosts, and the embedded server asks nobody who they are; take 127.0.0.1", address)
	}
}

// httpURL examines a URL that is https, or http on a loopback host. The faults
// do not repeat it: people paste URLs with logins.
func (x *examination) httpURL(setting, text string) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http"):
		x.reject(setting, "is no URL; write it like %s", verify.DefaultIssuer)
	case u.User != nil || u.Fragment != "":
		x.reject(setting, "must not hold a login or a fragment")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		x.reject(setting, "is plain http, which anyone on the way can change; https is needed except on loopback")
	}
}
