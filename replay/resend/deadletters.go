package resend

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/internal/bom"
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

// maxLetter bounds a line of a dead-letter file in bytes: a record of 264 KiB in base64,
// and its headers.
const maxLetter = 1 << 20

// DeadLetterFile is a dead-letter file of a bridge. Letters stay in the file, which can
// have 256 MiB, and their indexes stay the same while this process removes others.
type DeadLetterFile struct {
	Path string

	ends []int64 // where each line ends; a removed one ends where it begins
	left int     // lines that are not removed
	info os.FileInfo
}

var errChanged = errors.New("another process has changed the file since it was read")

// OpenDeadLetters reads a dead-letter file.
func OpenDeadLetters(path string) (*DeadLetterFile, error) {
	f := &DeadLetterFile{Path: path}
	return f, f.read()
}

// read finds the lines.
func (f *DeadLetterFile) read() error {
	file, err := secretfile.Open(f.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	if f.info, err = file.Stat(); err != nil {
		return err
	}
	text := bufio.NewReaderSize(file, 64<<10)
	mark, _ := text.Peek(4)
	if _, err := bom.Trim(mark); err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	f.ends = nil
	for at, begin := int64(0), int64(0); ; {
		part, err := text.ReadSlice('\n')
		at += int64(len(part))
		if err == nil || err == io.EOF && at > begin {
			f.ends, begin = append(f.ends, at), at
		}
		if err == io.EOF {
			f.left = len(f.ends)
			return nil
		}
		if err != nil && err != bufio.ErrBufferFull {
			return err
		}
	}
}

// open opens the file when it is the one that was read. The bridge may have added lines
// to one that is not claimed.
func (f *DeadLetterFile) open() (*os.File, error) {
	file, err := os.Open(f.Path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && (!os.SameFile(f.info, info) || f.claimed() && (info.Size() != f.info.Size() || !info.ModTime().Equal(f.info.ModTime()))) {
		err = errChanged
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func (f *DeadLetterFile) claimed() bool { return strings.HasSuffix(f.Path, ClaimedSuffix) }

// Len returns how many lines were read; their indexes begin at zero.
func (f *DeadLetterFile) Len() int { return len(f.ends) }

// line returns where a line begins and ends.
func (f *DeadLetterFile) line(index int) (begin, end int64) {
	if index > 0 {
		begin = f.ends[index-1]
	}
	return begin, f.ends[index]
}

// Letter reads the letter of an index below [DeadLetterFile.Len].
func (f *DeadLetterFile) Letter(index int) (*DeadLetter, error) {
	file, err := f.open()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	begin, end := f.line(index)
	if end-begin > maxLetter {
		return parseDeadLetter(nil), nil
	}
	line := make([]byte, end-begin)
	if _, err := file.ReadAt(line, begin); err != nil {
		return nil, err
	}
	if index == 0 {
		if line, err = bom.Trim(line); err != nil {
			return nil, err
		}
	}
	return parseDeadLetter(line), nil
}

// Claim renames the file, since the bridge appends to it at any time, and reads it
// again: letters may have been added after those that were read. It is safe beside a
// running bridge, which looks after each write whether its file is still in place, and
// writes the letter again when it is not.
func (f *DeadLetterFile) Claim() error {
	if f.claimed() {
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

// Remove takes the letter of an index out of a claimed file at once: when this process is
// killed, a second redrive must not begin from the start.
func (f *DeadLetterFile) Remove(index int) error {
	begin, end := f.line(index)
	err := datadir.RewriteFile(f.Path, func(w io.Writer) error {
		file, err := f.open()
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(w, io.MultiReader(io.NewSectionReader(file, 0, begin), io.NewSectionReader(file, end, f.info.Size()-end)))
		return err
	})
	if err == nil {
		f.info, err = os.Stat(f.Path)
	}
	if err != nil {
		return fmt.Errorf("remove it from %s: %w", f.Path, err)
	}
	if end > begin {
		f.left--
	}
	for i := index; i < len(f.ends); i++ {
		f.ends[i] -= end - begin
	}
	return nil
}

// Close deletes a claimed file without letters. Left reports that a claimed file has
// some.
func (f *DeadLetterFile) Close() (left bool, err error) {
	switch {
	case !f.claimed():
		return false, nil
	case f.left > 0:
		return true, nil
	}
	file, err := f.open()
	if err != nil {
		return false, err
	}
	file.Close()
	return false, os.Remove(f.Path)
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
