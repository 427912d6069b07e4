package check

import (
	"cmp"
	"net"
	"strings"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/bridge"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
)

// settings names the settings that are not at their defaults, with their sources, and
// what is wrong with them.
func (c *checker) settings() {
	for _, problem := range c.s.Problems() {
		found, remedy, _ := strings.Cut(problem, "; ")
		c.fail(cmp.Or(remedy, "correct it: docs/configuration.md has each setting"), "%s", found)
	}
	changed, defaults := c.s.Changed()
	for _, v := range changed {
		c.ok("%s: %s (%s)", v.Setting, v.Text, v.Origin)
	}
	c.ok("%s at the default", view.Plural(defaults, "setting"))
	if len(c.s.Problems()) > 0 {
		return
	}
	if c.s.AdminInsecure {
		c.warn("set --admin-token-file instead, unless only your monitoring gets there",
			"--admin-insecure: each client that reaches %s sees metrics and the details of /readyz", c.s.AdminListen)
	}
	if host, _, _ := net.SplitHostPort(c.s.Listen); c.s.TLSCert == "" && !config.IsLoopback(host) && len(c.s.TrustedProxy) == 0 {
		c.warn("set --tls-cert, or name the TLS proxy in front with --trusted-proxy",
			"plain HTTP on %s, which other hosts reach: tokens can be read on the way", c.s.Listen)
	}
}

// What a bridge takes of memory, in bytes: docs/benchmarks.md, docs/deployment.md.
const (
	baseMemory       = 64 << 20
	memoryConnection = 30 << 10     // with TLS
	memoryInFlight   = 2 * 32 << 10 // body and record
	// memorySubject is what nats-server takes for each subject of a stream at most.
	memorySubject = 300
	// leastStored is what an event takes of the stream at least.
	leastStored = 1600
)

// memory compares the memory limit with what the settings can use.
func (c *checker) memory() {
	needed := int64(baseMemory + c.s.MaxConnections*memoryConnection + c.s.MaxInFlight*memoryInFlight)
	if c.s.EmbeddedNATS() {
		needed += int64(c.s.StreamMaxBytes) / leastStored * memorySubject
	}
	limit, setting, found := bridge.MemoryLimit()
	switch {
	case !found:
		c.ok("no limit here; these settings can use %s", mib(needed))
	case limit < needed:
		c.warn("raise it, or lower --max-connections, --max-in-flight, or with the embedded server --stream-max-bytes",
			"%s is %s, and these settings can use %s", setting, mib(limit), mib(needed))
	default:
		c.ok("%s is %s; these settings can use %s", setting, mib(limit), mib(needed))
	}
}
