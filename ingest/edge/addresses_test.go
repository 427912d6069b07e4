package edge_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/ingest/edge"
)

// ranges parses networks as a configuration has them.
func ranges(t *testing.T, texts ...string) (list []netip.Prefix) {
	t.Helper()
	for _, text := range texts {
		r, err := edge.ParseRange(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

func TestAddresses_sourceRanges(t *testing.T) {
	direct := edge.Addresses{SourceRanges: ranges(t, "52.112.0.0/14", "52.122.0.0/15", "2603:1027::/48", "198.51.100.7")}
	proxied := direct
	proxied.TrustedProxies = ranges(t, "10.0.0.0/8", "2001:db8:1::/48", "127.0.0.1")
	for _, test := range []struct {
		addresses edge.Addresses
		peer      string
		forwarded []string
		client    string // empty when it is unknown
		want      bool
	}{
		{edge.Addresses{}, "203.0.113.9:1", nil, "203.0.113.9", true},
		{direct, "52.112.0.1:443", nil, "52.112.0.1", true},
		{direct, "[::ffff:52.123.255.255]:1", nil, "52.123.255.255", true},
		{direct, "52.124.0.0:1", nil, "52.124.0.0", false},
		{direct, "[2603:1027::1]:1", nil, "2603:1027::1", true},
		{direct, "[2603:1028::1]:1", nil, "2603:1028::1", false},
		{direct, "[fe80::1%eth0]:1", nil, "fe80::1", false},
		{direct, "198.51.100.7:1", nil, "198.51.100.7", true},
		{direct, "198.51.100.8:1", nil, "198.51.100.8", false},
		{direct, "", nil, "", false},
		{direct, "198.51.100.8:1", []string{"52.112.0.1"}, "198.51.100.8", false}, // not a trusted proxy
		{proxied, "10.0.0.1:1", []string{"52.112.0.1"}, "52.112.0.1", true},
		{proxied, "10.0.0.1:1", []string{"52.112.0.1:5000"}, "52.112.0.1", true},
		{proxied, "10.0.0.1:1", []string{"[2603:1027::1]:5000"}, "2603:1027::1", true},
		{proxied, "10.0.0.1:1", []string{"[2603:1027::1]"}, "2603:1027::1", true},
		{proxied, "10.0.0.1:1", []string{"52.112.0.1, 203.0.113.9"}, "203.0.113.9", false}, // the client wrote the left one
		{proxied, "10.0.0.1:1", []string{"203.0.113.9, 52.112.0.1,10.1.2.3"}, "52.112.0.1", true},
		{proxied, "10.0.0.1:1", []string{"52.112.0.1", "203.0.113.9"}, "203.0.113.9", false},
		{proxied, "10.0.0.1:1", []string{"203.0.113.9", "52.112.0.1", "10.0.0.2"}, "52.112.0.1", true},
		{proxied, "10.0.0.1:1", []string{"52.112.0.1, unknown"}, "", false},
		{proxied, "10.0.0.1:1", []string{"52.112.0.1,"}, "", false},
		{proxied, "10.0.0.1:1", nil, "10.0.0.1", false},
		{proxied, "[2001:db8:1::9]:1", []string{"52.112.0.1"}, "52.112.0.1", true},
		{proxied, "52.112.0.1:1", []string{"203.0.113.9"}, "52.112.0.1", true}, // not through a proxy
	} {
		r := &http.Request{RemoteAddr: test.peer, Header: http.Header{"X-Forwarded-For": test.forwarded}}
		client := ""
		if address := test.addresses.Client(r); address.IsValid() {
			client = address.String()
		}
		if got := test.addresses.Allow(r); got != test.want || client != test.client {
			t.Errorf("peer %s, %q: client %s, allowed %v, want %s, %v", test.peer, test.forwarded, client, got, test.client, test.want)
		}
	}
}

func TestLimitKey(t *testing.T) {
	for address, want := range map[string]string{
		"198.51.100.7": "198.51.100.7", "2001:db8::1": "2001:db8::", "2001:db8::ffff:1": "2001:db8::", "2001:db8:0:1::1": "2001:db8:0:1::",
		"127.0.0.1": "", "::1": "", "10.0.0.1": "", "192.168.0.1": "", "fd00::1": "", "fe80::1": "", "100.64.0.1": "",
	} {
		key, limited := edge.LimitKey(netip.MustParseAddr(address))
		if limited != (want != "") || limited && key.String() != want {
			t.Errorf("%s: got %s, limited: %v", address, key, limited)
		}
	}
	if _, limited := edge.LimitKey(netip.Addr{}); limited {
		t.Error("an unknown client is limited")
	}
}

func TestParseRange_refuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "not a network",
		"microsoft":              "not a network",
		"10.0.0.0/33":            "not a network",
		"10.0.0.1/8":             "the network is 10.0.0.0/8",
		"::ffff:10.0.0.0/104":    "write it as IPv4",
		"fe80::1%eth0":           "not a network",
		"203.0.113.1-20":         "not a network",
		"https://203.0.113.0/24": "not a network",
	} {
		if _, err := edge.ParseRange(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
