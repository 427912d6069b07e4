package schemas

// ReplayPrefix is the first token under which copies of events are published,
// unless another is asked for.
const ReplayPrefix = "acs-replay"

// Headers of a copy, beside those of the event that it is a copy of. No event
// of the bridge's own has them.
const (
	HeaderReplayID = "acs-replay-id" // of a copy: one for all copies of a replay
	HeaderReplayOf = "acs-replay-of" // of a copy: "<stream>/<sequence>" of the original
	HeaderReplayAt = "acs-replay-at" // of a copy: when it was sent: RFC 3339, UTC, nanoseconds
)

// HeaderRedrivenFrom is a header of an event that was taken out of quarantine. It
// is no copy.
const (
	HeaderRedrivenFrom = "acs-redriven-from" // "<stream>/<sequence>" of the callback in quarantine
)
