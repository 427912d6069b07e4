package schemas

// ReplayPrefix is the first token under which copies of events are published,
// unless another is asked for.
const ReplayPrefix = "acs-replay"

// Headers of a copy, beside those of the event that it is a copy of. No event
// of the bridge's own has them.
const (
	HeaderReplayID = "acs-replay-id" // one for all copies of a replay
	HeaderReplayOf = "acs-replay-of" // "<stream>/<sequence>" of the original
	HeaderReplayAt = "acs-replay-at" // when it was sent: RFC 3339, UTC, nanoseconds
)

// HeaderRedrivenFrom is "<stream>/<sequence>" of the quarantined callback that an
// event was taken out of. Such an event is no copy.
const HeaderRedrivenFrom = "acs-redriven-from"
