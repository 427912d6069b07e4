package config

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/acsbridge/acsbridge/schemas"
	"github.com/acsbridge/acsbridge/verify"
)

// Bounds of the settings.
const (
	// maxLeeway: a token lives 5 minutes, and more leeway would double that.
	maxLeeway = 5 * time.Minute
	// minDuplicateWindow and maxDuplicateWindow: shorter and a retry with the
	// same token may be stored twice; longer and the server's memory is better
	// spent, since the bridge reads the stream back after long outages.
	minDuplicateWindow = time.Minute
	maxDuplicateWindow = 24 * time.Hour
	// minStreamAge keeps a typing error from throwing events away.
	minStreamAge = time.Minute
	// maxReplicas is the limit of JetStream.
	maxReplicas = 5
	// minStore is the least size at which a store is not full at once: a few
	// callbacks of 256 KiB.
	minStore = 1 << 20
	// maxAckWait leaves a second of the five within which ACS gets an answer.
	maxAckWait = 4 * time.Second
	// maxInFlight callbacks are 2 GiB of bodies.
	maxInFlight = 1 << 16
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
	s.checkTokens()
	s.checkEventGrid()
	s.checkNATS()
	s.checkLogin()
	s.checkStream()
	s.checkJournal()
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

// checkTokens checks [tokenSettings].
func (s *Settings) checkTokens() {
	s.checkResources()
	s.httpURL("issuer", s.Issuer)
	s.httpURL("oidc-config-url", s.OIDCConfigURL)
	if s.Issuer != verify.DefaultIssuer && s.OIDCConfigURL == verify.DefaultMetadataURL {
		s.reject("oidc-config-url", "is that of another issuer; name the metadata document of the issuer you set")
	}
	s.within("leeway", s.Leeway, 0, maxLeeway)
	s.oneOf("token-reuse", s.TokenReuse, "report", "refuse", "off")
}

// resource parses NAME=GUID. The faults do not repeat the right side: people
// paste connection strings, and these hold the access key.
func (s *Settings) checkResources() {
	if len(s.Resource) == 0 {
		s.reject("resource", "at least one is needed; write NAME=GUID, where GUID is the immutable resource id: "+
			"az communication show --query immutableResourceId")
	}
	names, audiences := map[string]bool{}, map[string]bool{}
	for i, entry := range s.Resource {
		name, audience, found := strings.Cut(strings.TrimSpace(entry), "=")
		if !found || !schemas.ValidToken(name) || name == schemas.NoResource {
			s.reject("resource", "number %d has no usable name; write NAME=GUID, where NAME is 1 to 64 letters, digits, _ or -", i+1)
			continue
		}
		if fault := audienceFault(audience); fault != "" {
			s.reject("resource", "%s: %s", name, fault)
			continue
		}
		// A GUID is the same in either case, so two spellings are one resource.
		if key := strings.ToLower(audience); names[name] || audiences[key] {
			s.reject("resource", "%s: name or GUID given twice; each resource needs its own of both", name)
		} else {
			names[name], audiences[key] = true, true
			s.resources = append(s.resources, verify.Resource{Name: name, Audience: audience})
		}
	}
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

// checkStream checks [streamSettings].
func (s *Settings) checkStream() {
	if !schemas.ValidToken(s.Stream) || s.Stream == schemas.QuarantineStream {
		s.reject("stream", "%q is not a usable name; take 1 to 64 letters, digits, _ or -, and not %s",
			s.Stream, schemas.QuarantineStream)
	}
	if !schemas.ValidToken(s.SubjectPrefix) || s.SubjectPrefix == schemas.QuarantinePrefix {
		s.reject("subject-prefix", "%q is not a usable token; take 1 to 64 letters, digits, _ or -, and not %s",
			s.SubjectPrefix, schemas.QuarantinePrefix)
	}
	s.amount("stream-replicas", s.StreamReplicas, 1, maxReplicas)
	if s.EmbeddedNATS() && s.StreamReplicas > 1 {
		s.reject("stream-replicas", "the embedded server keeps one copy; more need a cluster, see nats-url")
	}
	age, window := s.StreamMaxAge, s.StreamDuplicateWindow
	if age != 0 {
		s.within("stream-max-age", age, minStreamAge, math.MaxInt64)
	}
	s.within("stream-duplicate-window", window, minDuplicateWindow, maxDuplicateWindow)
	if age != 0 && window > age {
		s.reject("stream-duplicate-window", "%s is longer than stream-max-age, %s; JetStream refuses that", window, age)
	}
	if s.StreamMaxBytes != 0 {
		s.atLeast("stream-max-bytes", s.StreamMaxBytes, minStore)
	}
}

// checkJournal checks [journalSettings].
func (s *Settings) checkJournal() {
	s.directory("data-dir", s.DataDir)
	s.oneOf("journal", s.Journal, "on", "off")
	if s.Journal == "off" && s.EmbeddedNATS() {
		s.reject("journal", "the embedded server alone can lose events in a power cut; leave the journal on, or set nats-url")
	}
	s.atLeast("journal-max-bytes", s.JournalMaxBytes, minStore)
	s.within("ack-wait", s.AckWait, 0, maxAckWait)
	s.amount("max-in-flight", s.MaxInFlight, 1, maxInFlight)
}

// checkProcess checks [processSettings].
func (s *Settings) checkProcess() {
	s.within("shutdown-delay", s.ShutdownDelay, 0, maxShutdownDelay)
	s.within("shutdown-timeout", s.ShutdownTimeout, minShutdown, maxShutdown)
	s.oneOf("log-format", s.LogFormat, "auto", "text", "json")
	s.oneOf("log-level", s.LogLevel, "debug", "info", "warn", "error")
}

// oneOf checks a setting that has a few values.
func (s *Settings) oneOf(setting, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		s.reject(setting, "%q is none of %s", value, strings.Join(allowed, ", "))
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

// atLeast checks the lower bound of a size.
func (s *Settings) atLeast(setting string, n, least size) {
	if n < least {
		s.reject(setting, "%s is less than %s", n, least)
	}
}
