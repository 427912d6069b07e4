package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/schemas"
)

const (
	// repeatLog is how long a line that would be the same is left out of the log.
	repeatLog = time.Minute
	// maxNotes bounds the notes of one kind.
	maxNotes = 16
)

// Note is one thing that is not well with NATS or a stream, on one line: the
// cause, and what cures it. It stays until that is over.
type Note struct {
	Part string // nats, stream or quarantine
	Text string
}

// The kinds of notes about a stream, in the order in which they are shown: causes
// before what follows from them.
const (
	noteLook    = iota // it cannot be looked at or made
	noteServer         // the server lacks what forwarding needs; shown for events alone
	notePublish        // it does not take records
	noteTrial          // a trial publish failed, and no record was stored since
	noteForeign        // another stream takes its subjects
	noteDirect         // direct get fails, which forwarding needs after an outage
	noteDiffers        // it is not as configured
	noteKinds
)

// noteLines are the lines in the log with which notes of a kind begin.
var noteLines = [noteKinds]string{
	noteLook:    "stream cannot be used, records wait (acsbridge check examines it)",
	notePublish: "stream does not take records, they wait",
	noteTrial:   "stream will not take records",
	noteForeign: "another stream takes the same subjects",
	noteServer:  "NATS lacks what forwarding needs",
	noteDirect:  "no lookback in the stream is possible",
	noteDiffers: "stream is not as configured (--stream-update changes it)",
}

// Names of parts in notes.
const (
	partServer     = "nats"
	partEvents     = "stream"
	partQuarantine = "quarantine"
)

// target is a stream that records go to: how it is to be, what it says of itself,
// and what is not well with it.
type target struct {
	config StreamConfig
	want   jetstream.StreamConfig
	part   string // name in notes
	prefix string // first token of its subjects
	link   *natsconn.Link
	logger *slog.Logger
	every  time.Duration // pause between two surveys

	mu    sync.Mutex
	state streamState
	known bool // STREAM.INFO has answered on this connection: state is of now
	ready bool // and no publish has failed since
	// mistaken says that another stream has acknowledged a record since the last
	// trial, stored that this one has.
	mistaken, stored bool
	notes            [noteKinds][]string
	said             map[string]time.Time // when a note was last logged
}

func (c StreamConfig) eventTarget(link *natsconn.Link, logger *slog.Logger) *target {
	return &target{config: c, want: c.events(), part: partEvents, prefix: c.Prefix, link: link, logger: logger, every: surveyEvery}
}

func (c StreamConfig) quarantineTarget(link *natsconn.Link, logger *slog.Logger) *target {
	return &target{config: c, want: c.quarantine(), part: partQuarantine, prefix: schemas.QuarantinePrefix, link: link, logger: logger, every: surveyEvery}
}

// prepare looks at the stream, and creates it when it is absent. Nothing may be
// sent before that has succeeded: the place that the stream names tells its
// acknowledgements from those of another stream.
func (t *target) prepare(ctx context.Context, js jetstream.JetStream) (streamState, error) {
	return t.look(ctx, js, t.config.Update)
}

func (t *target) look(ctx context.Context, js jetstream.JetStream, update bool) (streamState, error) {
	began := time.Now()
	state, err := ensure(ctx, js, t.want, t.config.Prefix, update)
	if ctx.Err() != nil {
		return state, context.Cause(ctx)
	}
	if natsconn.Broken(err) {
		return state, err
	}
	if err != nil {
		err = t.explain(err, began, apiSubject(js, "STREAM.INFO."+t.want.Name), apiSubject(js, "STREAM.CREATE."+t.want.Name))
		if !natsconn.Broken(err) { // else the link has the cause
			t.set(noteLook, oneLine(err))
		}
		t.mu.Lock()
		t.ready = false
		t.mu.Unlock()
		return state, err
	}
	t.set(noteLook)
	var differences []string
	for _, d := range state.differences {
		if d.Fixed {
			d.Text += "; it cannot be changed: make the stream anew"
		}
		differences = append(differences, d.Text)
	}
	t.set(noteDiffers, differences...)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state, t.known = state, true
	t.ready = len(t.notes[notePublish]) == 0
	return state, nil
}

// explain replaces an error about a missing answer by its cause: most often the right
// to one of the subjects is missing. A subject that ends in a dot means all subjects
// below it, but for trial publishes.
func (t *target) explain(err error, since time.Time, subjects ...string) error {
	missing := t.link.Violation(since, func(missing string) bool {
		return slices.ContainsFunc(subjects, func(subject string) bool {
			rest, begins := strings.CutPrefix(missing, subject)
			return missing == natsconn.RedactSubject(subject) || begins && strings.HasSuffix(subject, ".") && !strings.HasPrefix(rest, trialToken)
		})
	})
	if missing != nil && natsconn.Unanswered(err) {
		err = missing
	}
	return natsconn.WithRemedy(err)
}

// fails notes why a record was not taken. The link shows a connection
// that broke. A request that its sender gave up says nothing, nor does a change of the
// stream's settings.
func (t *target) fails(err error, since time.Time) {
	if natsconn.Broken(err) || errors.Is(err, context.Canceled) || errors.Is(err, errChanged) {
		return
	}
	t.set(notePublish, oneLine(t.explain(err, since, t.prefix+".")))
}

// works notes that a record was taken.
func (t *target) works() {
	t.mu.Lock()
	clean := t.ready && len(t.notes[noteTrial]) == 0
	t.ready, t.stored = true, true
	t.mu.Unlock()
	if !clean {
		t.set(notePublish)
		t.set(noteTrial)
	}
}

// stops notes that nothing is sent until the stream was looked at again.
func (t *target) stops() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ready, t.known = false, false
}

// isReady reports whether records are taken, as far as is known.
func (t *target) isReady() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ready
}

// where returns where the stream is, when it has said so.
func (t *target) where() (at place, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state.place, t.known
}

// await returns where the stream is, once it has said so. It fails when ctx ends
// before.
func (t *target) await(ctx context.Context) (place, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if at, known := t.where(); known {
			return at, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return place{}, fmt.Errorf("stream %s has not said where it is: %w", t.want.Name, ctx.Err())
		}
	}
}

// elsewhere names a stream of the same name whose domain is not known.
const elsewhere = " of another domain or account"

// answers notes that another stream than the one asked for has answered. There may
// be several.
func (t *target) answers(other place) {
	text := t.foreign(other.String())
	t.mu.Lock()
	t.mistaken = true
	texts := slices.Clone(t.notes[noteForeign])
	t.mu.Unlock()
	if slices.Contains(texts, text) || len(texts) >= maxNotes {
		return
	}
	unnamed := t.foreign(other.stream + elsewhere) // it has a name now
	t.set(noteForeign, append(slices.DeleteFunc(texts, func(known string) bool { return known == unnamed }), text)...)
}

// foreign returns the note about a stream, or about what has no name and so is none.
func (t *target) foreign(stream string) string {
	who := "something that is not a stream answers on"
	if stream != "" {
		who = fmt.Sprintf("stream %s takes", stream)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return fmt.Sprintf("%s %s.> as well as %s: only what that one acknowledges counts; take the subjects away from the other", who, t.prefix, t.state.place)
}

// has reports whether there are notes of a kind.
func (t *target) has(kind int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.notes[kind]) > 0
}

// stuck reports whether the stream takes nothing, for a reason that is known.
func (t *target) stuck() bool { return t.has(noteLook) || t.has(notePublish) }

// set replaces the notes of a kind, and logs those that are new.
func (t *target) set(kind int, texts ...string) {
	t.mu.Lock()
	var fresh []string
	for _, text := range texts {
		if !slices.Contains(t.notes[kind], text) && time.Since(t.said[text]) > repeatLog {
			fresh = append(fresh, text)
		}
	}
	if t.said == nil || len(t.said) > maxNotes*noteKinds {
		t.said = make(map[string]time.Time)
	}
	for _, text := range fresh {
		t.said[text] = time.Now()
	}
	t.notes[kind] = texts
	t.mu.Unlock()
	for _, text := range fresh {
		t.logger.Warn(noteLines[kind], "stream", t.want.Name, "note", text)
	}
}

// list returns the present notes.
func (t *target) list() []Note {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []Note
	for kind, texts := range t.notes {
		if kind == noteTrial && len(t.notes[notePublish]) > 0 {
			continue // the same once more
		}
		part := t.part
		if kind == noteServer {
			part = partServer
		}
		for _, text := range texts {
			list = append(list, Note{part, text})
		}
	}
	return list
}

// minTTL is the shortest that JetStream takes.
const minTTL = time.Second

// setTTL gives the message of a record what is left of its time, in whole seconds, when
// the stream allows that: it refuses a TTL otherwise. The journal keeps records without
// one, because only now it is known how much is left.
func (t *target) setTTL(m *nats.Msg, r *record, now time.Time) {
	t.mu.Lock()
	allowed := t.state.allowsTTL
	t.mu.Unlock()
	if !allowed || r.forQuarantine() {
		return
	}
	for _, h := range r.headers {
		if h.Name != schemas.HeaderExpiresAt {
			continue
		}
		if at, err := time.Parse(time.RFC3339, h.Value); err == nil {
			left := max(at.Sub(now), minTTL)
			m.Header[schemas.HeaderTTL] = []string{strconv.FormatInt(int64((left+time.Second-1)/time.Second), 10)}
		}
	}
}

// refused takes the stream's refusal of a publish: a stream that was deleted and made
// again may not allow a TTL.
func (t *target) refused(err error) {
	if natsconn.Code(err) != natsconn.CodeTTLDisabled {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state.allowsTTL = false
}
