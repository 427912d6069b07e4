package config

import (
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// The names of the variables that the kubelet gives to every container for each
// Service of its namespace (Kubernetes, pkg/kubelet/envvars). The first part is the
// Service's name: acsbridge, or acsbridge-admin. Seven forms in all: a port's
// name can follow the second, and the last stands alone and with three endings.
var (
	kubeletHost     = regexp.MustCompile(`^[A-Z]\w*_SERVICE_HOST$`)
	kubeletPort     = regexp.MustCompile(`^[A-Z]\w*_SERVICE_PORT(_[A-Z]\w*|__\d\w*)?$`)
	kubeletEndpoint = regexp.MustCompile(`^[A-Z]\w*_PORT$`)
	kubeletNumber   = regexp.MustCompile(`^[A-Z]\w*_PORT_(\d+)_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?$`)
)

// fromKubelet reports whether a variable has both a name and a value that the
// kubelet writes. One that is set by hand has not: where a port is
// wanted there would be a number alone.
func fromKubelet(name, value string) bool {
	if strings.ToUpper(name) != name {
		return false
	}
	if kubeletHost.MatchString(name) && isClusterIP(value) ||
		kubeletPort.MatchString(name) && isServicePort(value) ||
		kubeletEndpoint.MatchString(name) && isEndpoint(value, "", "") {
		return true
	}
	match := kubeletNumber.FindStringSubmatch(name)
	if match == nil || !isServicePort(match[1]) {
		return false
	}
	port, protocol := match[1], strings.ToLower(match[2])
	switch match[3] {
	case "_PROTO":
		return value == protocol
	case "_PORT":
		return value == port
	case "_ADDR":
		return isClusterIP(value)
	}
	return isEndpoint(value, protocol, port)
}

func isClusterIP(text string) bool {
	address, err := netip.ParseAddr(text)
	return err == nil && address.Zone() == ""
}

// isServicePort reports whether text is a port as strconv.Itoa writes it.
func isServicePort(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port > 0 && strconv.FormatUint(port, 10) == text
}

// isEndpoint reports whether text is like tcp://10.96.0.1:8080, with that
// protocol and port unless they are empty.
func isEndpoint(text, protocol, port string) bool {
	scheme, address, _ := strings.Cut(text, "://")
	host, number, err := net.SplitHostPort(address)
	if err != nil || !isClusterIP(host) || !isServicePort(number) {
		return false
	}
	if protocol == "" {
		return scheme == "tcp" || scheme == "udp" || scheme == "sctp"
	}
	return scheme == protocol && number == port
}
