package publish

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/schemas"
)

// StreamConfig describes the event stream. Zero values mean the defaults.
type StreamConfig struct {
	Name       string        // ACS
	Prefix     string        // acs; the stream takes <prefix>.>
	Replicas   int           // 1
	MaxAge     time.Duration // 72 h; NoMaxAge keeps events for ever
	MaxBytes   int64         // zero: no limit
	Duplicates time.Duration // 10 min
	// Update changes an existing stream that differs. Otherwise the difference
	// is only reported.
	Update bool
}

// Defaults of [StreamConfig].
const (
	DefaultMaxAge     = 72 * time.Hour
	DefaultDuplicates = 10 * time.Minute
	// NoMaxAge as a StreamConfig's MaxAge sets no limit.
	NoMaxAge time.Duration = -1
)

// MaxMessage is the size of the largest message in bytes: a whole callback's
// body and 8 KiB of headers.
const MaxMessage = 256<<10 + 8<<10

// QuarantineMaxBytes bounds the quarantine stream. Its oldest messages make
// room: it is for looking at, not for replay.
const QuarantineMaxBytes = 256 << 20

func (c StreamConfig) withDefaults() StreamConfig {
	c.Name = cmp.Or(c.Name, schemas.Stream)
	c.Prefix = cmp.Or(c.Prefix, schemas.SubjectPrefix)
	c.Replicas = cmp.Or(c.Replicas, 1)
	c.MaxAge = cmp.Or(c.MaxAge, DefaultMaxAge)
	c.Duplicates = cmp.Or(c.Duplicates, DefaultDuplicates)
	return c
}

// events returns the configuration of the event stream: a log with limits
// that any number of consumers can replay, never a work queue.
func (c StreamConfig) events() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        c.Name,
		Description: "Verified ACS Call Automation events, published by acsbridge",
		Subjects:    []string{c.Prefix + ".>"},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		Storage:     jetstream.FileStorage,
		Compression: jetstream.NoCompression, // decision 13
		Replicas:    c.Replicas,
		MaxAge:      max(c.MaxAge, 0),
		MaxBytes:    cmp.Or(c.MaxBytes, -1),
		Duplicates:  c.Duplicates,
		AllowDirect: true,
	}
}

func (c StreamConfig) quarantine() jetstream.StreamConfig {
	q := c.events()
	q.Name = schemas.QuarantineStream
	q.Description = "Verified ACS callbacks whose body is not CloudEvents, kept by acsbridge"
	q.Subjects = []string{schemas.QuarantinePrefix + ".>"}
	q.MaxBytes = QuarantineMaxBytes
	return q
}

// streamState is what a stream said of itself.
type streamState struct {
	place
	window time.Duration // its duplicate window
	// allowsTTL says that a message may end before the stream's own age.
	allowsTTL   bool
	noAck       bool
	direct      bool // direct get is allowed
	differences []Difference
}

// same reports whether forwarding can go on as before: the stream is where it was,
// and deduplicates as it did.
func (s *streamState) same(other streamState) bool {
	return s.place == other.place && s.window == other.window && s.allowsTTL == other.allowsTTL
}

// ensure creates the stream when it is absent, changes it when update says so, and
// returns what it says of itself. The prefix is that of the events.
func ensure(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig, prefix string, update bool) (streamState, error) {
	have, err := lookAt(ctx, js, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if _, err = js.CreateStream(ctx, want); err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // by another bridge
			return streamState{}, fmt.Errorf("create stream %s: %w", want.Name, err)
		}
		have, err = lookAt(ctx, js, want.Name)
	}
	if err != nil {
		return streamState{}, fmt.Errorf("look at stream %s: %w", want.Name, err)
	}
	list := differences(have.Config, want, prefix)
	if update && len(list) > 0 {
		if _, err := js.UpdateStream(ctx, updated(have.Config, want, prefix)); err != nil {
			list = append(list, Difference{Text: fmt.Sprintf("--stream-update was refused: %v", natsconn.WithRemedy(err))})
		} else if have, err = lookAt(ctx, js, want.Name); err != nil {
			return streamState{}, fmt.Errorf("look at stream %s after its update: %w", want.Name, err)
		} else {
			list = differences(have.Config, want, prefix)
		}
	}
	return have.streamState(list), nil
}

// streamInfo is the answer of STREAM.INFO, with the domain that the client leaves
// out.
type streamInfo struct {
	Config  jetstream.StreamConfig `json:"config"`
	State   jetstream.StreamState  `json:"state"`
	Cluster *jetstream.ClusterInfo `json:"cluster"`
	Domain  string                 `json:"domain"`
	Error   *jetstream.APIError    `json:"error"`
}

func (i *streamInfo) streamState(differences []Difference) streamState {
	return streamState{
		place:  place{i.Config.Name, i.Domain},
		window: i.Config.Duplicates, allowsTTL: i.Config.AllowMsgTTL, noAck: i.Config.NoAck, direct: i.Config.AllowDirect, differences: differences,
	}
}

// lookAt asks for a stream. [jetstream.ErrStreamNotFound] reports that there is
// none.
func lookAt(ctx context.Context, js jetstream.JetStream, name string) (*streamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, natsconn.RequestTimeout)
	defer cancel()
	m, err := js.Conn().RequestWithContext(ctx, apiSubject(js, "STREAM.INFO."+name), nil)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, natsconn.ErrNoAnswer
	}
	if err != nil {
		return nil, err
	}
	var info streamInfo
	if err := json.Unmarshal(m.Data, &info); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if info.Error != nil {
		if info.Error.ErrorCode == jetstream.JSErrCodeStreamNotFound {
			return nil, jetstream.ErrStreamNotFound
		}
		return nil, info.Error
	}
	if info.Config.Name != name {
		return nil, fmt.Errorf("stream %q answered", info.Config.Name)
	}
	return &info, nil
}

// apiSubject is where JetStream is asked for something: through the same prefix as
// all else.
func apiSubject(js jetstream.JetStream, operation string) string {
	prefix := cmp.Or(js.Options().APIPrefix, strings.TrimSuffix(jetstream.DefaultAPIPrefix, "."))
	return strings.TrimSuffix(prefix, ".") + "." + operation
}
