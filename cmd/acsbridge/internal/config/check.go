package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/acsbridge/acsbridge/internal/setting"
	"github.com/acsbridge/acsbridge/internal/tracing"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

// Bounds of the settings that no room checks.
const (
	// maxShutdownDelay is ample for a load balancer to look at /readyz.
	maxShutdownDelay = 5 * time.Minute
	// minShutdown and maxShutdown: a supervisor kills what takes longer.
	minShutdown = time.Second
	maxShutdown = 10 * time.Minute
)

// problem is one thing wrong with the configuration. Its fault has a hint and
// never repeats what may be a secret.
type problem struct {
	setting string
	origin  string // where the value came from
	fault   string
}

// String is one line.
func (p problem) String() string {
	return fmt.Sprintf("%s (%s): %s", p.setting, p.origin, p.fault)
}

// Error rejects a configuration whole.
type Error []problem

// Error lists every problem, one a line.
func (e Error) Error() string {
	var b strings.Builder
	b.WriteString("bad configuration, nothing was started")
	for _, p := range e {
		fmt.Fprintf(&b, "\n  %s", p)
	}
	return b.String()
}

// check checks all settings and takes the secrets from their files. When found
// stays empty, every field can be used as it stands.
func (s *Settings) check() {
	s.found = slices.Clone(s.sources.problems)
	s.checkCallbacks()
	s.checkAdmin()
	s.checkConsole()
	s.checkTokens()
	s.checkEventGrid()
	s.checkNATS()
	s.checkLogin(&s.NatsLogin, bridgeNATS)
	s.checkConsoleLogin()
	s.checkStorage()
	s.checkProcess()
}

// reject notes a problem of a setting.
func (s *Settings) reject(setting, format string, args ...any) {
	s.found = append(s.found, problem{
		setting: setting,
		origin:  s.sources.originOf(setting),
		fault:   fmt.Sprintf(format, args...),
	})
}

// report adds what a room found wrong with its configuration, unless the same setting
// is wrong already.
func (s *Settings) report(err error) {
	known := len(s.found)
	for _, e := range setting.Errors(err) {
		if !slices.ContainsFunc(s.found[:known], func(p problem) bool { return p.setting == e.Setting }) {
			s.reject(e.Setting, "%s", e.Text)
		}
	}
}

// checkTokens parses NAME=GUID, and has the verifier's configuration checked. The
// faults do not repeat the right side: people paste connection strings, which hold the
// access key.
func (s *Settings) checkTokens() {
	for i, entry := range s.Resource {
		name, audience, found := strings.Cut(strings.TrimSpace(entry), "=")
		if !found || name == schemas.NoResource {
			s.reject("resource", "number %d has no usable name; write NAME=GUID, where NAME is 1 to 64 letters, digits, _ or -", i+1)
		} else if fault := audienceFault(audience); fault != "" {
			s.reject("resource", "number %d: %s", i+1, fault)
		}
		s.resources = append(s.resources, verify.Resource{Name: name, Audience: audience})
	}
	s.report(s.Callbacks().Check())
}

// audienceFault says what is wrong with the audience of a resource. ACS puts
// the immutable resource id into aud, a GUID. A wrong audience refuses every
// callback for good, so nothing else passes.
func audienceFault(audience string) string {
	const hint = "; az communication show --query immutableResourceId prints it"
	switch {
	case len(audience) == len(uuid.Nil.String()) && uuid.Validate(audience) == nil:
		return ""
	case strings.Contains(audience, "accesskey="):
		return "this is a connection string, the bridge needs no key but the immutable resource id, a GUID" + hint
	case strings.HasPrefix(audience, "/"):
		return "this is the resource's path in Azure, not its immutable resource id, a GUID" + hint
	case strings.Contains(audience, "."):
		return "this is an endpoint, not the immutable resource id, a GUID" + hint
	}
	return "the part after = is not a GUID; the audience is the immutable resource id" + hint
}

// checkStorage checks [streamSettings] and [journalSettings].
func (s *Settings) checkStorage() {
	s.directory("data-dir", s.DataDir)
	s.oneOf("journal", s.Journal, "on", "off")
	s.amount("stream-replicas", s.StreamReplicas, 1, publish.MaxReplicas)
	if s.EmbeddedNATS() && s.StreamReplicas > 1 {
		s.reject("stream-replicas", "the embedded server keeps one copy; more need a cluster, see nats-url")
	}
	if s.EmbeddedNATS() && s.Journal == "off" {
		s.reject("journal", "the embedded server alone can lose events in a power cut; leave the journal on, or set nats-url")
	}
	s.report(s.Publish().Check())
}

// checkProcess checks [processSettings].
func (s *Settings) checkProcess() {
	s.within("shutdown-delay", s.ShutdownDelay, 0, maxShutdownDelay)
	s.within("shutdown-timeout", s.ShutdownTimeout, minShutdown, maxShutdown)
	s.oneOf("log-format", s.LogFormat, "auto", "text", "json")
	s.oneOf("log-level", s.LogLevel, "debug", "info", "warn", "error")
	for _, e := range setting.Errors(tracing.Check()) {
		s.found = append(s.found, problem{e.Setting, "environment", e.Text})
	}
}

// oneOf checks a setting that has a few values.
func (s *Settings) oneOf(setting, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		s.reject(setting, "%q is not one of %s", value, strings.Join(allowed, ", "))
	}
}

// within checks the range of a duration.
func (s *Settings) within(setting string, d, least, most time.Duration) {
	switch {
	case d < least:
		s.reject(setting, "%s is less than %s", d, least)
	case d > most:
		s.reject(setting, "%s is more than %s", d, most)
	}
}

// amount checks the range of a count.
func (s *Settings) amount(setting string, n, least, most int) {
	if n < least || n > most {
		s.reject(setting, "%d is not between %d and %d", n, least, most)
	}
}
