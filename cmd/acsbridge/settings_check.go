package main

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

// configError refuses a configuration whole.
type configError []problem

// Error lists every problem, one a line.
func (e configError) Error() string {
	var b strings.Builder
	b.WriteString("bad configuration, nothing was started")
	for _, p := range e {
		fmt.Fprintf(&b, "\n  %s", p)
	}
	return b.String()
}

// examination collects the problems of settings.
type examination struct {
	*settings
	found []problem
}

// problems examines all settings and takes the secrets from their files. No
// problems means that every field can be used as it stands.
func (s *settings) problems() []problem {
	x := &examination{settings: s, found: slices.Clone(s.sources.problems)}
	x.callbacks()
	x.admin()
	x.tokens()
	x.eventGrid()
	x.nats()
	x.natsLogin()
	x.stream()
	x.journal()
	x.process()
	return x.found
}

// reject notes a problem of a setting.
func (x *examination) reject(setting, format string, args ...any) {
	x.found = append(x.found, problem{
		setting: setting,
		origin:  x.sources.originOf(setting),
		fault:   fmt.Sprintf(format, args...),
	})
}

// tokens examines [tokenSettings].
func (x *examination) tokens() {
	x.resource()
	x.httpURL("issuer", x.Issuer)
	x.httpURL("oidc-config-url", x.OIDCConfigURL)
	if x.Issuer != verify.DefaultIssuer && x.OIDCConfigURL == verify.DefaultMetadataURL {
		x.reject("oidc-config-url", "is that of another issuer; name the metadata document of the issuer you set")
	}
	x.within("leeway", x.Leeway, 0, maxLeeway)
	x.oneOf("token-reuse", x.TokenReuse, "report", "refuse", "off")
}

// resource parses NAME=GUID. The faults do not repeat the right side: people
// paste connection strings, and these hold the access key.
func (x *examination) resource() {
	if len(x.Resource) == 0 {
		x.reject("resource", "at least one is needed; write NAME=GUID, where GUID is the immutable resource id: "+
			"az communication show --query immutableResourceId")
	}
	names, audiences := map[string]bool{}, map[string]bool{}
	for i, entry := range x.Resource {
		name, audience, found := strings.Cut(strings.TrimSpace(entry), "=")
		if !found || !schemas.ValidToken(name) || name == schemas.NoResource {
			x.reject("resource", "number %d has no usable name; write NAME=GUID, where NAME is 1 to 64 letters, digits, _ or -", i+1)
			continue
		}
		if fault := audienceFault(audience); fault != "" {
			x.reject("resource", "%s: %s", name, fault)
			continue
		}
		// A GUID is the same in either case, so two spellings are one resource.
		if key := strings.ToLower(audience); names[name] || audiences[key] {
			x.reject("resource", "%s: name or GUID given twice; each resource needs its own of both", name)
		} else {
			names[name], audiences[key] = true, true
			x.audiences = append(x.audiences, verify.Resource{Name: name, Audience: audience})
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
	return "the part after = is no GUID; the audience is the immutable resource id" + hint
}

// stream examines [streamSettings].
func (x *examination) stream() {
	if !schemas.ValidToken(x.Stream) || x.Stream == schemas.QuarantineStream {
		x.reject("stream", "%q is no usable name; take 1 to 64 letters, digits, _ or -, and not %s",
			x.Stream, schemas.QuarantineStream)
	}
	if !schemas.ValidToken(x.SubjectPrefix) || x.SubjectPrefix == schemas.QuarantinePrefix {
		x.reject("subject-prefix", "%q is no usable token; take 1 to 64 letters, digits, _ or -, and not %s",
			x.SubjectPrefix, schemas.QuarantinePrefix)
	}
	x.amount("stream-replicas", x.StreamReplicas, 1, maxReplicas)
	if x.embeddedNATS() && x.StreamReplicas > 1 {
		x.reject("stream-replicas", "the embedded server keeps one copy; more need a cluster, see nats-url")
	}
	age, window := x.StreamMaxAge, x.StreamDuplicateWindow
	if age != 0 {
		x.within("stream-max-age", age, minStreamAge, math.MaxInt64)
	}
	x.within("stream-duplicate-window", window, minDuplicateWindow, maxDuplicateWindow)
	if age != 0 && window > age {
		x.reject("stream-duplicate-window", "%s is longer than stream-max-age, %s; JetStream refuses that", window, age)
	}
	if x.StreamMaxBytes != 0 {
		x.atLeast("stream-max-bytes", x.StreamMaxBytes, minStore)
	}
}

// journal examines [journalSettings].
func (x *examination) journal() {
	x.directory("data-dir", x.DataDir)
	x.oneOf("journal", x.Journal, "on", "off")
	if x.Journal == "off" && x.embeddedNATS() {
		x.reject("journal", "the embedded server alone can lose events in a power cut; leave the journal on, or set nats-url")
	}
	x.atLeast("journal-max-bytes", x.JournalMaxBytes, minStore)
	x.within("ack-wait", x.AckWait, 0, maxAckWait)
	x.amount("max-in-flight", x.MaxInFlight, 1, maxInFlight)
}

// process examines [processSettings].
func (x *examination) process() {
	x.within("shutdown-delay", x.ShutdownDelay, 0, maxShutdownDelay)
	x.within("shutdown-timeout", x.ShutdownTimeout, minShutdown, maxShutdown)
	x.oneOf("log-format", x.LogFormat, "auto", "text", "json")
	x.oneOf("log-level", x.LogLevel, "debug", "info", "warn", "error")
}

// oneOf examines a setting that has a few values.
func (x *examination) oneOf(setting, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		x.reject(setting, "%q is none of %s", value, strings.Join(allowed, ", "))
	}
}

// within examines the range of a duration.
func (x *examination) within(setting string, d, least, most time.Duration) {
	switch {
	case d < least:
		x.reject(setting, "%s is less than %s", d, least)
	case d > most:
		x.reject(setting, "%s is more than %s", d, most)
	}
}

// amount examines the range of a count.
func (x *examination) amount(setting string, n, least, most int) {
	if n < least || n > most {
		x.reject(setting, "%d is not between %d and %d", n, least, most)
	}
}

// atLeast examines the lower bound of a size.
func (x *examination) atLeast(setting string, s, least size) {
	if s < least {
		x.reject(setting, "%s is less than %s", s, least)
	}
}
