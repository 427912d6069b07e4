package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/schemas"
)

const (
	// surveyEvery is how often a stream is looked at while records flow: a setting,
	// a right or a limit that was changed shows within it.
	surveyEvery = time.Minute
	// otherAnswers is how long further answers to one trial publish are waited for.
	otherAnswers = 500 * time.Millisecond
	// accountFull is the share of an account's storage from which on it is a note.
	accountFull = 0.9
	// trialToken is the resource in the subject of a trial publish.
	trialToken = "_."
)

// errChanged ends a sender because the stream is not what it was.
var errChanged = errors.New("the stream has other settings now: forwarding begins anew")

// survey looks from the start at what forwarding needs, also at what it needs only
// after an outage, and then at the stream again every minute until ctx ends. It
// returns when the stream is not what it was, so that forwarding begins anew.
func (t *target) survey(ctx context.Context, js jetstream.JetStream, state streamState) error {
	for try := true; ; {
		direct := t.directGet(ctx, js, state)
		var server []string
		if t.part == partEvents { // the quarantine is on the same server
			server = append(serverLimits(js.Conn()), accountLimits(ctx, js)...)
		}
		if ctx.Err() != nil {
			return nil
		}
		t.set(noteDirect, direct...)
		t.set(noteServer, server...)
		if try {
			if refusal, done := t.trial(ctx, js.Conn(), state); done {
				var list []string
				if refusal != nil {
					list = []string{fmt.Sprintf("a trial publish fails: %v", refusal)}
				}
				t.set(noteTrial, list...)
			}
		}
		// Those who subscribe to the subjects get trial publishes: no more than needed.
		try = t.has(noteTrial) || t.has(noteForeign)
		select {
		case <-time.After(t.every):
		case <-ctx.Done():
			return nil
		}
		now, err := t.look(ctx, js, false)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil && !now.same(state) {
			return errChanged
		}
		if err == nil {
			state = now
		}
	}
}

// The oldest nats-server that has batched direct gets (ADR-31), which the lookback needs.
const leastMajor, leastMinor = 2, 11

// serverLimits names the limits of the server that are too low.
func serverLimits(nc *nats.Conn) (list []string) {
	var major, minor int
	version := nc.ConnectedServerVersion()
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err == nil && (major < leastMajor || major == leastMajor && minor < leastMinor) {
		list = append(list, fmt.Sprintf("nats-server is %s: the bridge needs %d.%d or newer, else forwarding stops after an outage of more than a quarter of the duplicate window", version, leastMajor, leastMinor))
	}
	if most := nc.MaxPayload(); most < MaxMessage {
		list = append(list, fmt.Sprintf("max_payload of the server is %d bytes: a message can have %d, and one that is too large goes to the dead-letter file; raise it", most, MaxMessage))
	}
	return list
}

// directGet tries a direct get, unless the stream has it off, which is a difference.
func (t *target) directGet(ctx context.Context, js jetstream.JetStream, state streamState) []string {
	if !state.direct {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, natsconn.RequestTimeout)
	defer cancel()
	began := time.Now()
	_, err := messageAt(ctx, js, state.stream, 1)
	if err == nil {
		return nil
	}
	return []string{fmt.Sprintf("direct get fails: %v; after an outage of more than a quarter of the duplicate window, forwarding waits until it works", t.explain(err, began, apiSubject(js, "DIRECT.GET."+state.stream)))}
}

// accountLimits names the limits of the account that are nearly reached. Without
// the right to ask for them nothing is known.
func accountLimits(ctx context.Context, js jetstream.JetStream) (list []string) {
	info, err := js.AccountInfo(ctx)
	if err != nil {
		return nil
	}
	return nearlyReached(info)
}

func nearlyReached(info *jetstream.AccountInfo) (list []string) {
	tiers := map[string]jetstream.Tier{"": info.Tier}
	for name, tier := range info.Tiers {
		tiers[" of tier "+name] = tier
	}
	for name, tier := range tiers {
		if most := tier.Limits.MaxStore; most > 0 && float64(tier.Store) >= accountFull*float64(most) {
			list = append(list, fmt.Sprintf("the account%s has used %d %% of the %d bytes that it may store: raise its limit, or bound the stream with --stream-max-bytes", name, 100*tier.Store/uint64(most), most))
		}
	}
	return list
}

// trial publishes a message that no stream stores, because it is for a stream whose
// name cannot exist. The refusals show whether this login may publish, and which
// streams take the subjects. It is not done when the connection broke, or when a
// record was stored meanwhile, which says more. The refusal is nil when this login may
// publish.
func (t *target) trial(ctx context.Context, nc *nats.Conn, state streamState) (refusal error, done bool) {
	inbox := nc.NewInbox()
	answers, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, false
	}
	defer func() { _ = answers.Unsubscribe() }()
	t.mu.Lock()
	t.stored = false
	t.mu.Unlock()
	began := time.Now()
	err = nc.PublishMsg(&nats.Msg{
		Subject: t.prefix + "." + trialToken + "Trial." + schemas.Slot(schemas.NoCall) + "." + schemas.NoCall, Reply: inbox,
		Header: nats.Header{jetstream.ExpectedStreamHeader: {"not a stream"}},
	})
	if err != nil {
		return nil, false
	}
	var others []string
	own, wait := 0, natsconn.RequestTimeout
	for {
		m, err := nextAnswer(ctx, answers, wait)
		if errors.Is(err, nats.ErrNoResponders) {
			refusal = jetstream.ErrNoStreamResponse
		}
		if err != nil {
			break
		}
		wait = otherAnswers
		read := acksOf(place{stream: t.want.Name})
		got, err := read.read(m)
		var api *jetstream.APIError
		switch {
		case errors.Is(err, errForeign):
			others = append(others, t.foreign(got.String()))
		case errors.As(err, &api):
			own++
			if api.ErrorCode != natsconn.CodeWrongStream {
				refusal = err
			}
		default:
			refusal = err
		}
	}
	if ctx.Err() != nil {
		return nil, false
	}
	none := own == 0 && len(others) == 0 && !state.noAck
	t.tried(own, others)
	switch {
	case refusal != nil:
	case none:
		refusal = natsconn.ErrNoAnswer
	default:
		return nil, true
	}
	refusal = t.explain(refusal, began, t.prefix+"."+trialToken)
	t.mu.Lock()
	defer t.mu.Unlock()
	return refusal, !t.stored
}

// tried takes what answered a trial: streams of other names, and how many of the name
// that is asked for. A refusal names no domain: of two it may be either's, and one
// alone may be that of the stream whose acknowledgements are known.
func (t *target) tried(own int, others []string) {
	t.mu.Lock()
	known, mistaken := t.notes[noteForeign], t.mistaken
	t.mistaken = false
	t.mu.Unlock()
	switch {
	case own > 1 && len(known) == 0:
		others = append(others, t.foreign(t.want.Name+elsewhere))
	case own > 1, mistaken:
		others = append(others, known...)
	}
	slices.Sort(others)
	t.set(noteForeign, slices.Compact(others)...)
}

func nextAnswer(ctx context.Context, answers *nats.Subscription, wait time.Duration) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return answers.NextMsgWithContext(ctx)
}
