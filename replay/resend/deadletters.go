package resend

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/internal/datadir"
	"github.com/acsbridge/acsbridge/internal/secretfile"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// DeadLetter is one line of the dead-letter file: a record that its stream could
// not take. The sequence of its message is the number that it had in the journal. A
// record that could not be read any more has neither subject nor data.
type DeadLetter struct {
	Message *replay.StoredMessage
	Reason  string
}

// CutOff is the reason of a letter that a bridge did not write whole. Its record was
// still in the journal, and was written again at the next start.
const CutOff = "cut_off"

// ClaimedSuffix is added to the name of a dead-letter file that is worked on. The
// bridge begins another one with its next dead letter.
const ClaimedSuffix = ".taken"

// DeadLetterFile is a dead-letter file of a bridge.
type DeadLetterFile struct {
	Path    string
	Letters []*DeadLetter // by line

	lines   [][]byte
	removed map[int]bool
}

// OpenDeadLetters reads a dead-letter file.
func OpenDeadLetters(path string) (*DeadLetterFile, error) {
	f := &DeadLetterFile{Path: path, removed: make(map[int]bool)}
	return f, f.read()
}

func (f *DeadLetterFile) read() error {
	text, err := secretfile.ReadFile(f.Path)
	if err != nil {
		return err
	}
	f.lines, f.Letters = nil, nil
	for line := range bytes.Lines(text) {
		f.lines = append(f.lines, line)
		f.Letters = append(f.Letters, parseDeadLetter(line))
	}
	return nil
}

// Claim renames the file, since the bridge appends to it at any time, and reads it
// again: letters may have been added after those that were read.
func (f *DeadLetterFile) Claim() error {
	if strings.HasSuffix(f.Path, ClaimedSuffix) {
		return nil
	}
	claimed := f.Path + ClaimedSuffix
	if _, err := os.Lstat(claimed); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s exists already; finish that first, with --dead-letters %s", claimed, claimed)
	}
	if err := os.Rename(f.Path, claimed); err != nil {
		return err
	}
	f.Path = claimed
	return f.read()
}

// Remove takes the letter of an index out of the file at once: when this process is
// killed, a second redrive must not begin from the start.
func (f *DeadLetterFile) Remove(index int) error {
	f.removed[index] = true
	var left []byte
	for i, line := range f.lines {
		if !f.removed[i] {
			left = append(left, line...)
		}
	}
	if err := datadir.ReplaceFile(f.Path, left); err != nil {
		return fmt.Errorf("remove it from %s: %w", f.Path, err)
	}
	return nil
}

// Close deletes a claimed file without letters. Left reports that a claimed file has
// some.
func (f *DeadLetterFile) Close() (left bool, err error) {
	if !strings.HasSuffix(f.Path, ClaimedSuffix) {
		return false, nil
	}
	if len(f.removed) == len(f.Letters) {
		return false, os.Remove(f.Path)
	}
	return true, nil
}

// parseDeadLetter reads one line of a dead-letter file.
func parseDeadLetter(line []byte) *DeadLetter {
	var l schemas.DeadLetter
	if json.Unmarshal(line, &l) != nil {
		return &DeadLetter{Reason: CutOff, Message: &replay.StoredMessage{Header: nats.Header{}}}
	}
	m := &replay.StoredMessage{Stream: l.Stream, Sequence: l.Index, Time: l.Time, Subject: l.Subject, Header: nats.Header{}, Data: l.Payload}
	for name, value := range l.Headers {
		m.Header.Set(name, value)
	}
	return &DeadLetter{Reason: l.Reason, Message: m}
}
