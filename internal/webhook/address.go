package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
)

// Restricted says to which addresses a transport may connect. The rule is about the
// address of each connection and not about a name, which can resolve to another one each
// time.
type Restricted struct {
	// Private allows loopback and private addresses, and a proxy of the environment, which
	// resolves names itself. Link-local addresses, where clouds have the credentials of
	// the host, are never allowed.
	Private bool
	// Plaintext is for URLs with http: then public addresses are not allowed.
	Plaintext bool
	// Roots sign the certificates of receivers. Nil means those of the system.
	Roots *x509.CertPool
}

// Transport returns a transport that keeps a connection open for each of so many
// requests at a time.
func (r Restricted) Transport(requests int) *http.Transport {
	t := NewTransport(requests)
	if !r.Private {
		t.Proxy = nil
	}
	t.TLSClientConfig = &tls.Config{RootCAs: r.Roots}
	dialer := net.Dialer{
		Timeout: dialTimeout,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			return r.check(address)
		},
	}
	t.DialContext = dialer.DialContext
	return t
}

// Errors of [Restricted.Check], and of a connection by its transport.
var (
	ErrPrivateAddress  = errors.New("is a loopback or private address")
	ErrLinkLocal       = errors.New("is not the address of a receiver: link-local, multicast, or unspecified")
	ErrPublicPlaintext = errors.New("is a public address, and http is not encrypted")
)

// check is [Restricted.Check] for an address with its port.
func (r Restricted) check(address string) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", address, err)
	}
	return r.Check(to.Addr())
}

// Check returns why a connection to an address is not allowed: one of the errors of this
// package, or nil.
func (r Restricted) Check(address netip.Addr) (err error) {
	ip := unmap(address)
	switch private := ip.IsLoopback() || ip.IsPrivate() || reserved(ip); {
	case ip.IsUnspecified(), ip.IsMulticast(), ip.IsLinkLocalUnicast(), ip == broadcast:
		err = ErrLinkLocal
	case private && !r.Private:
		err = ErrPrivateAddress
	case !private && r.Plaintext:
		err = ErrPublicPlaintext
	default:
		return nil
	}
	return fmt.Errorf("%s %w", ip, err)
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// unmap returns the IPv4 address that an IPv6 address stands for, if it does: mapped
// (RFC 4291, section 2.5.5.2), NAT64 (RFC 6052, section 2.1), 6to4 (RFC 3056).
func unmap(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	b := ip.As16()
	switch {
	case nat64.Contains(ip):
		return netip.AddrFrom4([4]byte(b[12:]))
	case sixToFour.Contains(ip):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return ip
}

var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
)

// reserved reports whether an address is for use within a network, beyond those of
// RFC 1918 and RFC 4193 (IANA special-purpose address registries, RFC 6890).
func reserved(ip netip.Addr) bool {
	for _, prefix := range reservedPrefixes {
		if prefix.Contains(ip) {
			return true
		}
	}
	return false
}

var reservedPrefixes = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // shared address space, RFC 6598
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), // benchmarks, RFC 2544
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b:1::/48"), // local NAT64, RFC 8215
	netip.MustParsePrefix("fec0::/10"),      // site-local, RFC 3879
}
