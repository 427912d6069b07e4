package publish

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/acsbridge/acsbridge/internal/datadir"
	"github.com/acsbridge/acsbridge/internal/failpoint"
	"github.com/acsbridge/acsbridge/schemas"
)

// maxDeadLetters bounds a dead-letter file in bytes. When it is full, another one is
// begun. Those count against the size of the journal, so that callbacks are refused
// before the disk is full.
const maxDeadLetters = 256 << 20

// deadLetters appends to the dead-letter files, one JSON object a line:
// dead-letters.ndjson, and when that is full dead-letters-2.ndjson and so on. They
// hold personal data: mode 0600.
type deadLetters struct {
	dir     string
	most    int64       // bytes of a file; zero means maxDeadLetters
	changed func(int64) // takes the bytes of the further files

	mu   sync.Mutex
	file *os.File // nil until the first one
}

// name returns the path of the file of that number, from 1.
func (d *deadLetters) name(n int) string {
	name := "dead-letters.ndjson"
	if n > 1 {
		name = fmt.Sprintf("dead-letters-%d.ndjson", n)
	}
	return filepath.Join(d.dir, name)
}

// path returns the file that is written to.
func (d *deadLetters) path() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file == nil {
		return d.name(1)
	}
	return d.file.Name()
}

// measure counts the bytes of the files after the first.
func (d *deadLetters) measure() error {
	names, err := fs.Glob(os.DirFS(d.dir), "dead-letters-*.ndjson")
	if err != nil {
		return err
	}
	var sum int64
	for _, name := range names {
		if info, err := os.Stat(filepath.Join(d.dir, name)); err == nil { // else it was just taken away
			sum += info.Size()
		}
	}
	d.changed(sum)
	return nil
}

// add makes one dead letter durable. Safe for concurrent use.
func (d *deadLetters) add(index uint64, r *record, reason string) error {
	letter := schemas.DeadLetter{Time: time.Now().UTC(), Reason: reason, Index: index}
	if r != nil {
		letter.ReceivedAt, letter.Stream, letter.Subject, letter.Payload = r.receivedAt, r.stream, r.subject, r.payload
		letter.Headers = make(map[string]string, len(r.headers))
		for _, h := range r.headers {
			letter.Headers[h.Name] = h.Value
		}
	}
	line, err := json.Marshal(letter)
	if err != nil {
		return fmt.Errorf("encode dead letter: %w", err)
	}
	line = append(line, '\n')
	d.mu.Lock()
	defer d.mu.Unlock()
	for n := 1; ; {
		path := d.name(n)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Size()+int64(len(line)) > cmp.Or(d.most, maxDeadLetters) && info.Size() > 0 {
			n++
			continue
		}
		if err := d.open(path); err != nil {
			return fmt.Errorf("open dead-letter file: %w", err)
		}
		if err := d.write(line); err != nil {
			return fmt.Errorf("write dead-letter file: %w", err)
		}
		failpoint.At("dead-letter-written")
		// Who took the file away meanwhile may have read it before that.
		if d.inPlace(path) {
			break
		}
	}
	return d.measure()
}

func (d *deadLetters) write(line []byte) error {
	_, err := d.file.Write(line)
	if err == nil {
		err = d.file.Sync()
	}
	if err != nil {
		err = errors.Join(err, d.file.Close())
		d.file = nil // opening it again ends a line that was cut off
	}
	return err
}

// inPlace reports whether the open file is the one at a path.
func (d *deadLetters) inPlace(path string) bool {
	if d.file == nil {
		return false
	}
	there, err := os.Stat(path)
	if err != nil {
		return false
	}
	open, err := d.file.Stat()
	return err == nil && os.SameFile(there, open)
}

// open opens the file at a path, unless that is the open one.
func (d *deadLetters) open(path string) error {
	if d.inPlace(path) {
		return nil
	}
	if d.file != nil {
		err := d.file.Close()
		if d.file = nil; err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if err := endLine(f); err != nil {
		return errors.Join(err, f.Close())
	}
	d.file = f
	datadir.SyncDir(d.dir)
	return nil
}

// endLine ends the file's last line when a crash or a full disk cut it off.
func endLine(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], info.Size()-1); err != nil {
		return err
	}
	if last[0] == '\n' {
		return nil
	}
	_, err = f.Write([]byte{'\n'})
	return err
}

func (d *deadLetters) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file == nil {
		return nil
	}
	err := d.file.Close()
	d.file = nil
	return err
}
