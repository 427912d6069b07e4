package edge

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// ParseRange reads a network like 203.0.113.0/24, or a single address.
func ParseRange(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil && address.Zone() == "" {
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%q is not a network; write it like 203.0.113.0/24 or 2001:db8::/32", text)
	case prefix.Masked() != prefix:
		return netip.Prefix{}, fmt.Errorf("%q has bits beyond its length; the network is %s", text, prefix.Masked())
	case prefix.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%q is an IPv4 network in the form of IPv6; write it as IPv4", text)
	}
	return prefix, nil
}

// Addresses identifies the clients of requests and connections.
type Addresses struct {
	// SourceRanges are the networks that requests may come from. None means all.
	SourceRanges []netip.Prefix
	// TrustedProxies are the networks of proxies whose X-Forwarded-For is
	// believed. None means that the peer is the client.
	TrustedProxies []netip.Prefix
}

// Allow reports whether the client of a request is in a source range.
func (a *Addresses) Allow(r *http.Request) bool {
	return len(a.SourceRanges) == 0 || within(a.SourceRanges, a.Client(r))
}

// Client returns the address of a request's client: the peer's, or behind a trusted
// proxy the right-most address of X-Forwarded-For that is not a trusted proxy's. What
// stands left of that was written by the client. The zero address means that a trusted
// proxy did not send it in a form that can be read.
func (a *Addresses) Client(r *http.Request) netip.Addr {
	client := ParseAddr(r.RemoteAddr)
	if !within(a.TrustedProxies, client) {
		return client
	}
	for _, line := range slices.Backward(r.Header["X-Forwarded-For"]) {
		for more := true; more; {
			var hop string
			if at := strings.LastIndexByte(line, ','); at >= 0 {
				line, hop = line[:at], line[at+1:]
			} else {
				hop, more = line, false
			}
			if client = ParseAddr(strings.TrimSpace(hop)); !within(a.TrustedProxies, client) {
				return client
			}
		}
	}
	return client
}

// ParseAddr reads an address with or without a port, which some proxies write, and
// makes an IPv4 address of its form in IPv6. The zero address means that it cannot be
// read.
func ParseAddr(text string) netip.Addr {
	if pair, err := netip.ParseAddrPort(text); err == nil {
		return pair.Addr().Unmap().WithZone("")
	}
	address, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	if err != nil {
		return netip.Addr{}
	}
	return address.Unmap().WithZone("")
}

// clientBitsIPv6 is the smallest network that an IPv6 customer has (RFC 6177), so its
// addresses are one client.
const clientBitsIPv6 = 64

// sharedSpace is address space that carriers and clusters use internally (RFC 6598).
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// LimitKey returns what the limits of a client are kept by, and whether the client is
// limited. A private address is not: it is most likely a proxy or a gateway, which the
// good requests come through as well.
func LimitKey(client netip.Addr) (key netip.Addr, limited bool) {
	switch {
	case !client.IsValid(), client.IsLoopback(), client.IsPrivate(), client.IsLinkLocalUnicast(), sharedSpace.Contains(client):
		return netip.Addr{}, false
	case client.Is6():
		network, err := client.Prefix(clientBitsIPv6)
		return network.Addr(), err == nil
	}
	return client, true
}

func within(ranges []netip.Prefix, address netip.Addr) bool {
	for _, r := range ranges {
		if r.Contains(address) {
			return true
		}
	}
	return false
}
