package main

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/acsbridge/acsbridge/ingest/edge"
	"github.com/acsbridge/acsbridge/internal/bom"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

const (
	// maxConnections: beyond it, file descriptors run out first.
	maxConnections = 1 << 16
	// minAdminToken characters have 128 bits or more, also in hex.
	minAdminToken = 32
)

// callbacks examines [callbackSettings].
func (x *examination) callbacks() {
	x.address("listen", x.Listen)
	x.routePath("callback-path", x.CallbackPath)
	x.keyPair("tls-cert", x.TLSCert, "tls-key", x.TLSKey)
	x.amount("max-connections", x.MaxConnections, 1, maxConnections)
	x.callbackKeys = x.sharedKeys("callback-key", x.CallbackKey)
	x.trustedProxies = x.networks("trusted-proxy", x.TrustedProxy)
	x.origins()
}

// plainRoute reports whether a path can be that of a route.
func plainRoute(p string) bool {
	return strings.HasPrefix(p, "/") && p != "/" && path.Clean(p) == p && !strings.ContainsFunc(p, notInPath)
}

// notInPath reports whether r would need escaping in a URL path or means
// something in a pattern of net/http.
func notInPath(r rune) bool {
	return !strings.ContainsRune("/.~", r) && !schemas.ValidToken(string(r))
}

// sharedKeys reads the keys that a URL may have. The faults do not repeat what
// stands after the equals sign: people put the secret there.
func (x *examination) sharedKeys(setting string, entries []string) (keys []verify.SharedKey) {
	seen := map[string]bool{}
	for i, entry := range entries {
		name, file, found := strings.Cut(strings.TrimSpace(entry), "=")
		if !found || !schemas.ValidToken(name) {
			x.reject(setting, "number %d has no usable name; write NAME=FILE, where NAME is 1 to 64 letters, digits, _ or -", i+1)
			continue
		}
		secret, err := readSecret(file)
		var encoding bom.EncodingError
		if errors.As(err, &encoding) {
			x.reject(setting, "%s: %v", name, encoding)
			continue
		}
		if errors.Is(err, fs.ErrPermission) {
			x.reject(setting, "%s: %v", name, err)
			continue
		}
		if err != nil {
			x.reject(setting, "%s: the part after = is no file that can be read; put the secret into a file and name that", name)
			continue
		}
		key := verify.SharedKey{Name: name, Secret: secret}
		switch err := key.Check(); {
		case !x.secretFile(setting, file):
		case err != nil:
			x.reject(setting, "%v", err)
		case seen["name "+name] || seen["secret "+secret]:
			x.reject(setting, "%s: name or secret given twice; each key needs its own of both", name)
		default:
			seen["name "+name], seen["secret "+secret] = true, true
			keys = append(keys, key)
		}
	}
	return keys
}

// origins examines source-range. All callbacks would be refused if they came
// through a proxy that is not named.
func (x *examination) origins() {
	const setting = "source-range"
	x.sourceRanges = x.networks(setting, x.SourceRange)
	host, _, _ := net.SplitHostPort(x.Listen)
	if len(x.sourceRanges) > 0 && len(x.TrustedProxy) == 0 && isLoopback(host) &&
		!slices.ContainsFunc(x.sourceRanges, func(r netip.Prefix) bool { return r.Addr().IsLoopback() }) {
		x.reject(setting, "listen is a loopback address, so that every callback comes from a proxy on this host; name it with trusted-proxy")
	}
}

// networks parses networks and single addresses.
func (x *examination) networks(setting string, texts []string) (list []netip.Prefix) {
	for _, text := range texts {
		network, err := edge.ParseRange(strings.TrimSpace(text))
		if err != nil {
			x.reject(setting, "%v", err)
			continue
		}
		list = append(list, network)
	}
	return list
}

// admin examines [adminSettings].
func (x *examination) admin() {
	if x.address("admin-listen", x.AdminListen) {
		host, _, _ := net.SplitHostPort(x.AdminListen)
		if !isLoopback(host) && x.AdminTokenFile == "" && !x.AdminInsecure {
			x.reject("admin-listen", "%q can be reached from other hosts; set admin-token-file, or admin-insecure where only your monitoring gets there", x.AdminListen)
		}
	}
	if sameAddress(x.Listen, x.AdminListen) {
		x.reject("admin-listen", "is the address of listen; the admin listener needs one of its own")
	}
	for _, name := range x.AdminHost {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r != '.' && !schemas.ValidToken(string(r)) }) {
			x.reject("admin-host", "%q is no host name; write it without scheme and port, like bridge.example.net", name)
		}
	}
	x.operatorToken()
}

// operatorToken reads the token that operators must have.
func (x *examination) operatorToken() {
	const setting = "admin-token-file"
	switch {
	case x.AdminTokenFile == "":
		return
	case x.AdminInsecure:
		x.reject("admin-insecure", "is set beside admin-token-file (%s); keep one", x.sources.originOf(setting))
		return
	case !x.secretFile(setting, x.AdminTokenFile):
		return
	}
	token, err := readSecret(x.AdminTokenFile)
	switch {
	case err != nil:
		x.reject(setting, "%v", err)
	case len(token) < minAdminToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' || r == ',' }):
		x.reject(setting, "%s must hold one line of %d or more visible ASCII characters but commas; openssl rand -hex 32 makes one", x.AdminTokenFile, minAdminToken)
	default:
		x.adminToken = token
	}
}
