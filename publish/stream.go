package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

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

// quarantineMaxBytes bounds the quarantine stream. Its oldest messages make
// room: it is for looking at, not for replay.
const quarantineMaxBytes = 256 << 20

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
	q.Description = "Verified ACS callbacks that are no CloudEvents, kept by acsbridge"
	q.Subjects = []string{schemas.QuarantinePrefix + ".>"}
	q.MaxBytes = quarantineMaxBytes
	return q
}

// streamState is what is known of the event stream.
type streamState struct {
	exists bool          // as far as we may look
	window time.Duration // its duplicate window
	// allowsTTL says that a message may end before the stream's own age.
	allowsTTL bool
	// differences are the settings in which an existing stream is not as
	// configured, each as "name: has X, configured Y".
	differences []string
}

// prepare makes sure that both streams exist and says in which settings the
// event stream differs. An error does not mean that publishing fails: without
// the right to look at streams, the right to publish is enough.
func (c StreamConfig) prepare(ctx context.Context, js jetstream.JetStream) (streamState, error) {
	state := streamState{window: c.Duplicates}
	want := c.events()
	have, err := c.ensure(ctx, js, want)
	if err != nil {
		return state, fmt.Errorf("look at stream %s: %w", want.Name, err)
	}
	state = streamState{window: have.Duplicates, allowsTTL: have.AllowMsgTTL, differences: differences(have, want), exists: true}
	if _, err := c.ensure(ctx, js, c.quarantine()); err != nil {
		return state, fmt.Errorf("look at stream %s: %w", schemas.QuarantineStream, err)
	}
	return state, nil
}

// ensure creates the stream when it is absent, and changes it when that was
// asked for. It returns the configuration that the stream has.
func (c StreamConfig) ensure(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (jetstream.StreamConfig, error) {
	stream, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = js.CreateStream(ctx, want)
		// Another bridge may have been quicker.
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			stream, err = js.Stream(ctx, want.Name)
		}
	}
	if err != nil {
		return jetstream.StreamConfig{}, err
	}
	have := stream.CachedInfo().Config
	if !c.Update || len(differences(have, want)) == 0 {
		return have, nil
	}
	// What the bridge has no setting for stays as it is.
	update := have
	update.Subjects, update.Replicas, update.MaxAge, update.MaxBytes = want.Subjects, want.Replicas, want.MaxAge, want.MaxBytes
	update.Duplicates, update.Compression, update.AllowDirect, update.Discard = want.Duplicates, want.Compression, want.AllowDirect, want.Discard
	stream, err = js.UpdateStream(ctx, update)
	if err != nil {
		return jetstream.StreamConfig{}, fmt.Errorf("update: %w", err)
	}
	return stream.CachedInfo().Config, nil
}

// differences names the settings in which a stream is not as configured, and
// those that endanger the promise whatever is configured.
func differences(have, want jetstream.StreamConfig) []string {
	var list []string
	differ := func(name string, h, w any) {
		if h != w {
			list = append(list, fmt.Sprintf("%s: has %v, configured %v", name, h, w))
		}
	}
	if !slices.Equal(have.Subjects, want.Subjects) {
		list = append(list, fmt.Sprintf("subjects: has %v, configured %v", have.Subjects, want.Subjects))
	}
	differ("retention", have.Retention, want.Retention)
	differ("storage", have.Storage, want.Storage)
	differ("discard", have.Discard, want.Discard)
	differ("replicas", have.Replicas, want.Replicas)
	differ("max age", have.MaxAge, want.MaxAge)
	differ("max bytes", have.MaxBytes, want.MaxBytes)
	differ("duplicate window", have.Duplicates, want.Duplicates)
	if have.Compression != jetstream.NoCompression {
		list = append(list, fmt.Sprintf("compression: has %v, configured %v; a compressed stream may not come back when its server was killed or lost its power", have.Compression, want.Compression))
	}
	if !have.AllowDirect {
		list = append(list, "direct get: has false; after an outage of more than a quarter of the duplicate window, forwarding waits until it is allowed")
	}
	if n := have.MaxMsgSize; n > 0 && n < MaxMessage {
		list = append(list, fmt.Sprintf("max message size: has %d bytes; a message can have %d, and one that is too large goes to the dead-letter file", n, MaxMessage))
	}
	if have.NoAck {
		list = append(list, "no ack: has true; such a stream never acknowledges, so the journal never empties")
	}
	if have.PersistMode == jetstream.AsyncPersistMode {
		list = append(list, "persist mode: has async; such a stream acknowledges before it writes and loses events when its server is killed")
	}
	return list
}
