package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/internal/secretfile"
	"github.com/acsbridge/acsbridge/replay"
)

// letters are the dead letters of a file. Numbers are those of its lines.
type letters struct {
	std     stdio
	path    string
	text    []byte
	list    []*replay.DeadLetter
	removed map[uint64]bool

	link    *natsconn.Link // nil until something is published
	connect func(context.Context) (*replay.Redrive, *natsconn.Link, error)
	redrive *replay.Redrive
}

// takenSuffix is added to the name of a dead-letter file that is worked on. The
// bridge begins another one with its next dead letter.
const takenSuffix = ".taken"

// openLetters reads a dead-letter file.
func openLetters(s *asideSettings, std stdio) (*letters, error) {
	l := &letters{std: std, path: s.DeadLetters, removed: make(map[uint64]bool)}
	l.connect = func(ctx context.Context) (*replay.Redrive, *natsconn.Link, error) {
		reader, link, err := s.reader(ctx, std)
		if err != nil {
			return nil, nil, err
		}
		return s.redrive(reader, false), link, nil
	}
	if err := secretfile.Check(l.path); err != nil {
		return nil, fmt.Errorf("--dead-letters: %w", err)
	}
	return l, l.read()
}

func (l *letters) read() (err error) {
	if l.text, err = os.ReadFile(l.path); err != nil {
		return fmt.Errorf("--dead-letters: %w", err)
	}
	l.list = replay.ParseDeadLetters(l.text)
	return nil
}

// take takes the file away from the bridge, which appends to it at any time, and
// reads it again: letters may have come, behind those that are known.
func (l *letters) take() error {
	if strings.HasSuffix(l.path, takenSuffix) {
		return nil
	}
	taken := l.path + takenSuffix
	if _, err := os.Lstat(taken); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is there already; finish that first, with --dead-letters %s", taken, taken)
	}
	if err := os.Rename(l.path, taken); err != nil {
		return fmt.Errorf("--dead-letters: %w", err)
	}
	l.path = taken
	return l.read()
}

func (l *letters) items(context.Context) (list []item, err error) {
	for n, letter := range l.list {
		list = append(list, item{uint64(n + 1), letter.Reason, &letter.Message})
	}
	return list, nil
}

func (l *letters) publish(ctx context.Context, i item) (err error) {
	if l.redrive == nil {
		if l.redrive, l.link, err = l.connect(ctx); err != nil {
			return err
		}
	}
	m, err := l.redrive.Letter(i.message)
	if err != nil {
		return err
	}
	return l.redrive.Publish(ctx, m)
}

// remove takes a letter out of the file at once: a second redrive must not
// begin from the start when this one is killed.
func (l *letters) remove(_ context.Context, i item) error {
	l.removed[i.number] = true
	if err := replaceFile(l.path, l.left()); err != nil {
		return fmt.Errorf("take it out of %s: %w", l.path, err)
	}
	return nil
}

// left is the file without what was removed.
func (l *letters) left() []byte {
	var kept []byte
	n := uint64(0)
	for line := range bytes.Lines(l.text) {
		if n++; !l.removed[n] {
			kept = append(kept, line...)
		}
	}
	return kept
}

// close removes a file in which nothing is left, and says where the rest is.
func (l *letters) close() error {
	if l.link != nil {
		l.link.Close()
	}
	if !strings.HasSuffix(l.path, takenSuffix) {
		return nil
	}
	if len(l.removed) == len(l.list) {
		return os.Remove(l.path)
	}
	fmt.Fprintf(l.std.err, "what is left is in %s\n", l.path)
	return nil
}
