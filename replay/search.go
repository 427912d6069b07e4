package replay

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"iter"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/schemas"
)

const (
	// storyMargin is how far before and after the known events of a call the search
	// reads.
	storyMargin = 2 * time.Minute
	// maxStory is the most events that a story can have; they are in memory.
	maxStory = 20_000
	// rounds is how often the search is repeated with the legs that it has found.
	rounds = 4
	// maxDuration bounds what an event can say about how long ago its call began.
	maxDuration = 24 * time.Hour
)

// backwards is how far the search for an id that is not in a subject reads back, step
// by step, before it reads the whole stream: most calls of interest are recent.
var backwards = []time.Duration{time.Hour, 8 * time.Hour}

// Searched is what a search for an id has read that was not in any subject: so many
// messages, stored in that time.
type Searched struct {
	Messages    int
	First, Last time.Time
}

// Story returns the story of a call, by any of its ids: the callConnectionId of any
// of its legs, or the serverCallId, the correlationId or a recordingId. It filters by
// subject first; events with the id elsewhere are found by the index or by reading, the last
// hour first. The other legs, the recording and the events of Event Grid are found by the
// ids that they share, among the messages stored from two minutes before the known
// events to two minutes after them. A story without steps means that the stream has
// no event of the call.
func (r *Reader) Story(ctx context.Context, id string, now time.Time) (*Story, error) {
	return findStory(ctx, newSearch(r.Read, r.Index), id, now, backwards)
}

// CaptureStory is [Reader.Story] of a capture.
func CaptureStory(ctx context.Context, capture io.ReadSeeker, id string, now time.Time) (*Story, error) {
	read := func(_ context.Context, s Selection) iter.Seq2[*StoredMessage, error] {
		return func(yield func(*StoredMessage, error) bool) {
			if _, err := capture.Seek(0, io.SeekStart); err != nil {
				yield(nil, err)
				return
			}
			ReadCapture(capture, s)(yield)
		}
	}
	return findStory(ctx, newSearch(read, nil), id, now, nil)
}

func findStory(ctx context.Context, s *search, id string, now time.Time, spans []time.Duration) (*Story, error) {
	if err := s.find(ctx, plainID(id), now, spans); err != nil {
		return nil, err
	}
	if len(s.held) == 0 {
		return &Story{Searched: s.searched}, nil
	}
	var done scope
	for range rounds {
		if err := s.readLegs(ctx); err != nil {
			return nil, err
		}
		next := s.scope()
		if next == done {
			break
		}
		if err := s.readRelated(ctx, next.selection()); err != nil {
			return nil, err
		}
		done = next
	}
	if err := s.readLegs(ctx); err != nil {
		return nil, err
	}
	steps := make([]*Step, 0, len(s.held))
	for _, step := range s.held {
		steps = append(steps, step)
	}
	story := newStory(steps, now)
	story.Searched = s.searched
	return story, nil
}

// plainID undoes what an id has that was copied out of a URL or a text: escapes and
// blanks.
func plainID(id string) string {
	id = strings.TrimSpace(id)
	if plain, err := url.PathUnescape(id); err == nil {
		return plain
	}
	return id
}

// reading reads the selected messages of a stream or a capture.
type reading func(context.Context, Selection) iter.Seq2[*StoredMessage, error]

// search looks for the events of one call.
type search struct {
	read     reading
	index    *Index          // nil without one
	ids      map[string]bool // of the events found, in the form of key
	tokens   map[string]bool // last tokens of the subjects that were read
	held     map[uint64]*Step
	searched Searched
}

func newSearch(read reading, index *Index) *search {
	return &search{read: read, index: index, ids: make(map[string]bool), tokens: make(map[string]bool), held: make(map[uint64]*Step)}
}

// find finds the first events of the call: those with the id in their subjects, or
// else those with it elsewhere, in the shortest of the spans before now that has any,
// or in the whole stream.
func (s *search) find(ctx context.Context, id string, now time.Time, spans []time.Duration) error {
	s.ids[key(id)] = true
	if id == "" {
		return nil
	}
	for _, token := range []string{schemas.CallToken(id), schemas.Token(id)} {
		if err := s.readToken(ctx, token); err != nil || len(s.held) > 0 {
			return err
		}
	}
	if err := s.readIndexed(ctx); err != nil {
		return err
	}
	until := Position{}
	for i := 0; i <= len(spans) && len(s.held) == 0; i++ {
		since := Position{}
		if i < len(spans) {
			since.Time = now.Add(-spans[i])
		}
		if err := s.scan(ctx, Selection{Since: since, Until: until}); err != nil {
			return err
		}
		until = since
	}
	return nil
}

// readLegs adds all events that share the last token of the subject with a found one,
// and those of Event Grid, which have the correlationId there: the file of a recording
// is ready long after the call.
func (s *search) readLegs(ctx context.Context) error {
	var tokens []string
	for _, step := range s.held {
		tokens = append(tokens, step.Message.CallToken())
		if id := step.IDs.CorrelationID; id != "" {
			tokens = append(tokens, schemas.CallToken(id))
		}
	}
	slices.Sort(tokens)
	for _, token := range slices.Compact(tokens) {
		if err := s.readToken(ctx, token); err != nil {
			return err
		}
	}
	return nil
}

// readToken adds all events whose subject ends with a token.
func (s *search) readToken(ctx context.Context, token string) error {
	if token == "" || token == schemas.NoCall || s.tokens[token] {
		return nil
	}
	s.tokens[token] = true
	for m, err := range s.read(ctx, Selection{CallToken: token}) {
		if err != nil {
			return err
		}
		if e, err := m.Event(); err == nil && s.held[m.Sequence] == nil {
			if err := s.add(m, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *search) add(m *StoredMessage, e *StoredEvent) error {
	if len(s.held) >= maxStory {
		return fmt.Errorf("the call has more than %d events; read its legs one by one, with tail --call or replay --leg", maxStory)
	}
	s.held[m.Sequence] = newStep(m, e)
	for _, id := range e.keys() {
		s.ids[id] = true
	}
	return nil
}

// scope is what a scan depends on.
type scope struct {
	ids      int       // how many are known
	from, to time.Time // when the known events were stored
}

func (c scope) selection() Selection {
	return Selection{Since: Position{Time: c.from.Add(-storyMargin)}, Until: Position{Time: c.to.Add(storyMargin)}}
}

func (s *search) scope() scope {
	c := scope{ids: len(s.ids)}
	for _, step := range s.held {
		stored := step.Message.Time
		if from := stored.Add(-step.lookBack()); c.from.IsZero() || from.Before(c.from) {
			c.from = from
		}
		c.to = later(c.to, stored)
	}
	return c
}

// lookBack is how long before an event its call began, as far as the event has that.
func (s *Step) lookBack() time.Duration {
	ago := time.Duration(0)
	switch d := s.Data.(type) {
	case *schemas.RecordingFileStatusUpdated:
		if began, err := d.RecordingStartTime.Time(); err == nil {
			ago = s.Message.Time.Sub(began)
		}
	case *schemas.CallEnded:
		ago = time.Duration(cmp.Or(d.CallDurationInSeconds, d.DurationOfCall) * float64(time.Second))
	}
	return min(max(ago, 0), maxDuration)
}

// readRelated adds the events of a time that share an id with the known ones: those before
// the index begins by reading all.
func (s *search) readRelated(ctx context.Context, selection Selection) error {
	if s.index == nil {
		return s.scan(ctx, selection)
	}
	if begins := s.index.begins(); selection.Since.Time.Before(begins) {
		if begins.Before(selection.Until.Time) {
			selection.Until.Time = begins
		}
		if err := s.scan(ctx, selection); err != nil {
			return err
		}
	}
	return s.readIndexed(ctx)
}

// readIndexed adds those that the index has.
func (s *search) readIndexed(ctx context.Context) error {
	tokens, sequences := s.index.with(s.ids)
	for _, token := range tokens {
		if err := s.readToken(ctx, token); err != nil {
			return err
		}
	}
	for _, sequence := range sequences {
		if s.held[sequence] != nil {
			continue
		}
		at := Position{Sequence: sequence}
		if err := s.scan(ctx, Selection{Since: at, Until: at}); err != nil {
			return err
		}
	}
	return nil
}

// scan adds the selected events that share an id with the known ones.
func (s *search) scan(ctx context.Context, selection Selection) error {
	var likely func([]byte) bool
	ids := 0
	for m, err := range s.read(ctx, selection) {
		if err != nil {
			return err
		}
		s.searched.add(m)
		if len(s.ids) != ids {
			likely, ids = s.likely(), len(s.ids)
		}
		if s.held[m.Sequence] != nil || !likely(m.Data) {
			continue
		}
		e, err := m.Event()
		if err != nil || !slices.ContainsFunc(e.keys(), func(id string) bool { return s.ids[id] }) {
			continue
		}
		if err := s.add(m, e); err != nil {
			return err
		}
	}
	return nil
}

func (r *Searched) add(m *StoredMessage) {
	r.Messages++
	if r.First.IsZero() || m.Time.Before(r.First) {
		r.First = m.Time
	}
	r.Last = later(r.Last, m.Time)
}

// likely returns a fast check whether an event can have one of the ids, so that most
// events need not be decoded. It compares the beginnings of ids, since a '/' or '+'
// can be written in more than one way, and a GUID in capitals.
func (s *search) likely() func(data []byte) bool {
	var beginnings [][]byte
	for id := range s.ids {
		if n := strings.IndexAny(id, `/+=\"`); n >= 0 {
			id = id[:n]
		}
		if len(id) < 8 {
			return func([]byte) bool { return true }
		}
		beginnings = append(beginnings, bytes.ToLower([]byte(id)))
	}
	return func(data []byte) bool {
		data = bytes.ToLower(data)
		return slices.ContainsFunc(beginnings, func(b []byte) bool { return bytes.Contains(data, b) })
	}
}
