package ingest

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
		return netip.Prefix{}, fmt.Errorf("%q is no network; write it like 203.0.113.0/24 or 2001:db8::/32", text)
	case prefix.Masked() != prefix:
		return netip.Prefix{}, fmt.Errorf("%q has bits beyond its length; the network is %s", text, prefix.Masked())
	case prefix.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%q is an IPv4 network in the form of IPv6; write it as IPv4", text)
	}
	return prefix, nil
}

// sources tells who a request comes from, and whether it may.
type sources struct{ ranges, proxies []netip.Prefix }

// allow reports whether the sender of a request may be heard at all.
func (s *sources) allow(r *http.Request) bool {
	return len(s.ranges) == 0 || within(s.ranges, s.client(r))
}

// client returns the address of a request's sender: the peer's, or behind a
// trusted proxy the right-most one of X-Forwarded-For that is no trusted
// proxy's. What stands left of that is the sender's own word. The zero address
// means that a trusted proxy did not say it in a form that can be read.
func (s *sources) client(r *http.Request) netip.Addr {
	client := parseAddress(r.RemoteAddr)
	if !within(s.proxies, client) {
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
			if client = parseAddress(strings.TrimSpace(hop)); !within(s.proxies, client) {
				return client
			}
		}
	}
	return client
}

// parseAddress reads an address with or without a port, which some proxies
// write, and makes one of its IPv4 and IPv6 forms.
func parseAddress(text string) netip.Addr {
	if pair, err := netip.ParseAddrPort(text); err == nil {
		return pair.Addr().Unmap().WithZone("")
	}
	address, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	if err != nil {
		return netip.Addr{}
	}
	return address.Unmap().WithZone("")
}

func within(ranges []netip.Prefix, address netip.Addr) bool {
	for _, r := range ranges {
		if r.Contains(address) {
			return true
		}
	}
	return false
}
