package config

import (
	"slices"
	"strings"
	"testing"
)

// kubeletVariables returns what the kubelet gives to a container for a Service
// with one port, as pkg/kubelet/envvars makes it: prefix is the Service's name in
// capitals with underscores, host stands for ip in URLs.
func kubeletVariables(prefix, ip, host, protocol, port, portName string) []string {
	endpoint := strings.ToLower(protocol) + "://" + host + ":" + port
	number := prefix + "_PORT_" + port + "_" + protocol
	variables := []string{
		prefix + "_SERVICE_HOST=" + ip,
		prefix + "_SERVICE_PORT=" + port,
		prefix + "_PORT=" + endpoint,
		number + "=" + endpoint,
		number + "_PROTO=" + strings.ToLower(protocol),
		number + "_PORT=" + port,
		number + "_ADDR=" + ip,
	}
	if portName != "" {
		variables = append(variables, prefix+"_SERVICE_PORT_"+portName+"="+port)
	}
	return variables
}

// TestSources_kubelet checks that Services whose name begins with acsbridge do
// not stop the bridge, nor one that is named nats, whose variables begin as those
// of the nats command do.
func TestSources_kubelet(t *testing.T) {
	for _, variables := range [][]string{
		kubeletVariables("ACSBRIDGE", "10.96.0.1", "10.96.0.1", "TCP", "8080", ""),
		kubeletVariables("ACSBRIDGE", "10.96.0.1", "10.96.0.1", "TCP", "8080", "HTTP"),
		kubeletVariables("ACSBRIDGE_ADMIN", "fd00:10:96::1", "[fd00:10:96::1]", "TCP", "9090", "ADMIN_METRICS"),
		kubeletVariables("ACSBRIDGE_2", "10.96.0.1", "10.96.0.1", "UDP", "443", "_8443"),
		kubeletVariables("ACSBRIDGE__CALLBACKS", "::1", "[::1]", "SCTP", "65535", "_2ND"),
		kubeletVariables("ACSBRIDGE_SERVICE_PORT", "10.96.0.1", "10.96.0.1", "TCP", "1", "HTTP"),
		kubeletVariables("ACSBRIDGE_PORT_80_TCP", "10.96.0.1", "10.96.0.1", "TCP", "80", "PORT"),
		kubeletVariables("NATS", "10.96.0.2", "10.96.0.2", "TCP", "4222", "CLIENT"),
	} {
		t.Run(variables[0], func(t *testing.T) {
			s, out, err := parse(t, append(variables, "--resource=contoso="+testGUID)...)
			if err != nil {
				t.Fatal(err, out)
			}
			if s.NatsURL != "" {
				t.Errorf("NATS at %s, want the embedded one", s.NatsURL)
			}
		})
	}
}

// TestSources_notKubelet checks that a variable which differs in anything from
// what the kubelet makes is an error.
func TestSources_notKubelet(t *testing.T) {
	for _, pair := range []string{
		"ACSBRIDGE_PORT=8080",
		"ACSBRIDGE_PORT=0.0.0.0:8080",
		"ACSBRIDGE_PORT=http://10.96.0.1:8080",
		"ACSBRIDGE_PORT=tcp://bridge.example.net:8080",
		"ACSBRIDGE_PORT=tcp://10.96.0.1:8080/",
		"ACSBRIDGE_PORT=tcp://10.96.0.1",
		"ACSBRIDGE_PORT=tcp://10.96.0.1:0",
		"ACSBRIDGE_PORT=tcp://10.96.0.1:08080",
		"ACSBRIDGE_PORT=tcp://[fe80::1%25eth0]:8080",
		"ACSBRIDGE_SERVICE_HOST=bridge.example.net",
		"ACSBRIDGE_SERVICE_HOST=10.96.0.1:8080",
		"ACSBRIDGE_SERVICE_PORT=http",
		"ACSBRIDGE_SERVICE_PORT=70000",
		"ACSBRIDGE_SERVICE_PORT=+80",
		"ACSBRIDGE_SERVICE_PORT_=80",
		"ACSBRIDGE_SERVICE_PORTS=80",
		"ACSBRIDGE_SERVICE_PORT_HTTP=tcp://10.96.0.1:80",
		"ACSBRIDGE_SERVICE_PORT_80=80", // a port named 80 has two underscores
		"ACSBRIDGE_service_port=80",
		"ACSBRIDGE_SERVICE=10.96.0.1",
		"ACSBRIDGE_HOST=10.96.0.1",
		"ACSBRIDGE_ADDR=10.96.0.1",
		"ACSBRIDGE_PORT_8080=tcp://10.96.0.1:8080",
		"ACSBRIDGE_PORT_8080_TCP=tcp://10.96.0.1:9090",
		"ACSBRIDGE_PORT_8080_TCP=udp://10.96.0.1:8080",
		"ACSBRIDGE_PORT_8080_HTTP=http://10.96.0.1:8080",
		"ACSBRIDGE_PORT_8080_TCP_PROTO=udp",
		"ACSBRIDGE_PORT_8080_TCP_PROTO=TCP",
		"ACSBRIDGE_PORT_8080_TCP_PORT=8081",
		"ACSBRIDGE_PORT_8080_TCP_ADDR=localhost",
		"ACSBRIDGE_PORT_8080_TCP_HOST=10.96.0.1",
		"ACSBRIDGE_PORT_0_TCP_PORT=0",
	} {
		t.Run(pair, func(t *testing.T) {
			name, _, _ := strings.Cut(pair, "=")
			_, _, err := parse(t, pair, "--resource=contoso="+testGUID)
			if err == nil || !strings.Contains(err.Error(), name+" (environment): no such setting") {
				t.Errorf("error %v, want none such setting", err)
			}
		})
	}
}

// TestEnvNames_kubelet checks that no variable of ours has a name that the
// kubelet makes for a Service: its value would come without being asked for.
func TestEnvNames_kubelet(t *testing.T) {
	names := EnvNames("config")
	for _, flag := range Flags() {
		names = append(names, EnvNames(flag.Name)...)
	}
	if !slices.Contains(names, "NATS_URL") || !slices.Contains(names, "ACSBRIDGE_LISTEN") {
		t.Fatalf("variables %v", names)
	}
	for _, name := range names {
		for _, value := range []string{"10.96.0.1", "80", "tcp", "tcp://10.96.0.1:80"} {
			if fromKubelet(name, value) {
				t.Errorf("%s can come from the kubelet", name)
			}
		}
	}
}
