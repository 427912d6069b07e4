package publish

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/schemas"
)

// lettersIn returns the dead letters whose first file is at a path.
func lettersIn(path string) *deadLetters {
	return &deadLetters{dir: filepath.Dir(path), changed: func(int64) {}}
}

// A crash in the middle of a line must not spoil the next one.
func TestDeadLetters_afterATornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dead-letters.ndjson")
	if err := os.WriteFile(path, []byte(`{"time":"2026-03-01T12:00:00Z","rea`), 0o600); err != nil {
		t.Fatal(err)
	}
	d := lettersIn(path)
	defer d.close()
	for index := range uint64(2) {
		if err := d.add(index, &sample, reasonTooLarge); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var read []uint64
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var letter schemas.DeadLetter
		if json.Unmarshal(lines.Bytes(), &letter) == nil {
			read = append(read, letter.Index)
		}
	}
	if len(read) != 2 || read[0] != 0 || read[1] != 1 {
		t.Errorf("read letters %v, want 0 and 1", read)
	}
}

// A full file does not stop forwarding: another one is begun, whose bytes count
// against the journal, until the files are taken away.
func TestDeadLetters_fullFile(t *testing.T) {
	dir := t.TempDir()
	var further int64
	d := &deadLetters{dir: dir, most: 1, changed: func(bytes int64) { further = bytes }}
	defer d.close()
	add := func(index uint64) {
		t.Helper()
		if err := d.add(index, &sample, reasonTooLarge); err != nil {
			t.Fatal(err)
		}
	}
	size := func(name string) int64 {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			return 0
		}
		return info.Size()
	}
	add(1)
	if size("dead-letters.ndjson") == 0 || further != 0 {
		t.Errorf("after the first: %d bytes are further ones", further)
	}
	add(2)
	add(3)
	if want := size("dead-letters-2.ndjson") + size("dead-letters-3.ndjson"); further != want || want == 0 {
		t.Errorf("after the third: %d bytes are further ones, want %d", further, want)
	}
	if err := os.Rename(d.name(2), d.name(2)+".taken"); err != nil {
		t.Fatal(err)
	}
	add(4) // goes where there is room
	if size("dead-letters-2.ndjson") == 0 {
		t.Error("the file that was taken away was not begun again")
	}
	for n := 2; n <= 3; n++ {
		if err := os.Remove(d.name(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.measure(); err != nil || further != 0 {
		t.Errorf("after all were taken away: %d bytes are further ones, %v", further, err)
	}
}

// The name of a directory is not a pattern.
func TestDeadLetters_patternInTheDirectory(t *testing.T) {
	for _, name := range []string{"[", "[a]", "*"} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "dead-letters-2.ndjson"), []byte("{}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var bytes int64
		d := &deadLetters{dir: dir, changed: func(n int64) { bytes = n }}
		if err := d.measure(); err != nil || bytes != 3 {
			t.Errorf("%s: %d bytes, %v", name, bytes, err)
		}
	}
}

func TestDeadLetters_holdTheWholeRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dead-letters.ndjson")
	before := time.Now()
	d := lettersIn(path)
	if err := d.add(7, &sample, reasonBadSubject); err != nil {
		t.Fatal(err)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	line, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got schemas.DeadLetter
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatal(err)
	}
	if got.Time.Before(before) {
		t.Errorf("time %s", got.Time)
	}
	want := schemas.DeadLetter{
		Time: got.Time, Reason: "bad_subject", Index: 7,
		ReceivedAt: sample.receivedAt, Stream: sample.stream, Subject: sample.subject, Payload: sample.payload,
		Headers: map[string]string{"Nats-Msg-Id": "source#1", "ce-id": "1", "empty": ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A disk that is full for a while costs no letter that was written before or
// comes after.
func TestDeadLetters_afterAFailedWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dead-letters.ndjson")
	d := lettersIn(path)
	defer d.close()
	for index := range uint64(3) {
		if index == 1 { // the next write fails
			if err := d.file.Close(); err != nil {
				t.Fatal(err)
			}
		}
		err := d.add(index, &sample, reasonTooLarge)
		if failed := err != nil; failed != (index == 1) {
			t.Errorf("letter %d: %v", index, err)
		}
	}
	written, err := os.ReadFile(path)
	if err != nil || bytes.Count(written, []byte{'\n'}) != 2 {
		t.Errorf("got %s, %v", written, err)
	}
}

// TestDeadLetters_fileIsTakenAway takes the file away again and again
// while letters are written, and reads what is in it at that moment.
func TestDeadLetters_fileIsTakenAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dead-letters.ndjson")
	d := lettersIn(path)
	defer d.close()
	const n = 50
	written := make(chan struct{})
	go func() {
		defer close(written)
		for index := range uint64(n) {
			if err := d.add(index, &sample, reasonTooLarge); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	read := make(map[uint64]bool)
	take := func() {
		if os.Rename(path, path+".taken") != nil {
			return // nothing is there yet
		}
		text, err := os.ReadFile(path + ".taken")
		if err != nil {
			t.Error(err)
		}
		for line := range bytes.Lines(text) {
			var letter schemas.DeadLetter
			if json.Unmarshal(line, &letter) == nil {
				read[letter.Index] = true
			}
		}
	}
	for done := false; !done; {
		select {
		case <-written:
			done = true
		default:
		}
		take()
	}
	for index := range uint64(n) {
		if !read[index] {
			t.Errorf("letter %d was not read", index)
		}
	}
}
