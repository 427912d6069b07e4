package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/publish/journal"
	"github.com/acsbridge/acsbridge/schemas"
)

// File is a file and its size in bytes.
type File struct {
	Path string
	Size int64
}

// DeadLetters returns the files of dead letters that hold something, those
// included that a redrive has taken and not emptied.
func (p *Publisher) DeadLetters() (files []File, err error) {
	if p.opts.Dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(p.opts.Dir)
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasPrefix(name, "dead-letters") || !strings.Contains(name, ".ndjson") || entry.IsDir() {
			continue
		}
		// One that is gone was taken away just now.
		if info, err := entry.Info(); err == nil && info.Size() > 0 {
			files = append(files, File{filepath.Join(p.opts.Dir, name), info.Size()})
		}
	}
	return files, err
}

// JournalDisk returns the bytes that the files of the journals take, and those that
// they may take at most; zeros without a journal.
func (o Options) JournalDisk() (now, atMost int64, err error) {
	if o.Dir == "" {
		return 0, 0, nil
	}
	for name, opts := range map[string]journal.Options{journalDir: o.Journal, quarantineDir: quarantineOptions(o.Journal)} {
		n, err := journal.DirSize(filepath.Join(o.Dir, name))
		if err != nil {
			return 0, 0, err
		}
		now, atMost = now+n, atMost+opts.AtMost()
	}
	return now, atMost, nil
}

// Address is what a record was journaled under.
type Address struct{ Stream, Prefix, Resource string }

// Unsent counts the records that the stream does not have, by address, and
// returns the index of the last one. It reads at most the given number of them:
// those of other settings are the oldest. Quarantined callbacks are left out.
func (p *Publisher) Unsent(atMost uint64) (counts map[Address]int, last uint64, err error) {
	counts = make(map[Address]int)
	if p.journal == nil {
		return counts, 0, nil
	}
	first := p.forwarder.acked() + 1
	_, last = p.journal.Bounds()
	last = min(last, first+atMost-1)
	return counts, last, countAddresses(counts, first, last, p.forwarder.readAsKept)
}

// countAddresses counts records by address. One that is lost becomes a dead letter when
// it is sent.
func countAddresses(counts map[Address]int, first, last uint64, read func(uint64) (*record, error)) error {
	for index := first; index <= last; index++ {
		r, err := read(index)
		switch {
		case errors.Is(err, journal.ErrCorrupt):
		case err != nil:
			return err
		case !r.forQuarantine():
			prefix, _, _ := strings.Cut(r.subject, ".")
			counts[Address{r.stream, prefix, r.resource()}]++
		}
	}
	return nil
}

// Sent reports whether the stream has every record up to an index.
func (p *Publisher) Sent(index uint64) bool { return p.journal == nil || p.forwarder.acked() >= index }

// HasJournal reports whether a data directory has a journal.
func HasJournal(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, journalDir))
	return err == nil
}

// LeftBehind returns how many records a journal holds that no stream has. It is
// for a directory whose journal is not in use, and makes nothing there.
func LeftBehind(dir string) (records uint64, err error) {
	_, records, err = Held(dir, 0)
	return records, err
}

// Held is [LeftBehind], with the records of the events' journal by address: of at most
// the given number of them, the oldest.
func Held(dir string, atMost uint64) (counts map[Address]int, records uint64, err error) {
	counts = make(map[Address]int)
	for _, name := range []string{journalDir, quarantineDir} {
		n, err := leftIn(filepath.Join(dir, name), counts, atMost)
		if err != nil {
			return counts, 0, err
		}
		records += n
		atMost = 0 // records for the quarantine have no address
	}
	return counts, records, nil
}

// leftIn returns how many records a journal holds that no stream has, and counts the
// oldest of them by address, so many at most.
func leftIn(dir string, counts map[Address]int, atMost uint64) (records uint64, err error) {
	if _, err := os.Stat(filepath.Join(dir, "cursor")); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return 0, err
	}
	j, err := journal.Open(dir, journal.Options{})
	if err != nil {
		return 0, err
	}
	defer j.Close()
	c, err := openCursor(filepath.Join(dir, "cursor"))
	if err != nil {
		return 0, err
	}
	defer c.close()
	first, last := j.Bounds()
	acked := max(first, 1) - 1
	if c.valid {
		acked = min(max(acked, c.acked), last)
	}
	err = countAddresses(counts, acked+1, min(last, acked+atMost), func(index uint64) (*record, error) {
		kept, err := j.Read(index)
		if err != nil {
			return nil, err
		}
		return decodeRecord(kept.Data)
	})
	return last - acked, err
}

// Quarantine is what the quarantine stream holds.
type Quarantine struct {
	Callbacks uint64
	Bytes     uint64
	MaxBytes  int64 // at which the oldest go
	MaxAge    time.Duration
	Last      uint64    // sequence of the newest
	LastAt    time.Time // when it was stored
}

// Quarantined looks at the quarantine stream; one that does not exist holds
// nothing. It waits for NATS as long as ctx lets it.
func (p *Publisher) Quarantined(ctx context.Context) (Quarantine, error) {
	js, err := p.link.JetStream(ctx)
	if err != nil {
		return Quarantine{}, err
	}
	stream, err := js.Stream(ctx, schemas.QuarantineStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return Quarantine{}, nil
	}
	if err != nil {
		return Quarantine{}, fmt.Errorf("look at stream %s: %w", schemas.QuarantineStream, err)
	}
	info := stream.CachedInfo()
	return Quarantine{
		Callbacks: info.State.Msgs, Bytes: info.State.Bytes, MaxBytes: info.Config.MaxBytes, MaxAge: info.Config.MaxAge,
		Last: info.State.LastSeq, LastAt: info.State.LastTime,
	}, nil
}

// Usage is what the event stream holds.
type Usage struct {
	Messages  uint64
	Bytes     uint64
	MaxBytes  int64     // at which the oldest go, -1 for no limit
	FirstAt   time.Time // when the oldest event was stored
	Consumers int
}

// StreamUsage looks at the event stream. It waits for NATS as long as ctx lets it.
func (p *Publisher) StreamUsage(ctx context.Context) (Usage, error) {
	js, err := p.link.JetStream(ctx)
	if err != nil {
		return Usage{}, err
	}
	stream, err := js.Stream(ctx, p.opts.Stream.Name)
	if err != nil {
		return Usage{}, fmt.Errorf("look at stream %s: %w", p.opts.Stream.Name, err)
	}
	info := stream.CachedInfo()
	return Usage{
		Messages: info.State.Msgs, Bytes: info.State.Bytes, MaxBytes: info.Config.MaxBytes,
		FirstAt: info.State.FirstTime, Consumers: info.State.Consumers,
	}, nil
}

// LastEvent returns the resource of the newest event in the stream, and the
// audience that its token named; nothing when there is none.
func (p *Publisher) LastEvent(ctx context.Context) (resource, audience string, err error) {
	js, err := p.link.JetStream(ctx)
	if err != nil {
		return "", "", err
	}
	stream, err := js.Stream(ctx, p.opts.Stream.Name)
	if err != nil || stream.CachedInfo().State.Msgs == 0 || !stream.CachedInfo().Config.AllowDirect {
		return "", "", err
	}
	m, err := stream.GetMsg(ctx, stream.CachedInfo().State.LastSeq)
	if err != nil {
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			err = nil
		}
		return "", "", err
	}
	return m.Header.Get(schemas.HeaderResource), m.Header.Get(schemas.HeaderTokenAudience), nil
}
