package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"

	"github.com/acsbridge/acsbridge/replay"
)

// openForCapture opens a file to write events to, which are personal data: for
// its owner alone. One that is there is added to only when that is asked for,
// behind its last whole line; last is the sequence of the event in that.
func openForCapture(path string, add bool) (file *os.File, last uint64, err error) {
	if !add {
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return nil, 0, fmt.Errorf("%s is there already; --append adds to it", path)
		}
		return file, 0, err
	}
	if file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, 0, err
	}
	end, last, err := lastLine(file)
	if err == nil {
		err = file.Truncate(end)
	}
	if err == nil {
		_, err = file.Seek(end, io.SeekStart)
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, last, nil
}

// lastLine returns where the last line of a file ends that a killed process has
// written whole, and the sequence in it.
func lastLine(file *os.File) (end int64, sequence uint64, err error) {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	if end, err = lineEnd(file, size); err != nil || end == 0 {
		return 0, 0, err
	}
	begin, err := lineEnd(file, end-1)
	if err != nil {
		return 0, 0, err
	}
	var line struct {
		Sequence uint64 `json:"sequence"`
	}
	if err := json.NewDecoder(io.NewSectionReader(file, begin, end-begin)).Decode(&line); err != nil {
		return 0, 0, fmt.Errorf("%s is no file of events: %w", file.Name(), err)
	}
	return end, line.Sequence, nil
}

// lineEnd returns the offset behind the last line feed before another offset, or
// zero.
func lineEnd(file *os.File, before int64) (int64, error) {
	chunk := make([]byte, 64<<10)
	for before > 0 {
		begin := max(before-int64(len(chunk)), 0)
		part := chunk[:before-begin]
		if _, err := file.ReadAt(part, begin); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return begin + int64(i) + 1, nil
		}
		before = begin
	}
	return 0, nil
}

// behind leaves out the messages up to a sequence. A replay that goes on at its
// checkpoint finds later ones in its file, which can only be sent again when each
// is there once.
func behind(sequence uint64, messages iter.Seq2[*replay.StoredMessage, error]) iter.Seq2[*replay.StoredMessage, error] {
	return func(yield func(*replay.StoredMessage, error) bool) {
		for m, err := range messages {
			if err == nil && m.Sequence <= sequence {
				continue
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

// openCapture opens a file of events to send.
func (r *replaying) openCapture(ctx context.Context) (source, error) {
	file, err := os.Open(r.fromPath)
	if err != nil {
		return source{}, fmt.Errorf("--from: %w", err)
	}
	messages, err := r.ofCapture(ctx, file)
	var info fs.FileInfo
	if err == nil {
		info, err = file.Stat()
	}
	if err != nil {
		return source{}, errors.Join(err, file.Close())
	}
	done := func(uint64) float64 {
		at, err := file.Seek(0, io.SeekCurrent)
		if err != nil || info.Size() == 0 || r.Call != "" {
			return -1
		}
		return float64(at) / float64(info.Size())
	}
	return source{messages: messages, done: done, close: file.Close}, nil
}

// ofCapture returns the messages of a capture that are selected.
func (r *replaying) ofCapture(ctx context.Context, file *os.File) (iter.Seq2[*replay.StoredMessage, error], error) {
	if r.Call != "" {
		story, err := replay.CaptureStory(ctx, file, r.Call, time.Now())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.fromPath, err)
		}
		return r.ofStory(story, r.fromPath)
	}
	return r.orNone(func(yield func(*replay.StoredMessage, error) bool) {
		for m, err := range replay.ReadCapture(file, r.selection) {
			if err != nil {
				err = fmt.Errorf("%s: %w", r.fromPath, err)
			}
			if !yield(m, err) {
				return
			}
		}
	}), nil
}
