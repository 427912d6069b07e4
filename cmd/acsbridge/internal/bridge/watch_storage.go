package bridge

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/internal/datadir"
	"github.com/acsbridge/acsbridge/publish/journal"
)

// diskMargin is how much more than what is needed ends the note about the disk,
// so that it does not come and go with every log file of the journal.
const diskMargin = 64 << 20

// disk checks whether the file system of the data directory has room for what the
// journal, and the embedded server, may still take.
func (b *Bridge) disk() func(context.Context) []condition {
	free := b.gauge("acsbridge_data_dir_free_bytes", "Bytes that the file system of --data-dir has left.")
	need := b.gauge("acsbridge_data_dir_needed_bytes", "Bytes that the journal and the embedded NATS server may still take there.")
	short := false
	return func(context.Context) []condition {
		if b.settings.Journal == "off" {
			return nil
		}
		needed, err := DiskNeed(b.settings)
		if err != nil {
			return []condition{{"disk", note{"disk", fmt.Sprintf("%s cannot be measured: %v", b.settings.DataDir, err)}, "unknown"}}
		}
		left, err := freeBytes(b.settings.DataDir)
		if err != nil { // not on this system, or the journal says it itself
			return nil
		}
		free.Set(float64(left))
		need.Set(float64(needed))
		if short && left < needed+diskMargin || left < needed {
			short = true
			return []condition{{"disk", note{"disk", fmt.Sprintf(
				"%s has %s left, and what --journal-max-bytes and --stream-max-bytes allow needs %s more: when it is full, callbacks are answered 503; make room, or lower these settings",
				b.settings.DataDir, inMiB(left), inMiB(needed))}, ""}}
		}
		short = false
		return nil
	}
}

// freeBytes is [datadir.FreeBytes]; tests have a disk of their own.
var freeBytes = datadir.FreeBytes

// DiskNeed returns how many bytes a bridge may still write to its data directory. The
// embedded server has no bound of its own without --stream-max-bytes.
func DiskNeed(s *config.Settings) (int64, error) {
	now, atMost, err := s.Publish().JournalDisk()
	if err != nil {
		return 0, err
	}
	needed := max(atMost-now, 0)
	if stream := int64(s.StreamMaxBytes); s.EmbeddedNATS() && stream > 0 {
		stored, err := journal.DirSize(filepath.Join(s.DataDir, "nats"))
		if err != nil {
			return 0, err
		}
		needed += max(stream-stored, 0)
	}
	return needed, nil
}

func inMiB[T int64 | uint64](bytes T) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// deadLetters checks whether there are dead letters.
func (b *Bridge) deadLetters() func(context.Context) []condition {
	metric := b.gauge("acsbridge_dead_letter_bytes", "Bytes of the files of dead letters in --data-dir.")
	return func(context.Context) []condition {
		files, err := b.publisher.DeadLetters()
		if err != nil {
			return []condition{{"dead letters", note{"deadletters", "the files of dead letters cannot be found: " + err.Error()}, "unknown"}}
		}
		var size int64
		var names []string
		for _, f := range files {
			size += f.Size
			names = append(names, f.Path)
		}
		metric.Set(float64(size))
		if len(files) == 0 {
			return nil
		}
		return []condition{{"dead letters", note{"deadletters", fmt.Sprintf(
			"%s of dead letters, which the stream does not have, in %s: acsbridge quarantine list --dead-letters %s says why, redrive brings them back",
			inMiB(size), strings.Join(names, ", "), names[0])}, ""}}
	}
}

const (
	// streamTimeout bounds a request about a stream.
	streamTimeout = 2 * time.Second
	// quarantineRepeat is how often the warning of a growing quarantine is repeated.
	quarantineRepeat = time.Hour
)

// streamUsage measures the event stream. It finds no conditions: those of the stream
// come from [publish.Publisher.Status].
func (b *Bridge) streamUsage() func(context.Context) []condition {
	messages := b.gauge("acsbridge_stream_messages", "Events in the stream, of all bridges.")
	bytes := b.gauge("acsbridge_stream_bytes", "Bytes of the stream.")
	bytesMax := b.gauge("acsbridge_stream_max_bytes", "Bytes of the stream at most (--stream-max-bytes), then the oldest events go; -1 without a limit.")
	oldest := b.gauge("acsbridge_stream_first_timestamp_seconds", "When the oldest event in the stream was stored, as Unix time; 0 for an empty stream.")
	consumers := b.gauge("acsbridge_stream_consumers", "Consumers of the stream.")
	look := lookAtStream(b, b.publisher.StreamUsage)
	return func(ctx context.Context) []condition {
		usage, ok := look(ctx)
		if !ok {
			return nil
		}
		messages.Set(float64(usage.Messages))
		bytes.Set(float64(usage.Bytes))
		bytesMax.Set(float64(usage.MaxBytes))
		consumers.Set(float64(usage.Consumers))
		oldest.Set(0)
		if usage.Messages > 0 {
			oldest.Set(float64(usage.FirstAt.UnixNano()) / 1e9)
		}
		return nil
	}
}

// streamRetry are the pauses after requests that failed: without the right to
// them, NATS reports each one as an error.
var streamRetry = backoff.Doubling{First: watchInterval, Last: 10 * time.Minute}

// lookAtStream returns a function that makes a request about a stream, and reports whether
// it succeeded. The function makes none while NATS is disconnected, in a pause after
// failures, and at first: it must not delay a start.
func lookAtStream[T any](b *Bridge, request func(context.Context) (T, error)) func(context.Context) (answer T, ok bool) {
	failures, next := 0, time.Now().Add(watchInterval/2)
	return func(ctx context.Context) (answer T, ok bool) {
		now := time.Now()
		if connected, _ := b.link.State(); !connected || now.Before(next) {
			return answer, false
		}
		ctx, cancel := context.WithTimeout(ctx, streamTimeout)
		defer cancel()
		answer, err := request(ctx)
		if err != nil {
			failures++
			next = now.Add(streamRetry.After(failures))
			return answer, false
		}
		failures = 0
		return answer, true
	}
}

// quarantined checks whether callbacks are in quarantine, and whether there is room
// for more.
func (b *Bridge) quarantined() func(context.Context) []condition {
	count := b.gauge("acsbridge_quarantine_callbacks", "Callbacks in the quarantine stream, of all bridges.")
	size := b.gauge("acsbridge_quarantine_bytes", "Bytes of the quarantine stream.")
	sizeMax := b.gauge("acsbridge_quarantine_max_bytes", "Bytes of the quarantine stream at most, then the oldest callbacks go; -1 without a limit.")
	var (
		last   []condition
		newest uint64 // sequence of the last callback that was warned of
		said   time.Time
	)
	look := lookAtStream(b, b.publisher.Quarantined)
	return func(ctx context.Context) []condition {
		q, ok := look(ctx)
		if !ok {
			return last
		}
		now := time.Now()
		count.Set(float64(q.Callbacks))
		size.Set(float64(q.Bytes))
		sizeMax.Set(float64(q.MaxBytes))
		if last = nil; q.Callbacks == 0 {
			return nil
		}
		if q.Last != newest && now.Sub(said) >= quarantineRepeat {
			newest, said = q.Last, now
		}
		state, used, bound := "growing", inMiB(q.Bytes), ""
		if q.MaxBytes > 0 {
			used += " of " + inMiB(q.MaxBytes)
		}
		if q.MaxAge > 0 {
			bound = fmt.Sprintf(", and each is gone after %s", q.MaxAge)
		}
		if q.MaxBytes > 0 && q.Bytes >= uint64(q.MaxBytes)/10*8 {
			state, bound = "nearly full", bound+"; it is nearly full, and then the oldest go at once"
		}
		last = []condition{{"quarantine", note{"quarantine", fmt.Sprintf(
			"holds %s that could not be published, %s, the newest of %s%s: acsbridge quarantine list shows what is there, then redrive or drop it",
			view.Plural(q.Callbacks, "callback"), used, q.LastAt.UTC().Format("2006-01-02 15:04:05Z"), bound)},
			fmt.Sprint(state, newest)}}
		return last
	}
}
