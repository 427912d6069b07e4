package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

const (
	// attempts is how often in a row a request may fail. A reading that follows
	// goes on trying, but says so.
	attempts = 5
	// firstPause and lastPause bound the pauses between attempts.
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
	// lookWithin bounds a look at the stream. Without the right to it nobody
	// answers.
	lookWithin = 3 * time.Second
	// away is the pause between two requests in which a stream's limits can have
	// overtaken a reading.
	away = time.Second
	// lookAfter is how many intervals pass until a reading that follows looks
	// again whether the stream is still the same.
	lookAfter = 50
)

// MissedError reports messages that should have been read and that the stream
// does not hold any more: its limits were faster than the reading, or somebody
// deleted them.
type MissedError struct {
	Stream      string
	First, Last uint64 // sequences
	// Filtered means that it is not known whether messages of the selection were
	// among them.
	Filtered bool
}

func (e *MissedError) Error() string {
	if e.Filtered {
		return fmt.Sprintf("stream %s does not hold sequences %d to %d any more; what the selection had there is missed", e.Stream, e.First, e.Last)
	}
	if e.First == e.Last {
		return fmt.Sprintf("stream %s does not hold sequence %d any more", e.Stream, e.First)
	}
	return fmt.Sprintf("stream %s does not hold sequences %d to %d any more", e.Stream, e.First, e.Last)
}

// OldSubjectsError reports a stream with subjects of the form before there were
// slots: acs.<resource>.<EventType>.<callConnectionId>. A filter does not find them.
type OldSubjectsError struct{ Stream, Prefix string }

func (e *OldSubjectsError) Error() string {
	return fmt.Sprintf("stream %[1]s holds events with subjects of the old form %[2]s.<resource>.<EventType>.<callConnectionId>, without a slot, which filters do not find. "+
		"To keep them: acsbridge replay --since all --to file:FILE; what is sent from that file has subjects of today. To remove them: nats stream purge %[1]s --subject '%[2]s.*.*.*'",
		e.Stream, e.Prefix)
}

// noticeOldSubjects looks once whether the stream has events that the flags for
// resource, type and call miss because their subjects have no slot.
func (p *passage) noticeOldSubjects(ctx context.Context) {
	if p.oldSubjects || p.Resource == "" && p.Type == "" && p.Call == "" {
		return
	}
	p.oldSubjects = true
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	js, err := p.JetStream(ctx)
	if err != nil {
		return
	}
	answer, err := jetstreamext.GetBatch(ctx, js, p.Stream, 1, jetstreamext.GetBatchSeq(1), jetstreamext.GetBatchSubject(p.Prefix+".*.*.*"))
	if err != nil {
		return
	}
	for _, err := range answer {
		if err == nil {
			p.notice(&OldSubjectsError{p.Stream, p.Prefix})
		}
	}
}

// StoppedError reports a reading that ended early and can go on.
type StoppedError struct {
	Stream string
	Next   uint64 // sequence to go on at; zero when nothing was read yet
	Err    error
}

func (e *StoppedError) Error() string {
	return fmt.Sprintf("read stream %s from sequence %d on: %v", e.Stream, max(e.Next, 1), e.Err)
}

func (e *StoppedError) Unwrap() error { return e.Err }

// ErrBeganAgain reports a stream that ends before what was read of it.
var ErrBeganAgain = errors.New("the stream ends before what was read of it: it was made anew, or lost messages; read it from the start")

var (
	errNoAnswer = errors.New("no answer")
	errBroken   = errors.New("the connection broke")
	errBehind   = errors.New("the replica that answers is behind the stream")
)

// Look returns the state and the configuration of the stream, as its leader
// knows them. It needs the right to $JS.API.STREAM.INFO.<stream>.
func (r *Reader) Look(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	js, err := r.JetStream(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := js.Stream(ctx, r.Stream)
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}

// lastIsDeleted reports whether the stream's last sequence is one of a deleted
// message, which no reading comes to. The list of them can be long, so it is only
// asked for when it matters; without it the answer is yes.
func (r *Reader) lastIsDeleted(ctx context.Context, state jetstream.StreamState) bool {
	if state.NumDeleted == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	js, err := r.JetStream(ctx)
	if err != nil {
		return true
	}
	stream, err := js.Stream(ctx, r.Stream)
	if err != nil {
		return true
	}
	info, err := stream.Info(ctx, jetstream.WithDeletedDetails(true))
	return err != nil || slices.Contains(info.State.Deleted, state.LastSeq)
}

// look is [Reader.Look] for what can be done without: nil when the stream cannot
// be looked at, and not tried again.
func (p *passage) look(ctx context.Context) *jetstream.StreamInfo {
	if p.blind {
		return nil
	}
	info, err := p.Look(ctx)
	if err != nil {
		p.blind = !p.sighted && ctx.Err() == nil
		return nil
	}
	p.sighted = true
	return info
}

// overtaken notices that the stream's limits have overtaken a reading that was
// held up or begins in the middle. Without a filter the next message tells.
func (p *passage) overtaken(ctx context.Context) {
	held := p.answered.IsZero() || p.more && time.Since(p.answered) > away
	if p.subject == "" || !p.exact || !held {
		return
	}
	if info := p.look(ctx); info != nil && info.State.FirstSeq > p.next {
		p.notice(&MissedError{Stream: p.Stream, First: p.next, Last: info.State.FirstSeq - 1, Filtered: true})
		p.next = info.State.FirstSeq
	}
}

// atEnd decides what it means that the replica that answered has no more.
func (p *passage) atEnd(ctx context.Context) error {
	if p.Follow {
		if time.Since(p.looked) < lookAfter*p.interval() {
			return nil
		}
		p.looked = time.Now()
		if info := p.look(ctx); info != nil && p.read > 0 && info.State.LastSeq+1 < p.next {
			return ErrBeganAgain
		}
		return nil
	}
	if !p.ended {
		info := p.look(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.ended = true
		if p.subject == "" {
			p.end = p.last(ctx, info)
		} else {
			p.noticeLag(info)
		}
	}
	// A direct get is answered by any replica, also by one that was cut off for
	// long; about the stream itself only its leader answers.
	if p.end > 0 && p.next <= p.end {
		return errBehind
	}
	p.done = true
	return nil
}

// last returns the sequence of the last message that a reading of the whole
// stream must come to, or zero when that is not known.
func (p *passage) last(ctx context.Context, info *jetstream.StreamInfo) uint64 {
	if info == nil || info.State.Msgs == 0 || p.next > info.State.LastSeq {
		return 0
	}
	if p.next == 0 && info.State.LastTime.Before(p.Since.Time) || p.lastIsDeleted(ctx, info.State) {
		return 0
	}
	return info.State.LastSeq
}

// noticeLag says that a replica may have answered that lacks what was stored
// last. In a reading with a filter nothing else tells.
func (p *passage) noticeLag(info *jetstream.StreamInfo) {
	if info == nil || info.Cluster == nil {
		return
	}
	for _, replica := range info.Cluster.Replicas {
		if !replica.Current || replica.Offline {
			p.notice(fmt.Errorf("replica %s of stream %s is behind: if it was the one that answered, what was stored last is missing here; ask again",
				replica.Name, p.Stream))
		}
	}
}

// again waits before another request is made, or says that none helps.
func (p *passage) again(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, ErrBeganAgain) {
		return fmt.Errorf("stream %s: %w", p.Stream, err)
	}
	if p.failed++; p.answered.IsZero() || errors.Is(err, jetstreamext.ErrBatchUnsupported) {
		return fmt.Errorf("read stream %s: %w", p.Stream, p.explain(ctx, err))
	}
	if p.failed > attempts && !p.Follow {
		return &StoppedError{Stream: p.Stream, Next: p.next, Err: err}
	}
	if p.failed == attempts+1 {
		p.notice(fmt.Errorf("read stream %s: %w; the reading goes on when that is over", p.Stream, p.explain(ctx, err)))
	}
	return pause(ctx, min(firstPause<<min(p.failed-1, 10), lastPause))
}

// explain says what to do about a request that failed, as far as can be found
// out.
func (p *passage) explain(ctx context.Context, err error) error {
	if errors.Is(err, jetstreamext.ErrBatchUnsupported) {
		return fmt.Errorf("%w; it needs nats-server 2.11 or newer", err)
	}
	info, lookErr := p.Look(ctx)
	switch {
	case errors.Is(lookErr, jetstream.ErrStreamNotFound):
		return fmt.Errorf("%w; there is no stream %s: another name, account or domain?", err, p.Stream)
	case lookErr != nil:
		return fmt.Errorf("%w; it needs direct get and the right to $JS.API.DIRECT.GET.%s", err, p.Stream)
	case !info.Config.AllowDirect:
		return fmt.Errorf("%w; the stream has no direct get: nats stream edit %s --allow-direct", err, p.Stream)
	}
	return err
}
